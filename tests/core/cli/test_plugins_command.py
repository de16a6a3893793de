"""`glowplug plugins`: works with any installed plugin without importing it in its own process."""

import json
import os
import re
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from glowplug import cli
from glowplug.cli import _subprocess
from glowplug.plugins import CATALOGUE, describe_entry_points

API = "GLOWPLUG_API = 1\n"

# Run the command in a process that then prints which modules it imported.
IN_PROCESS = """
import json, sys
from glowplug.cli import main
try:
    main({arguments})
except SystemExit as end:
    # doctor fails where torch is missing.
    assert not end.code or {arguments}[0] == "doctor", end.code
modules = sorted(name for name in sys.modules if name.partition(".")[0] in
    ("acme_noise", "torch", "numpy", "mlflow", "tensorboard", "pluggy", "rich"))
print("IMPORTED " + json.dumps(modules))
"""


def call(*arguments, **settings):
    """Run the command in this process without the installed first-party plugins."""
    return CliRunner().invoke(
        cli.main, arguments, env={"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*", **settings}
    )


def listed():
    """Return the output of `plugins list --json` by distribution."""
    ended = call("plugins", "list", "--json")
    assert ended.exit_code == 0, ended.output
    return {report["distribution"]: report for report in json.loads(ended.stdout)}


def reported(site):
    """Return the reports on the folder's plugins by distribution."""
    reports = _subprocess.report_plugins(describe_entry_points(site.entry_points(), {}))
    return {report.distribution: report for report in reports}


class TestList:
    @pytest.mark.parametrize(
        "arguments",
        [
            ["plugins", "list"],
            ["plugins", "list", "--json"],
            ["plugins", "show", "shout"],
            ["plugins", "check", "shout"],
            ["doctor"],
            ["doctor", "--json"],
        ],
    )
    def test_imports_no_plugin(self, site, arguments):
        """The offers of a plugin are shown, but neither the plugin nor torch is imported in this process."""
        site.add_handler("acme-noise", name="shout")
        ended = site.run("-c", IN_PROCESS.format(arguments=arguments))
        assert ended.returncode == 0, ended.stderr
        assert "acme-noise" in ended.stdout
        assert "IMPORTED []" in ended.stdout

    def test_statuses(self, site):
        """Working, failing, incompatible and blocked plugins each have one line with the reason."""
        site.add_handler("acme-a")
        site.add("acme-b", "import acme_nosuch")
        site.add("acme-c", requires=["glowplug>=99"])
        site.add("acme-d", "raise SystemExit", version="4.2")
        ended = call("plugins", "list", GLOWPLUG_DISABLED_PLUGINS="glowplug-*,acme-d")
        assert ended.exit_code == 0, ended.output
        rows = [line.split(maxsplit=4) for line in ended.stdout.splitlines()]
        assert " ".join(rows[0]).split() == ["NAME", "DISTRIBUTION", "VERSION", "STATUS", "OFFERS", "CAUSE"]
        mine = {row[1]: row for row in rows if row[1].startswith("acme")}
        assert mine["acme-a"][2:] == ["1.0", "ok", "Shout"]
        assert mine["acme-b"][2:] == ["1.0", "failed", "ModuleNotFoundError: No module named 'acme_nosuch'"]
        assert mine["acme-c"][3] == "incompatible"
        assert mine["acme-c"][4].startswith("the plugin requires glowplug>=99, but glowplug ")
        assert mine["acme-d"][2:] == ["4.2", "blocked", "GLOWPLUG_DISABLED_PLUGINS=glowplug-*,acme-d"]

    def test_pipe(self, site):
        """In a pipe, lines are aligned and not truncated, whatever the width of the terminal."""
        site.add("acme-a", f"raise RuntimeError('{'long ' * 60}end')")
        site.add_handler("acme-b-with-a-long-name")
        ended = site.run("-m", "glowplug", "plugins", "list", COLUMNS="40")
        header, *lines = ended.stdout.splitlines()
        first, second = (line for line in lines if line.startswith("acme"))
        assert first.endswith("long end")
        assert header.index("STATUS") == first.index("failed") == second.index("ok")
        assert header.index("CAUSE") == first.index("RuntimeError")

    def test_terminal(self, site):
        """On a terminal the table fits its width."""
        pty = pytest.importorskip("pty", reason="a terminal is opened as on Unix")
        site.add_handler("acme-noise")
        controller, terminal = pty.openpty()
        code = "import os, sys; os.dup2(int(sys.argv.pop()), 1); from glowplug.cli import main; main(['plugins', 'list'])"
        environment = {
            **os.environ,
            "PYTHONPATH": str(site.folder),
            "GLOWPLUG_PLUGINS": "acme-*",
            "COLUMNS": "70",
            "TERM": "xterm",
        }
        child = subprocess.run(
            [sys.executable, "-c", code, str(terminal)],
            env=environment,
            pass_fds=[terminal],
            timeout=60,
            check=False,
        )
        os.close(terminal)
        output = os.read(controller, 100_000).decode()
        os.close(controller)
        assert child.returncode == 0
        assert "\x1b[32mok" in output
        assert "Shout" in output
        lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()]
        assert max(map(len, lines)) <= 70
        # The distribution is on a separate line, to leave room for the offers.
        assert "acme-noise 1.0" in lines

    def test_json(self, site):
        """The JSON contains targets, hooks and remedies."""
        site.add_handler("acme-noise", name="shout")
        site.add("acme-broken", "import acme_nosuch")
        reports = listed()
        noise = reports["acme-noise"]
        assert noise["offers"] == [
            {"name": "Shout", "target": "acme_noise.handler:Shout", "kind": "handler", "summary": "Prints."}
        ]
        assert noise["hooks"] == ["glowplug_offers"]
        assert (noise["name"], noise["version"], noise["module"]) == ("shout", "1.0", "acme_noise._plugin")
        assert "pip install --upgrade acme-broken" in reports["acme-broken"]["remedy"]

    def test_no_plugins(self, monkeypatch):
        """Without plugins a hint replaces the table."""
        monkeypatch.setattr(sys, "path", [])
        assert call("plugins", "list").stdout == (
            "No plugins are installed. Install one: pip install glowplug-early-stopping\n"
        )

    def test_conflict(self, site):
        """Two plugins that offer one name are listed as a conflict (P2)."""
        site.add_handler("acme-one")
        site.add_handler("acme-two", version="2.0")
        ended = call("plugins", "list")
        assert "Shout is also offered by acme-two 2.0" in ended.stdout
        assert "Shout is also offered by acme-one 1.0" in ended.stdout
        assert call("plugins", "check", "acme-one").exit_code == 1
        assert (
            "finding:      Shout is also offered by acme-two 2.0; set GLOWPLUG"
            in call("plugins", "show", "acme-one").stdout
        )


