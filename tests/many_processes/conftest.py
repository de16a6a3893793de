"""Fixtures that start scripts in several processes, as users do, and leave no process behind.

Environment variables:

- GLOWPLUG_CAMPAIGN: 1 for the full counts, or a fraction such as 0.2 for a part of them;
- GLOWPLUG_SEED: seed of the random moments, which a failing test shows.
"""

import os
import random
import secrets

import pytest
from launched_job import LaunchedJob

SHARE = float(os.environ.get("GLOWPLUG_CAMPAIGN", "0"))
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


@pytest.fixture(scope="module")
def count():
    """Return the function that selects the number for CI or for a campaign."""
    return lambda in_ci, in_campaign: max(in_ci, round(SHARE * in_campaign))


@pytest.fixture
def moments():
    """The generator of the random moments; a failing test shows its seed."""
    seed = int(os.environ.get("GLOWPLUG_SEED") or secrets.randbelow(1_000_000))
    print(f"repeat with GLOWPLUG_SEED={seed}")
    return random.Random(seed)
