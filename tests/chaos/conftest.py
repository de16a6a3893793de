"""Fixtures of the chaos test; for the environment variables, see ``campaign.py``."""

import pytest
from campaign import count, moments, report, seed  # noqa: F401 - fixtures
from forked_jobs import Jobs
from mlflow_server import Server
from small_disk import SmallDisk

# What the ranks import; DistributedDataParallel imports torch._dynamo, which takes seconds.
MODULES = ("digits_ranks", "torch._dynamo")


@pytest.fixture
def small_disk(tmp_path):
    """A small disk for the ranks, or ``None`` if this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    return SmallDisk(folder, "16m") if SmallDisk.is_available(folder) else None


@pytest.fixture
def jobs(small_disk):
    """The process that forks the ranks, and a third job that looks what they have left."""
    jobs = Jobs(3, MODULES, small_disk.command if small_disk else ())
    yield jobs
    jobs.stop()


@pytest.fixture
def server(tmp_path):
    """A server that the test may kill and start again."""
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder)
    yield server.start()
    server.kill()