class TestHostilePlugins:
    @pytest.mark.parametrize(
        ("name", "source", "cause"),
        [
            (
                "acme-aaa",
                "import os; os._exit(7)",
                "the plugin terminated the Python process that imported it (exit code 7)",
            ),
            (
                "acme-mmm",
                "import os; os._exit(7)",
                "the plugin terminated the Python process that imported it (exit code 7)",
            ),
            (
                "acme-zzz",
                "import os; os._exit(7)",
                "the plugin terminated the Python process that imported it (exit code 7)",
            ),
            ("acme-mmm", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "(SIGKILL)"),
            ("acme-mmm", "import faulthandler; faulthandler._sigsegv()", "(SIGSEGV)"),
            ("acme-mmm", "import sys; sys.exit(3)", "SystemExit: 3"),
        ],
    )
    def test_exits_the_process(self, site, name, source, cause):
        """A plugin that ends the interpreter is listed as failed, wherever it is in the order (P1)."""
        site.add_handler("acme-hhh", "Healthy")
        site.add_handler("acme-ttt", "Fine")
        site.add(name, source)
        reports = reported(site)
        assert reports[name].status == "failed"
        assert cause in reports[name].cause
        assert reports["acme-hhh"].names == ["Healthy"]
        assert reports["acme-ttt"].names == ["Fine"]

    @pytest.mark.parametrize("name", ["acme-aaa", "acme-zzz"])
    def test_import_hangs(self, site, monkeypatch, name):
        """A plugin whose import hangs is listed as failed after the time limit (P1)."""
        monkeypatch.setattr(_subprocess, "LOAD_SECONDS", 2.0)
        site.add_handler("acme-mmm", "Healthy")
        site.add(name, "import time; time.sleep(60)")
        started = time.monotonic()
        reports = reported(site)
        assert time.monotonic() - started < 30
        assert reports["acme-mmm"].status == "ok"
        assert reports[name].status == "failed"
        assert reports[name].cause == "the plugin did not finish within 2 s"

    def test_prints(self, site):
        """Output of a plugin, by Python or the process, does not corrupt the JSON (P1)."""
        site.add("acme-noise", API + "import os\nprint('hello')\nos.write(1, b'{')\n")
        assert listed()["acme-noise"]["status"] == "ok"

    def test_control_characters(self, site):
        """Line breaks and control characters in a plugin's text are not printed."""
        site.add("acme-noise", r"raise RuntimeError('one\ntwo \x1b[2J three')")
        ended = call("plugins", "list")
        assert "RuntimeError: one two [2J three\n" in ended.stdout

    def test_file_in_the_working_folder(self, site, tmp_path):
        """The subprocess has this interpreter's path, without the current folder."""
        site.add_handler("acme-noise")
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        for module in ("json", "glowplug", "pluggy"):
            (elsewhere / f"{module}.py").write_text("raise RuntimeError('the wrong file')")
        code = f"import os, sys; sys.path.remove(''); os.chdir({str(elsewhere)!r}); from glowplug.cli import main; main(['plugins', 'list'])"
        ended = site.run("-c", code)
        assert re.search(r"acme-noise .* ok +Shout\n", ended.stdout), ended.stderr
        assert "wrong file" not in ended.stdout

    def test_blocked_plugin(self, site):
        """No command imports a blocked plugin in any process (S4)."""
        marker = site.folder / "imported"
        site.add("acme-noise", f"{API}open({str(marker)!r}, 'w').close()", name="shout")
        for command in (
            ["plugins", "list"],
            ["plugins", "show", "shout"],
            ["plugins", "check", "shout"],
            ["doctor"],
        ):
            for settings in (
                {"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*,shout"},
                {"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*,acme-noise"},
                {"GLOWPLUG_PLUGINS": ""},
            ):
                call(*command, **settings)
                assert not marker.exists()
        call("plugins", "list")
        assert marker.exists()


