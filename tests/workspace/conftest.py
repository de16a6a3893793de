"""Fixtures that install generated wheels with pip."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from forkserver import preload

# What the example scripts import.
preload(
    "matplotlib.pyplot",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.model_selection",
    "sklearn.datasets",
)
SETTINGS = (
    "GLOWPLUG_PLUGINS",
    "GLOWPLUG_DISABLED_PLUGINS",
    "GLOWPLUG_STRICT_PLUGINS",
    "GLOWPLUG_TRACE_PLUGINS",
)


class Wheelhouse:
    """A folder of wheels, and a folder into which pip installs them."""

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "wheels"
        self.site = folder / "site"
        self.wheels.mkdir()

    def add(
        self,
        distribution,
        source,
        *,
        name=None,
        version="1.0",
        requires=("glowplug>=0.1,<2",),
        handler="",
        init="",
    ):
        """Make a wheel of a plugin with three modules: the plugin module, ``handler`` for the targets, and ``__init__``."""
        package = distribution.replace("-", "_")
        info = f"{package}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        files = {
            f"{package}/__init__.py": init,
            f"{package}/_plugin.py": source,
            f"{package}/handler.py": handler,
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": f"[glowplug]\n{name or distribution} = {package}._plugin\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        with zipfile.ZipFile(self.wheels / f"{package}-{version}-py3-none-any.whl", "w") as wheel:
            for path, text in files.items():
                wheel.writestr(path, text)

    def install(self):
        """Install every wheel with pip without compiling it, because some wheels contain syntax errors."""
        pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-compile", "--quiet"]
        pip += ["--disable-pip-version-check", "--target", str(self.site)]
        subprocess.run([*pip, *map(str, sorted(self.wheels.iterdir()))], check=True, timeout=300)

    def run(self, *arguments, **settings):
        """Run this interpreter in a subprocess that can import the installed wheels."""
        environment = {key: value for key, value in os.environ.items() if key not in SETTINGS}
        environment |= {"PYTHONPATH": str(self.site), **settings}
        return subprocess.run(
            [sys.executable, *arguments],
            env=environment,
            cwd=self.wheels,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory):
    """An empty wheelhouse for the tests of one file."""
    return Wheelhouse(tmp_path_factory.mktemp("wheelhouse"))


@pytest.fixture(scope="module")
def new_python(tmp_path_factory):
    """Return the interpreter of a new environment in which the packages of the current environment can be imported."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    own = sysconfig.get_paths("venv", vars={"base": str(folder)})
    running = sysconfig.get_paths()["purelib"]
    Path(own["purelib"], "running.pth").write_text(f"import site; site.addsitedir({running!r})\n")
    return Path(own["scripts"], "python")
