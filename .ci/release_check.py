"""Builds all distributions, checks what was built, and installs and runs it in new environments.

    python .ci/release_check.py <folder> [<distribution> ...]

The folder receives the wheels and source distributions. Each distribution is installed alone, and all are installed together with
their optional dependencies; both with the lowest and with the newest versions of the dependencies that the metadata allow. The
version of torch is the one in constraints.txt. With names of distributions, only these are installed, each alone.
"""

import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_string
from email.message import Message
from pathlib import Path
from typing import NamedTuple

from distributions import ROOT, Distribution, distributions
from install import CONSTRAINTS, shared_folder
from packaging.requirements import Requirement
from packaging.version import Version

ALL = "all distributions"
NOT_PINNED = {"glowplug", "torch"}
TORCH = re.findall(r"^torch==.*$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)[0]
URLS = {"Homepage", "Documentation", "Source", "Changelog", "Issues"}
RELATIVE_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)\s]+)")


class Wheel(NamedTuple):
    """A wheel of a distribution, with its metadata."""

    distribution: Distribution
    path: Path
    metadata: Message

    @property
    def version(self) -> str:
        """The version that the source states."""
        text = self.distribution.version_file.read_text(encoding="utf-8")
        return re.findall(r'__version__ = "(.+)"', text)[0]

    @property
    def requirements(self) -> list[Requirement]:
        """The requirements, including those of the optional dependencies."""
        return [Requirement(text) for text in self.metadata.get_all("Requires-Dist", [])]

    @property
    def extras(self) -> list[str]:
        """The names of the optional dependencies."""
        return self.metadata.get_all("Provides-Extra", [])


def main(folder: str, *names: str) -> None:
    """Build, check, install and run."""
    output = Path(folder).resolve()
    wheels = build(output, distributions())
    run(sys.executable, "-m", "twine", "check", "--strict", *sorted(map(str, output.iterdir())))
    problems = [problem for wheel in wheels for check in CHECKS for problem in check(wheel)]
    if problems:
        raise SystemExit("\n".join(problems))
    core, *plugins = wheels
    groups = {core.distribution.name: [core], **{wheel.distribution.name: [core, wheel] for wheel in plugins}}
    # The largest environment first, so that two at a time end together.
    groups = {name: groups[name] for name in names} if names else {ALL: wheels, **groups}
    jobs = [(name, group, False) for name, group in groups.items()]
    # A plugin that requires nothing but the core has the lowest versions of the core.
    jobs += [(name, group, True) for name, group in groups.items() if name == ALL or needed(group[-1])]
    shared_folder("torch", "torch")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = [failure for failure in pool.map(lambda job: failure_of(*job), jobs) if failure]
    if failures:
        raise SystemExit("\n\n".join(failures))


def build(folder: Path, sources: Iterable[Distribution]) -> list[Wheel]:
    """Build distributions, and return their wheels."""
    wheels = []
    for distribution in sources:
        command = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(distribution.folder)]
        run(sys.executable, *command)
        (path,) = folder.glob(f"{distribution.package}-*.whl")
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            wheels.append(Wheel(distribution, path, message_from_string(archive.read(name).decode())))
    return wheels


def problems_of_metadata(wheel: Wheel) -> Iterator[str]:
    """Yield what is wrong with the metadata of a wheel."""
    metadata, name = wheel.metadata, wheel.path.name
    expected = {
        "Name": wheel.distribution.name,
        "Version": wheel.version,
        "License-Expression": "BSD-3-Clause",
        "License-File": "LICENSE",
        "Requires-Python": ">=3.10",
        "Description-Content-Type": "text/markdown",
    }
    for field, value in expected.items():
        if metadata[field] != value:
            yield f"{name}: {field} must be {value!r}; got {metadata[field]!r}"
    urls = {text.partition(",")[0] for text in metadata.get_all("Project-URL", [])}
    if urls != URLS:
        yield f"{name}: [project.urls] must be {sorted(URLS)}; got {sorted(urls)}"
    for link in RELATIVE_LINK.findall(metadata.get_payload()):
        yield f"{name}: the package index cannot follow the relative link {link!r} of the README"
    for requirement in wheel.requirements:
        if lower_bound(requirement) is None:
            yield f"{name}: the requirement {requirement} has no lower bound"


