"""docs/reference/testing-kit.md: its tables list all checks and its code runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from glowplug_testing import check_lists

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "testing-kit.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("contract", ["Handler", "Logger", "Metric", "SaveHandler"])
def test_tables_are_the_checks(contract):
    """The table of a contract lists its checks and their purposes."""
    checks = getattr(check_lists, f"{re.sub('(?<=e)H', '_H', contract).upper()}_CHECKS")
    section = re.search(rf"^### {contract}Contract\n(.*?)(?=^###|\Z)", TEXT, re.DOTALL | re.MULTILINE)[1]
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE)
    assert rows == [(check.name, check.purpose) for check in checks]


def test_the_first_logger_passes(tmp_path):
    """The first example of the page passes with warnings as errors."""
    (tmp_path / "test_acme_logger.py").write_text(BLOCKS[0])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "."],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert re.search(r"\d\d passed, \d skipped in", done.stdout)


@pytest.mark.parametrize("block", BLOCKS[1:], ids=range(1, len(BLOCKS)))
def test_code_runs(block):
    """Each other example runs without changes."""
    exec(compile(block, str(PAGE), "exec"), {"__name__": "page"})