class TestSearch:
    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (["average", "WEIGHTS"], ["glowplug-ema"]),
            (["mlflowlogger"], ["glowplug-mlflow"]),
            (["learning_rate", "range"], ["glowplug-lr-finder"]),
            (["json-lines"], ["glowplug-jsonl"]),
        ],
    )
    def test_words(self, words, found):
        """Plugins are found whose distribution, summary and offers contain all words, in upper or lower case, with any hyphens."""
        ended = call("plugins", "search", *words)
        assert ended.exit_code == 0, ended.output
        assert [line.split()[0] for line in ended.stdout.splitlines()[1:]] == found

    def test_all(self):
        """Without words, the command shows all plugins of the catalogue."""
        lines = call("plugins", "search").stdout.splitlines()
        assert [line.split()[0] for line in lines[1:]] == [plugin.distribution for plugin in CATALOGUE]

    def test_installed(self, site):
        """The table says whether a plugin is installed."""
        site.add_handler("glowplug-ema")
        rows = call("plugins", "search", "glowplug").stdout.splitlines()
        (row,) = [row for row in rows if row.startswith("glowplug-ema ")]
        assert row.split()[1] == "yes"

    def test_nothing_found(self):
        """A search without a result fails with the words and the command that shows all plugins."""
        ended = call("plugins", "search", "quantum", "computer")
        assert ended.exit_code == 1
        assert (
            "no known plugin matches 'quantum computer'. To see all plugins: glowplug plugins search"
            in ended.output
        )


