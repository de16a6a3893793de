"""The distributions of the workspace."""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Distribution(NamedTuple):
    """A distribution and its folder."""

    name: str
    folder: Path

    @property
    def package(self) -> str:
        """The import package."""
        return self.name.replace("-", "_")

    @property
    def version_file(self) -> Path:
        """The module that states the version."""
        return self.folder / "src" / self.package / "_version.py"


def distributions(root: Path = ROOT) -> list[Distribution]:
    """Return the core and all plugins of a workspace."""
    plugins = sorted((root / "plugins").glob("glowplug-*"))
    return [Distribution("glowplug", root / "core"), *(Distribution(path.name, path) for path in plugins)]
