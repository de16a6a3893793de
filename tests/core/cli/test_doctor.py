"""`glowplug doctor`: findings about the core, the machine and the plugins."""

import importlib.util
import json
import re
import sys

import pytest
from click.testing import CliRunner

from glowplug import __version__, cli
from glowplug._folders import spool_folder, state_folder
from glowplug.cli import _doctor, _subprocess

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="doctor reports an error without torch"
)

CHECK = "from glowplug.hookspecs import Finding\nGLOWPLUG_API = 1\ndef glowplug_doctor():\n    "


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory, monkeypatch):
    """Redirect the core's state folder to a temporary folder."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("GLOWPLUG_HOME", str(folder))
    return folder


def examine(*arguments, **settings):
    """Run the command in this process without the installed first-party plugins."""
    return CliRunner().invoke(
        cli.main, ["doctor", *arguments], env={"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*", **settings}
    )


def findings_of(*arguments, **settings):
    """Return the output of `doctor --json`: core findings by name, and plugin reports by distribution."""
    answer = json.loads(examine("--json", *arguments, **settings).stdout)
    core = {finding["name"]: finding for finding in answer["core"]}
    return core, {report["distribution"]: report for report in answer["plugins"]}


class TestPlugins:
    @needs_torch
    @pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warning", 0), ("error", 1)])
    def test_findings_of_plugins(self, site, status, code):
        """Findings of plugins are shown, and an error among them gives exit code 1."""
        site.add("acme-noise", f"{CHECK}return [Finding('token', {status!r}, 'old', 'get a new one')]\n")
        for arguments in ([], ["--json"]):
            ended = examine(*arguments)
            assert ended.exit_code == code
            assert "token" in ended.stdout
            assert "get a new one" in ended.stdout

    def test_broken_plugin(self, site):
        """A plugin that fails to load is a finding with its remedy, and the exit code is 1."""
        site.add("acme-noise", "import acme_nosuch")
        ended = examine()
        assert ended.exit_code == 1
        assert "pip install --upgrade acme-noise" in ended.stdout

    def test_unmet_requirements(self, site):
        """Unmet requirements of a plugin are reported with the install command, except for blocked plugins."""
        site.add("acme-noise", requires=["glowplug", "acme-sdk>=2", "click>=999", "numpy>=1; extra == 'all'"])
        _, plugins = findings_of()
        found = plugins["acme-noise"]["findings"]
        assert [(finding["status"], finding["remedy"]) for finding in found] == [
            ("error", 'pip install "acme-sdk>=2"'),
            ("error", 'pip install "click>=999"'),
        ]
        assert found[0]["message"] == "acme-noise requires acme-sdk>=2, but acme-sdk is not installed"
        assert examine().exit_code == 1
        _, plugins = findings_of(GLOWPLUG_DISABLED_PLUGINS="*")
        assert plugins["acme-noise"]["findings"] == []

    @pytest.mark.parametrize(
        ("body", "found"),
        [
            ("import time; time.sleep(60)", "the plugin did not finish within 1 s"),
            (
                "import os; os._exit(7)",
                "the plugin terminated the Python process that imported it (exit code 7)",
            ),
            ("raise OSError('no network')", "the hook glowplug_doctor() failed: OSError: no network"),
            ("return 3", "the hook glowplug_doctor() failed: TypeError"),
        ],
    )
    @pytest.mark.parametrize("name", ["acme-aaa", "acme-zzz"])
    def test_failing_checks(self, site, monkeypatch, name, body, found):
        """A check that hangs, exits or raises is one error, and the other plugins are checked (P1)."""
        monkeypatch.setattr(_subprocess, "LOAD_SECONDS", 5.0)
        site.add(name, CHECK + body)
        site.add("acme-mmm", f"{CHECK}return [Finding('token', 'ok', 'valid')]\n")
        _, plugins = findings_of("--time-limit", "1")
        assert [finding["message"] for finding in plugins["acme-mmm"]["findings"]] == ["valid"]
        assert plugins[name]["status"] == "ok"
        (finding,) = plugins[name]["findings"]
        assert (finding["name"], finding["status"]) == ("glowplug_doctor", "error")
        assert found in finding["message"]

    def test_conflict_blocked_and_failed(self, site):
        """A name conflict, a blocked plugin and a failed plugin each have a line (P2, S4)."""
        site.add_handler("acme-one")
        site.add_handler("acme-two")
        site.add("acme-three")
        site.add("acme-four", "import acme_nosuch")
        lines = examine(GLOWPLUG_DISABLED_PLUGINS="glowplug-*,acme-three").stdout.splitlines()
        found = {line.split()[0]: line for line in lines if "  ok  " not in line}
        assert "set GLOWPLUG_DISABLED_PLUGINS to acme-one or acme-two" in found["acme-one"]
        assert "Shout is also offered by acme-one 1.0" in found["acme-two"]
        assert "GLOWPLUG_DISABLED_PLUGINS=glowplug-*,acme-three" in found["acme-three"]
        assert "No module named 'acme_nosuch'" in found["acme-four"]


class TestMachine:
    def test_versions_and_settings(self, own_home):
        """Versions of the core, Python and torch, the settings and the spool folder are shown."""
        core, _ = findings_of(GLOWPLUG_STRICT_PLUGINS="0")
        assert core["glowplug"]["message"].startswith(f"{__version__} in ")
        assert core["Python"]["message"].endswith(sys.executable)
        assert core["GLOWPLUG_STRICT_PLUGINS"]["message"] == "'0'"
        assert core["GLOWPLUG_DISABLED_PLUGINS"]["message"] == "'glowplug-*'"
        assert core["spool folder"]["message"] == f"{own_home / 'spool'} is writable"
        assert list(own_home.iterdir()) == []

    @needs_torch
    def test_devices(self):
        """--torch lists the devices that torch finds in a subprocess; without it, a hint is shown."""
        core, _ = findings_of()
        assert core["devices"]["message"].endswith("glowplug doctor --torch")
        core, _ = findings_of("--torch")
        assert re.fullmatch(
            r"(cpu only|(cuda:\d+ .+|mps)); built (without CUDA|for CUDA .+)", core["devices"]["message"]
        )

    def test_broken_torch(self, site, monkeypatch):
        """A torch that cannot be imported is an error, and is not imported in this process."""
        (site.folder / "torch.py").write_text("raise OSError('libcudart.so is missing')")
        monkeypatch.setenv("PYTHONPATH", str(site.folder))
        monkeypatch.setattr(_doctor, "_version", lambda distribution: "2.13.0")
        (finding,) = [finding for finding in _doctor.examine_core(torch=True) if finding.name == "devices"]
        assert finding.status == "error"
        assert finding.message == "importing torch failed (exit code 1): OSError: libcudart.so is missing"

    def test_unwritable_spool_folder(self, tmp_path, monkeypatch):
        """A spool folder that cannot be created, or is on a full disk, is a finding that names the variable."""
        (tmp_path / "in the way").write_text("a file")
        monkeypatch.setenv("GLOWPLUG_HOME", str(tmp_path / "in the way"))
        core, _ = findings_of()
        assert core["spool folder"]["status"] == "error"
        assert "set GLOWPLUG_HOME to a writable folder" in core["spool folder"]["remedy"]
        monkeypatch.setenv("GLOWPLUG_HOME", str(tmp_path))
        monkeypatch.setattr(_doctor, "_LOW_SPACE", 2**80)
        core, _ = findings_of()
        assert core["spool folder"]["status"] == "warning"

    def test_state_folder(self, monkeypatch):
        """The variable takes precedence over the platform's default folder."""
        monkeypatch.setenv("GLOWPLUG_HOME", "~/glow")
        assert spool_folder() == state_folder() / "spool"
        assert state_folder().parts[-1] == "glow"
        assert "~" not in str(state_folder())
        monkeypatch.delenv("GLOWPLUG_HOME")
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("XDG_STATE_HOME", "/state")
        assert str(state_folder()) == "/state/glowplug"
        monkeypatch.delenv("XDG_STATE_HOME")
        assert state_folder().parts[-4:] == (*state_folder().parts[-4:-3], ".local", "state", "glowplug")
