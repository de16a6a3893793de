"""Fixtures that start scripts in several processes, as users do, and leave no process behind.

For the environment variables, see ``campaign.py``.
"""

import pytest
from campaign import count, moments, seed  # noqa: F401 - fixtures
from launched_job import LaunchedJob

# How often a connection of the ranks is tried.
ATTEMPTS = 4


@pytest.fixture(scope="module")
def start():
    """Start a Python command: ``start(folder, *command, **environment)`` returns the job, which is killed after the tests."""
    jobs = []

    def start(folder, *command, **environment):
        jobs.append(LaunchedJob(folder, command, environment))
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()


@pytest.fixture(scope="module")
def run(start):
    """Run a Python command to its end: ``run(folder, *command, **environment)`` returns what it has printed."""

    def run(folder, *command, **environment):
        for _ in range(ATTEMPTS):
            code, output = start(folder, *command, **environment).end()
            # gloo sometimes refuses to connect ranks on a busy machine. The script has not trained then.
            if "connectFullMesh failed" not in output:
                break
        assert code == 0, output
        return output

    return run