class TestShow:
    @pytest.mark.parametrize("name", ["shout", "acme-noise", "acme_noise", "Shout"])
    def test_any_name(self, site, name):
        """`show` finds a plugin by its name, its distribution or an offer."""
        site.add_handler("acme-noise", name="shout")
        ended = call("plugins", "show", name)
        assert ended.exit_code == 0
        assert "distribution: acme-noise 1.0\n" in ended.stdout
        assert "Shout   handler  acme_noise.handler:Shout  Prints.\n" in ended.stdout

    def test_cause_and_remedy(self, site):
        """`show` prints cause and remedy of a broken plugin without truncation."""
        site.add("acme-noise", "import acme_nosuch")
        ended = call("plugins", "show", "acme-noise")
        assert "cause:        ModuleNotFoundError: No module named 'acme_nosuch'\n" in ended.stdout
        assert "remedy:       To fix it: pip install --upgrade acme-noise;" in ended.stdout

    @pytest.mark.parametrize("command", ["show", "check"])
    def test_unknown_plugin(self, site, command):
        """An unknown plugin gives exit code 2 and a suggestion."""
        site.add_handler("acme-noise")
        ended = call("plugins", command, "acme-nois")
        assert ended.exit_code == 2
        assert (
            "no installed plugin, distribution or offer is named 'acme-nois'. Did you mean acme-noise?"
            in ended.output
        )


class TestCheck:
    def test_valid_plugin(self, site):
        """`check` imports all targets of a valid plugin, and the exit code is 0."""
        site.add_handler("acme-noise")
        ended = call("plugins", "check", "acme-noise")
        assert ended.exit_code == 0, ended.stdout
        assert "imports no library" in ended.stdout
        assert "acme_noise.handler:Shout" in ended.stdout

    @pytest.mark.parametrize(
        ("code", "found"),
        [
            ("class Shout: ...", "acme_noise.handler:Shout has no method attach"),
            ("Shout = 3", "is 3, which is not callable"),
            ("Whisper = print", "has no attribute 'Shout'"),
            ("import acme_nosuch", "No module named 'acme_nosuch'"),
            (
                "import os; os._exit(7)",
                "the plugin terminated the Python process that imported it (exit code 7)",
            ),
        ],
    )
    def test_broken_target(self, site, code, found):
        """`check` finds an error in the import of a target, and the exit code is 1."""
        site.add_handler("acme-noise")
        (site.folder / "acme_noise" / "handler.py").write_text(code)
        ended = call("plugins", "check", "acme-noise")
        assert ended.exit_code == 1
        assert found in ended.stdout

    def test_metric_without_methods(self, site):
        """`check` reports the methods that a metric lacks."""
        source = (
            "from glowplug.hookspecs import Offer\nGLOWPLUG_API = 1\n"
            "def glowplug_offers(): return [Offer(name='Loudness', target='acme_noise.metric:Loudness', kind='metric')]\n"
        )
        site.add(
            "acme-noise", source, files={"metric.py": "class Loudness:\n    def update(self, output): ...\n"}
        )
        ended = call("plugins", "check", "Loudness")
        assert ended.exit_code == 1
        assert "does not define attach, reset, compute" in ended.stdout

    def test_heavy_import(self, site):
        """`check` reports a plugin module that imports a large library."""
        (site.folder / "mlflow.py").write_text("")
        site.add("acme-noise", API + "import mlflow")
        ended = call("plugins", "check", "acme-noise")
        assert ended.exit_code == 1
        assert "imports mlflow, which delays every user of the plugin" in ended.stdout

    @pytest.mark.parametrize("status", ["failed", "blocked"])
    def test_failed_and_blocked_plugins(self, site, status):
        """`check` of a faulty or blocked plugin gives exit code 1."""
        site.add("acme-noise", "import acme_nosuch")
        settings = {"GLOWPLUG_DISABLED_PLUGINS": "*"} if status == "blocked" else {}
        ended = call("plugins", "check", "acme-noise", **settings)
        assert ended.exit_code == 1
        assert status in ended.stdout


@pytest.mark.parametrize(
    "command", [[], ["plugins"], ["plugins", "list"], ["plugins", "show"], ["plugins", "check"], ["doctor"]]
)
def test_help(site, command):
    """Each command has a help text, and each action states its exit codes."""
    ended = call(*command, "--help")
    assert ended.exit_code == 0
    assert ended.stdout.startswith("Usage: main")
    assert ("Exit code" in ended.stdout) == (command not in ([], ["plugins"]))
