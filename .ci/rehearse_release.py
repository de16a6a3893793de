"""Releases the last commit to a package index on this machine, and installs the release from there.

    python .ci/rehearse_release.py 0.2.0

The release takes place in a clone of the repository, which is deleted afterwards.
"""

import argparse
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

import tomllib
from distributions import ROOT, distributions
from packaging.version import Version
from release_check import NOT_PINNED, Wheel, build, install, lower_bound, new_environment, run, smoke

# A line of a list in the changelog, with its continuation lines.
CHANGE = re.compile(r"^- (.+(?:\n  .+)*)", re.MULTILINE)


def main(version: str) -> None:
    """Release, install, and check the changelog, the versions and the requirements."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clone = folder / "clone"
        run("git", "clone", "--quiet", str(ROOT), str(clone))
        changes = waiting_changes(clone)
        release(clone, version)
        assert released_changes(clone, version) == changes, "the changelog differs from the fragments"
        wheels = build(folder / "dist", distributions(clone))
        check_versions(wheels, version)
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
        for section, texts in changes.items():
            print(f"{section}: {len(texts)} changes")
        print(f"installed {len(wheels)} distributions of version {version} from {address}")


def release(clone: Path, version: str) -> None:
    """Change, commit and tag a clone as RELEASING.md says."""
    run(sys.executable, str(clone / ".ci" / "release.py"), version)
    title = f"Release {version}"
    git = ("git", "-C", str(clone), "-c", "user.name=Rehearsal", "-c", "user.email=rehearsal@localhost")
    run(*git, "commit", "--quiet", "--all", "--message", title)
    run(*git, "tag", "--annotate", f"v{version}", "--message", title)


def waiting_changes(clone: Path) -> dict[str, list[str]]:
    """Map the title of each section of the changelog to the texts of the fragments that wait for it."""
    settings = tomllib.loads((clone / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    texts = {
        section["name"]: sorted(
            one_line(path.read_text(encoding="utf-8"))
            for path in (clone / settings["directory"] / section["path"]).glob("*.md")
        )
        for section in settings["section"]
    }
    return {title: found for title, found in texts.items() if found}


def released_changes(clone: Path, version: str) -> dict[str, list[str]]:
    """Map the title of each section of a version to the texts of its changes, once no fragment is left."""
    assert not waiting_changes(clone), "fragments are left"
    changelog = (clone / "CHANGELOG.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## ", changelog, flags=re.MULTILINE)
    (part,) = (part for part in parts if part.startswith(f"{version} ("))
    _, *sections = re.split(r"^### ", part, flags=re.MULTILINE)
    return {section.splitlines()[0]: sorted(map(one_line, CHANGE.findall(section))) for section in sections}


def one_line(text: str) -> str:
    """Return a text without its line breaks."""
    return " ".join(text.split())


def check_versions(wheels: Iterable[Wheel], version: str) -> None:
    """Check that each distribution has the version, and that each plugin requires a core that is as new."""
    core, *plugins = wheels
    assert {wheel.metadata["Version"] for wheel in (core, *plugins)} == {version}
    for plugin in plugins:
        (required,) = (each for each in plugin.requirements if each.name == core.distribution.name)
        assert lower_bound(required) == Version(version), f"{plugin.path.name} requires {required}"


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("version", help="the new version, such as 0.2.0")
    main(parser.parse_args().version)