def problems_of_files(wheel: Wheel) -> Iterator[str]:
    """Yield what is missing in a wheel and in the source distribution beside it."""
    package = wheel.distribution.package
    with zipfile.ZipFile(wheel.path) as archive:
        files = set(archive.namelist())
        entry_points = "".join(
            archive.read(name).decode() for name in files if name.endswith("entry_points.txt")
        )
    modules = re.findall(r"= ([\w.]+)", entry_points)
    if not modules:
        yield f"{wheel.path.name}: it has no entry point"
    for module in modules:
        if not {f"{module.replace('.', '/')}{end}" for end in (".py", "/__init__.py")} & files:
            yield f"{wheel.path.name}: the module {module} of an entry point is missing"
    if f"{package}/py.typed" not in files:
        yield f"{wheel.path.name}: py.typed is missing"
    source = wheel.path.with_name(f"{package}-{wheel.version}.tar.gz")
    with tarfile.open(source) as archive:
        files = set(archive.getnames())
    for name in ("LICENSE", "README.md", "pyproject.toml", f"src/{package}/_version.py"):
        if f"{package}-{wheel.version}/{name}" not in files:
            yield f"{source.name}: {name} is missing"


CHECKS = (problems_of_metadata, problems_of_files)


def lower_bound(requirement: Requirement) -> Version | None:
    """Return the lowest version that a requirement allows."""
    bounds = [Version(each.version) for each in requirement.specifier if each.operator in {">=", "=="}]
    return max(bounds, default=None)


def needed(wheel: Wheel, *, extras: bool = False) -> list[Requirement]:
    """Return what a wheel requires besides the core and torch, and on request for its optional dependencies."""
    return [
        each for each in wheel.requirements if each.name not in NOT_PINNED and (extras or not each.marker)
    ]


def lowest_versions(folder: Path, name: str, wheels: list[Wheel]) -> Path:
    """Write a file of constraints with the lowest versions of what wheels require, and return its path.

    A distribution that is alone gets exactly its lower bounds. A requirement of another wheel gets the lowest version that is
    compatible with them; what nothing requires directly is the newest. Only versions with wheels count, because a user cannot be
    expected to compile a dependency.
    """
    allowed = [each for wheel in wheels for each in needed(wheel, extras=name == ALL)]
    lines = [TORCH, *(f"{each.name}{each.specifier}" for each in allowed)]
    if name != ALL:
        lines += [f"{each.name}=={lower_bound(each)}" for each in needed(wheels[-1])]
    requirements, constraints = folder / "requirements.in", folder / "constraints.txt"
    requirements.write_text("\n".join(lines), encoding="utf-8")
    # Only to resolve: pip has no such mode.
    uv = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python", sys.executable]
    uv += ["--only-binary", ":all:", "--resolution", "lowest-direct", "--no-header", "--no-annotate"]
    run(*uv, "--output-file", str(constraints), str(requirements))
    return constraints


def failure_of(name: str, wheels: list[Wheel], lowest: bool) -> str:
    """Install wheels in a new environment and run the smoke test; return what failed."""
    title = f"{name}, {'lowest' if lowest else 'newest'} dependencies"
    # Alone, a distribution must work without its optional dependencies.
    extras = [f"[{','.join(wheel.extras)}]" if name == ALL and wheel.extras else "" for wheel in wheels]
    targets = [f"{wheel.path}{extra}" for wheel, extra in zip(wheels, extras, strict=True)]
    failure = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = new_environment(Path(folder))
            constraints = ["-c", str(lowest_versions(Path(folder), name, wheels))] if lowest else []
            install(python, *targets, *constraints)
            smoke(python, wheels[0].version)
        except SystemExit as error:
            failure = f"{title}: {error}"
    print(f"{'FAILED' if failure else 'ok':6}  {title}", flush=True)
    return failure


def new_environment(folder: Path) -> Path:
    """Create an environment that shares torch in a folder, and return its interpreter."""
    run(sys.executable, "-m", "venv", "--without-pip", str(folder / "env"))
    (packages,) = folder.glob("env/lib/python*/site-packages")
    (packages / "torch.pth").write_text(f"{shared_folder('torch', 'torch')}\n")
    return folder / "env" / "bin" / "python"


def install(python: Path, *arguments: str, **variables: str) -> None:
    """Install packages into an environment; the version of torch is the shared one."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"]
    run(*pip, TORCH, *arguments, **variables)


def smoke(python: Path, version: str) -> None:
    """Run the smoke test in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        run(str(python), "-I", str(ROOT / ".ci" / "smoke.py"), version, folder=folder)


def run(*command: str, folder: str | Path = ROOT, **variables: str) -> None:
    """Run a command, and raise with its output if it fails."""
    ended = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{ended.stdout}")


if __name__ == "__main__":
    main(*sys.argv[1:])
