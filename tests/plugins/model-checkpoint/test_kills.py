"""Tests of checkpoints under SIGKILL (C1).

Each test run has a short campaign of kill_campaign.py; GLOWPLUG_CAMPAIGN=1 adds a long one.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

CAMPAIGN = Path(__file__).with_name("kill_campaign.py")


def run_campaign(folder, *options, limit, temporary=None):
    """Run the script in a subprocess and return its counts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary or folder)}
    result = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--folder", str(folder), *map(str, options)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def assert_promise(found):
    """Assert that no file is incomplete or lost, one always loads, and leftovers are removed."""
    assert {key: found[key] for key in ("torn", "empty", "lost", "unswept")} == {
        "torn": 0,
        "empty": 0,
        "lost": 0,
        "unswept": 0,
    }, found


def test_60_kills(tmp_path):
    """60 kills, most of them during a save, lose or damage no checkpoint (C1)."""
    found = run_campaign(tmp_path, "--kills", 60, limit=120)
    assert_promise(found)
    assert found["kills"] == 60
    assert found["in a save"] >= 15, "too few kills during a save; choose other delays"


@pytest.mark.parametrize(
    ("variant", "megabytes", "noticed"), [("in-place", 32, "torn"), ("deletes-first", 2, "lost")]
)
def test_campaign_detects_broken_savers(tmp_path, variant, megabytes, noticed):
    """The campaign detects a saver that writes in place and one that removes first (C1)."""
    found = run_campaign(
        tmp_path,
        "--kills",
        15,
        "--variant",
        variant,
        "--state-megabytes",
        megabytes,
        "--max-delay",
        0.1,
        limit=120,
    )
    assert found[noticed] > 0


@pytest.mark.skipif(os.environ.get("GLOWPLUG_CAMPAIGN") != "1", reason="long: set GLOWPLUG_CAMPAIGN=1")
@pytest.mark.parametrize("temporary", ["beside", "elsewhere"])
def test_1000_kills(tmp_path, temporary):
    """1000 kills, half of them with TMPDIR on another file system, lose or damage no checkpoint (C1)."""
    elsewhere = Path("/dev/shm") if temporary == "elsewhere" else None
    if elsewhere is not None and (
        not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev
    ):
        pytest.skip("needs /dev/shm on another file system")
    found = run_campaign(tmp_path, "--kills", 500, "--seed", 7, limit=1200, temporary=elsewhere)
    print(json.dumps(found))
    assert_promise(found)
