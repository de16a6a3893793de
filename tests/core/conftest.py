"""Installed distributions for the tests of the core, written without pip."""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MISSING = [name for name in ("torch", "numpy") if importlib.util.find_spec(name) is None]
ABOUT_TORCH = {
    "distributed",
    "metrics",
    "supervised",
    "test_exact_resume.py",
    "test_rank_failures.py",
    "test_votes.py",
}
SETTINGS = (
    "GLOWPLUG_PLUGINS",
    "GLOWPLUG_DISABLED_PLUGINS",
    "GLOWPLUG_STRICT_PLUGINS",
    "GLOWPLUG_TRACE_PLUGINS",
)


def pytest_ignore_collect(collection_path):
    """Skip files that need torch or numpy where these are not installed."""
    if "torch" in MISSING and collection_path.name in ABOUT_TORCH:
        return True
    if MISSING and collection_path.suffix == ".py" and collection_path.name != "conftest.py":
        pattern = rf"^(import|from) ({'|'.join(MISSING)})\b"
        if re.search(pattern, collection_path.read_text(), re.MULTILINE):
            return True
    return None


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        distribution,
        source="GLOWPLUG_API = 1\n",
        *,
        name=None,
        version="1.0",
        requires=("glowplug",),
        value=None,
        files=None,
    ):
        """Install a plugin with the given source of its plugin module."""
        package = distribution.replace("-", "_")
        info = self.folder / f"{package}-{version}.dist-info"
        contents = {
            f"{package}/__init__.py": "",
            f"{package}/_plugin.py": source,
            **{f"{package}/{path}": text for path, text in (files or {}).items()},
            f"{info.name}/METADATA": "\n".join(
                [
                    "Metadata-Version: 2.1",
                    f"Name: {distribution}",
                    f"Version: {version}",
                    *(f"Requires-Dist: {requirement}" for requirement in requires),
                    "",
                ]
            ),
            f"{info.name}/entry_points.txt": f"[glowplug]\n{name or distribution} = {value or f'{package}._plugin'}\n",
        }
        for path, text in contents.items():
            target = self.folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in contents))
        return info

    def add_handler(self, distribution, handler="Shout", **options):
        """Install a plugin that offers one working handler."""
        package = distribution.replace("-", "_")
        source = (
            "from glowplug.hookspecs import Offer, hookimpl\n"
            "GLOWPLUG_API = 1\n"
            "@hookimpl\n"
            "def glowplug_offers():\n"
            f"    return [Offer(name={handler!r}, target='{package}.handler:{handler}', summary='Prints.')]\n"
        )
        code = (
            f"class {handler}:\n"
            "    def __init__(self, volume=1, pitch=2): self.volume = volume\n"
            "    def attach(self, engine): return None\n"
        )
        return self.add(distribution, source, files={"handler.py": code}, **options)

    def entry_points(self):
        """Return the entry points of the folder's distributions, in reverse order."""
        found = importlib.metadata.distributions(path=[str(self.folder)])
        return [entry_point for distribution in found for entry_point in distribution.entry_points][::-1]

    def run(self, *arguments, **settings):
        """Run Python in a subprocess with the folder first on its path."""
        environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
        environment |= {"PYTHONPATH": str(self.folder), "GLOWPLUG_DISABLED_PLUGINS": "glowplug-*", **settings}
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Yield a folder of distributions that this process can import."""
    for setting in SETTINGS:
        monkeypatch.delenv(setting, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Site(tmp_path)
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]
