"""Blocked plugins of distributions installed with pip."""

import pytest

# Each module of the plugin leaves a file behind when it is imported.
CANARY = "import os, pathlib\npathlib.Path(os.environ['CANARY'], __name__).touch()\n"
PLUGIN = (
    f"{CANARY}from glowplug.hookspecs import Finding, Offer\nGLOWPLUG_API = 1\n"
    "def glowplug_offers(): return [Offer(name='Shout', target='acme_noise.handler:Shout')]\n"
    "def glowplug_doctor(): return [Finding('throat', 'ok')]\n"
)
MODULES = ["acme_noise", "acme_noise._plugin", "acme_noise.handler"]

# Does in one process everything that a user may do; the glowplug commands start subprocesses.
SCRIPT = """
import contextlib, io
from glowplug.cli import main
from glowplug.exceptions import PluginNotFoundError

def command(*arguments):
    with contextlib.redirect_stdout(io.StringIO()) as output:
        with contextlib.suppress(SystemExit):
            main(arguments)
    print(arguments, "blocked" in output.getvalue())

command("plugins", "list")
command("plugins", "list", "--json")
command("plugins", "show", "shout")
command("plugins", "check", "acme-noise")
command("doctor")
command("doctor", "--json")

from glowplug import Engine, handlers, metrics, plugins
for find in (lambda: handlers.Shout, lambda: handlers.create("Shout"), lambda: metrics.Shout):
    try:
        find()
    except PluginNotFoundError as error:
        print("GLOWPLUG_" in str(error))
plugins.to_scalar(object())
dir(handlers)
engine = Engine(lambda engine, batch: None)
engine.add_event_handler("COMPLETED", print)
engine.describe()
engine.run([1])
"""


@pytest.fixture(scope="module")
def installed(wheelhouse):
    """Install two plugins; the modules of the plugin `shout` write a file when they are imported."""
    wheelhouse.add("acme-noise", PLUGIN, name="shout", init=CANARY, handler=f"{CANARY}class Shout: ...")
    wheelhouse.add("acme-quiet", "GLOWPLUG_API = 1\n", name="whisper")
    wheelhouse.install()
    return wheelhouse


@pytest.mark.parametrize(
    "settings",
    [
        {"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*,shout"},
        {"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*,ACME_noise"},
        {"GLOWPLUG_PLUGINS": "whisper"},
        {"GLOWPLUG_PLUGINS": "acme-quiet"},
        {"GLOWPLUG_PLUGINS": ""},
        {"GLOWPLUG_PLUGINS": "shout,acme-noise", "GLOWPLUG_DISABLED_PLUGINS": "acme-n*"},
    ],
    ids=["name", "distribution", "other name", "other distribution", "none", "both"],
)
def test_blocked_plugin_is_not_imported(installed, tmp_path, settings):
    """If a plugin is blocked by name or distribution, no import, command or run imports its modules (S4)."""
    ended = installed.run("-c", SCRIPT, CANARY=str(tmp_path), **settings)
    assert ended.returncode == 0, ended.stderr
    assert "False" not in ended.stdout
    assert ended.stdout.count("True") == 9
    assert list(tmp_path.iterdir()) == []


def test_unblocked_plugin_is_imported(installed, tmp_path):
    """If the plugin is not blocked, the same commands import all its modules, and each module writes its file (S4)."""
    ended = installed.run("-c", SCRIPT, CANARY=str(tmp_path), GLOWPLUG_PLUGINS="shout")
    assert ended.returncode == 0, ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == MODULES
