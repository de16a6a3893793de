"""Prepares a release: states the version of all distributions and writes the changelog.

    python .ci/release.py 0.2.0

All distributions have the same version, and a plugin requires a core that is at least as new as the plugin.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from distributions import ROOT, distributions
from packaging.version import InvalidVersion, Version

VERSION = re.compile(r'(?<=__version__ = ")[^"]+')
CORE = re.compile(r'(?<="glowplug)>=[^"]+')


def main(text: str) -> None:
    """Change the files of the workspace."""
    version = checked_version(text)
    # Public names stay compatible until the next major version; 0.x and 1.x count as one.
    core = f">={version},<{max(version.major, 1) + 1}"
    for distribution in distributions():
        substitute(distribution.version_file, VERSION, str(version))
        if distribution.name != "glowplug":
            substitute(distribution.folder / "pyproject.toml", CORE, core)
    subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", "--version", str(version)], cwd=ROOT, check=True
    )


def checked_version(text: str) -> Version:
    """Return the version, unless it is older than the current one or in another spelling than PEP 440's normal form."""
    current = Version(VERSION.findall(distributions()[0].version_file.read_text(encoding="utf-8"))[0])
    try:
        version = Version(text)
    except InvalidVersion:
        version = None
    if version is None or str(version) != text or version < current:
        raise SystemExit(
            f"the version must look like 0.2.0 or 0.2.0rc1 and be at least {current}; got {text!r}"
        )
    return version


def substitute(path: Path, pattern: re.Pattern[str], replacement: str) -> None:
    """Replace the only match of a pattern in a file."""
    text, count = pattern.subn(replacement, path.read_text(encoding="utf-8"))
    if count != 1:
        raise SystemExit(f"{path} must match {pattern.pattern} once; it matches {count} times")
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", help="the new version, such as 0.2.0")
    main(parser.parse_args().version)
