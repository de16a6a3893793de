"""Fixtures of tests that have small counts in CI and full counts in a campaign.

Environment variables:

- GLOWPLUG_CAMPAIGN: 1 for the full counts, or a fraction such as 0.2 for a part of them;
- GLOWPLUG_SEED: seed of the random moments, which a failing test shows;
- GLOWPLUG_FIGURES: file to which the figures of each test are appended, as JSON.
"""

import json
import os
import random
import secrets
from pathlib import Path

import pytest

SHARE = float(os.environ.get("GLOWPLUG_CAMPAIGN", "0"))


@pytest.fixture(scope="session")
def count():
    """Return the function that selects the number for CI or for a campaign."""
    return lambda in_ci, in_campaign: max(in_ci, round(SHARE * in_campaign))


@pytest.fixture
def is_campaign():
    """Whether this is a campaign, which runs alone on its machine."""
    return SHARE > 0


@pytest.fixture
def seed():
    """The seed of the random moments; a failing test shows it."""
    value = int(os.environ.get("GLOWPLUG_SEED") or secrets.randbelow(1_000_000))
    print(f"repeat with GLOWPLUG_SEED={value}")
    return value


@pytest.fixture
def moments(seed):
    """Return a function that returns the random generator of an item of the test."""
    return lambda *item: random.Random(f"{seed} {item}")


@pytest.fixture
def report(request, seed):
    """Return a function that reports figures of a test: printed, and appended to the file GLOWPLUG_FIGURES."""

    def write(**figures):
        line = json.dumps({"test": request.node.name, "seed": seed, **figures})
        print(line)
        if path := os.environ.get("GLOWPLUG_FIGURES"):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    return write
