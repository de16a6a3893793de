"""Fixtures for the tests of all distributions; this module imports only pytest, hypothesis and the standard library."""

import contextlib
import gc
import inspect
import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

with contextlib.suppress(ImportError):
    # Some environments do not have hypothesis. A busy machine is not a fault of a test.
    from hypothesis import HealthCheck, settings

    settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("shared machine")

# Importing torch in each process can take long on a busy machine. If the processes hang, GLOO_LIMIT ends them much earlier.
RANKS_LIMIT = 120
GLOO_LIMIT = 30

RANK_SCRIPT = """\
import datetime, json, sys
import torch.distributed as dist

rank, size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
limit = datetime.timedelta(seconds={limit})
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=size, timeout=limit)

{source}
print("RESULT " + json.dumps({name}(rank)))
dist.destroy_process_group()
"""


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory, monkeypatch):
    """Keep undelivered records out of the user's state folder, and return the folder that is used instead."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("GLOWPLUG_HOME", str(folder))
    return folder


@pytest.fixture
def run_ranks(tmp_path):
    """Run a self-contained function ``f(rank)`` in real gloo processes; return its results, which JSON must support."""

    def run(function, size=2):
        source = textwrap.dedent(inspect.getsource(function))
        script = tmp_path / "ranks.py"
        script.write_text(RANK_SCRIPT.format(limit=GLOO_LIMIT, source=source, name=function.__name__))
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        store = tmp_path / f"store{len(list(tmp_path.iterdir()))}"
        processes = [
            subprocess.Popen(
                [sys.executable, str(script), str(rank), str(size), str(store)],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        deadline = time.monotonic() + RANKS_LIMIT
        try:
            ended = [
                process.communicate(timeout=max(1, deadline - time.monotonic())) for process in processes
            ]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        for process, (_, errors) in zip(processes, ended, strict=True):
            assert process.returncode == 0, errors
        lines = [line for out, _ in ended for line in out.splitlines() if line.startswith("RESULT ")]
        return [json.loads(line.removeprefix("RESULT ")) for line in lines]

    return run


@pytest.fixture
def no_gc():
    """Disable the garbage collector, so that an object is freed only when its reference count is 0."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
