"""Releases the last commit to a package index on this machine, and installs the release from there.

    python .ci/rehearse_release.py 0.2.0

The release takes place in a clone of the repository, which is deleted afterwards.
"""

import contextlib
import functools
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from distributions import ROOT, distributions
from release_check import NOT_PINNED, Wheel, build, install, new_environment, run, smoke


def main(version: str) -> None:
    """Release, install, and check the versions and the changelog."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clone = folder / "clone"
        run("git", "clone", "--quiet", str(ROOT), str(clone))
        run(sys.executable, str(clone / ".ci" / "release.py"), version)
        wheels = build(folder / "dist", distributions(clone))
        assert [wheel.metadata["Version"] for wheel in wheels] == [version] * len(wheels)
        python = new_environment(folder)
        # Only glowplug comes from the new index, and nothing else does.
        requirements = [requirement for wheel in wheels for requirement in wheel.requirements]
        install(python, *sorted({str(each) for each in requirements if each.name not in NOT_PINNED}))
        with served(indexed(folder / "index", wheels)) as address:
            names = [wheel.distribution.name for wheel in wheels]
            without_settings = {
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_FIND_LINKS": "",
                "PIP_EXTRA_INDEX_URL": "",
            }
            install(python, "--index-url", address, *names, **without_settings)
        smoke(python, version)
        print(new_part(clone / "CHANGELOG.md", version))
        print(f"installed {len(wheels)} distributions of version {version} from {address}")


def indexed(folder: Path, wheels: Iterable[Wheel]) -> Path:
    """Write the pages of a package index, a folder for each distribution, and return the folder of all."""
    for wheel in wheels:
        project = folder / wheel.distribution.name
        project.mkdir(parents=True)
        files = [
            wheel.path,
            wheel.path.with_name(f"{wheel.distribution.package}-{wheel.metadata['Version']}.tar.gz"),
        ]
        for path in files:
            shutil.copy(path, project)
        links = "".join(f'<a href="{path.name}">{path.name}</a>\n' for path in files)
        (project / "index.html").write_text(f"<!DOCTYPE html>\n{links}", encoding="utf-8")
    return folder


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on 127.0.0.1, and yield the address."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def new_part(changelog: Path, version: str) -> str:
    """Return the headings of a version in the changelog, and the number of changes below each."""
    text = changelog.read_text(encoding="utf-8")
    title, *sections = re.split(
        r"^### ", text.partition(f"\n## {version} (")[2].partition("\n## ")[0], flags=re.MULTILINE
    )
    assert sections, f"the changelog has no section of version {version}: {title!r}"
    counts = [f"{section.splitlines()[0]}: {section.count(chr(10) + '- ')} changes" for section in sections]
    return "\n".join(counts)


if __name__ == "__main__":
    main(*sys.argv[1:])
