"""C1 under SIGKILL: the campaign of kill_campaign.py, short in each run of the tests and long on demand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

CAMPAIGN = Path(__file__).with_name("kill_campaign.py")


def run_campaign(folder, *options, limit, temporary=None):
    """Run the script in a process of its own, and return what it counted."""
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
    """Nothing torn, nothing lost, always something to load, all swept."""
    assert {key: found[key] for key in ("torn", "empty", "lost", "unswept")} == {
        "torn": 0,
        "empty": 0,
        "lost": 0,
        "unswept": 0,
    }, found


def test_C1_60_kills(tmp_path):
    """60 kills, most of them in the middle of a save, harm nothing."""
    found = run_campaign(tmp_path, "--kills", 60, limit=120)
    assert_promise(found)
    assert found["kills"] == 60
    assert found["in a save"] >= 15, "the kills miss the saves; choose other delays"


@pytest.mark.parametrize(
    ("variant", "megabytes", "noticed"), [("in-place", 32, "torn"), ("deletes-first", 2, "lost")]
)
def test_C1_the_campaign_notices_a_broken_saver(tmp_path, variant, megabytes, noticed):
    """A saver that writes in place is found torn, and one that deletes first is found to lose what it acknowledged."""
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
def test_C1_1000_kills(tmp_path, temporary):
    """2 x 500 kills, half of them with TMPDIR on another file system."""
    elsewhere = Path("/dev/shm") if temporary == "elsewhere" else None
    if elsewhere is not None and (
        not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev
    ):
        pytest.skip("there is no other file system here")
    found = run_campaign(tmp_path, "--kills", 500, "--seed", 7, limit=1200, temporary=elsewhere)
    print(json.dumps(found))
    assert_promise(found)
