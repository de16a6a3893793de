"""Faulty plugins of distributions installed with pip, before, between and after healthy ones."""

import json
import re

import pytest

from glowplug import __version__

POSITIONS = {"first": "aaa", "middle": "mmm", "last": "zzz"}
HEALTHY = {"acme-healthy-h": "hhh", "acme-healthy-t": "ttt"}

API = "GLOWPLUG_API = 1\n"


def offer(package, *names):
    """Return the source of a plugin module that offers these handlers."""
    specs = ", ".join(f"Offer(name={name!r}, target='{package}.handler:{name}')" for name in names)
    return f"from glowplug.hookspecs import Offer\n{API}def glowplug_offers(): return [{specs}]\n"


# Each fault has three texts: the source of the plugin module, the source of the handler's module, and the expected diagnostic.
# "asked:" marks faults in a handler's module; nothing imports this module before the handler is requested by name.
FAULTS = {
    "missing-dependency": ("import acme_nosuch", "", "No module named 'acme_nosuch'"),
    "syntax-error": ("def broken(:", "", "SyntaxError"),
    "wrong-hook-name": (API + "def glowplug_offer(): return []", "", "did you mean glowplug_offers()?"),
    "wrong-argument": (
        API + "def glowplug_to_scalar(val): return 1",
        "",
        "write def glowplug_to_scalar(value)",
    ),
    "core-too-old": (
        offer("{package}", "Faulty"),
        "",
        f"the plugin requires glowplug>=99, but glowplug {__version__} is installed",
    ),
    "hook-raises": (
        API + "def glowplug_offers(): raise OSError('no disk')",
        "",
        "failed: OSError: no disk",
    ),
    "target-missing": (offer("{package}", "Faulty"), "Fault = 1", "asked: has no attribute 'Faulty'"),
    "not-callable": (offer("{package}", "Faulty"), "Faulty = 3", "asked: is 3, which is not callable"),
    "duplicate-name": (
        offer("{package}", "Faulty"),
        "class Faulty: ...",
        "asked: both offer the handler 'Faulty'",
    ),
    "slow-import": ("import time; time.sleep(2.2)\n" + API, "", "s to import"),
    "exits-at-import": ("import sys; sys.exit(3)", "", "SystemExit: 3"),
    "bad-metadata": (offer("{package}", "Faulty"), "", "the METADATA file is damaged: UnicodeDecodeError"),
}

HANDLER = """
from glowplug import Events

class {handler}:
    def __init__(self, ran=None): self.ran = ran
    def attach(self, engine): return engine.add_event_handler(Events.EPOCH_COMPLETED, self)
    def __call__(self): self.ran.append({name!r})
"""

# Loads the plugins, uses the healthy handlers, requests the faulty one by name, and prints the warnings and the error.
SCRIPT = """
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from glowplug.handlers import HealthyH, HealthyT
    warned = [str(warning.message) for warning in caught if "Plugin" in warning.category.__name__]
from glowplug import Engine
from glowplug.plugins import get_registry
ran, engine = [], Engine(lambda engine, batch: batch)
engine.attach(HealthyH(ran), HealthyT(ran))
engine.run([1])
asked = ""
try:
    from glowplug.handlers import Faulty
except ImportError as error:
    asked = str(error)
print(json.dumps({
    "healthy": ran,
    "warned": warned,
    "asked": asked,
    "plugins": [plugin.distribution for plugin in get_registry().plugins],
    "failures": [failure.distribution for failure in get_registry().failures],
}))
"""


@pytest.fixture(scope="module")
def installed(wheelhouse):
    """Install all faulty plugins in each position, together with two healthy ones."""
    for distribution, name in HEALTHY.items():
        handler = f"Healthy{distribution[-1].upper()}"
        code = HANDLER.format(handler=handler, name=name)
        wheelhouse.add(distribution, offer(distribution.replace("-", "_"), handler), name=name, handler=code)
    wheelhouse.add("acme-rival", offer("acme_rival", "Faulty"), name="rival", handler="class Faulty: ...")
    for fault, (source, handler, _) in FAULTS.items():
        for position, prefix in POSITIONS.items():
            distribution = f"acme-{fault}-{position}"
            package = distribution.replace("-", "_")
            wheelhouse.add(
                distribution,
                source.replace("{package}", package),
                name=f"{prefix}-{fault}",
                version="4.2",
                requires=["glowplug>=99" if fault == "core-too-old" else "glowplug>=0.1,<2"],
                handler=handler,
            )
    wheelhouse.install()
    for metadata in wheelhouse.site.glob("acme_bad_metadata_*.dist-info/METADATA"):
        metadata.write_bytes(
            b"\xff\xfe\x00"
        )  # A full disk can leave such a file. pip refuses to install it, so it is written afterwards.
    return wheelhouse


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_does_not_affect_other_plugins(installed, fault, position):
    """Healthy plugins work, and one diagnostic names distribution, version, fault and remedy (P1)."""
    distribution = f"acme-{fault}-{position}"
    rival = ",acme-rival" if fault == "duplicate-name" else ""
    ended = installed.run("-c", SCRIPT, GLOWPLUG_PLUGINS=f"acme-healthy-*,{distribution}{rival}")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["healthy"] == ["hhh", "ttt"]
    assert {"acme-healthy-h", "acme-healthy-t"} <= set(told["plugins"])
    said = FAULTS[fault][2]
    if said.startswith("asked: "):
        assert told["warned"] == []
        diagnostic = told["asked"]
    else:
        (diagnostic,) = told["warned"]
    assert f"{distribution} 4.2" in diagnostic
    assert said.removeprefix("asked: ") in diagnostic
    assert "GLOWPLUG_DISABLED_PLUGINS=" in diagnostic
    loads = said.startswith("asked: ") or fault == "slow-import"
    assert told["failures"] == ([] if loads else [distribution])


def test_list_with_all_faults(installed):
    """`plugins list` shows all installed plugins with their status, and the causes of faults (P1)."""
    ended = installed.run(
        "-m",
        "glowplug",
        "plugins",
        "list",
        "--json",
        GLOWPLUG_DISABLED_PLUGINS="glowplug-*,acme-slow-import-*",
    )
    assert ended.returncode == 0, ended.stderr
    reports = {report["distribution"]: report for report in json.loads(ended.stdout)}
    for distribution in (*HEALTHY, "acme-rival"):
        assert reports[distribution]["status"] == "ok"
    for fault, (_, _, said) in FAULTS.items():
        for position in POSITIONS:
            report = reports[f"acme-{fault}-{position}"]
            status = "ok" if said.startswith("asked: ") else "failed"
            status = {"core-too-old": "incompatible", "slow-import": "blocked"}.get(fault, status)
            assert (report["status"], report["version"]) == (status, "4.2"), report
            if status in {"failed", "incompatible"}:
                assert said in report["cause"]


@pytest.mark.parametrize(
    "command", [["doctor"], ["plugins", "show", "acme-healthy-h"], ["plugins", "check", "HealthyT"]]
)
def test_commands_with_all_faults(installed, command):
    """With all faulty plugins installed, the commands report the healthy ones and exit as documented (P1)."""
    ended = installed.run(
        "-m", "glowplug", *command, GLOWPLUG_DISABLED_PLUGINS="glowplug-*,acme-slow-import-*"
    )
    assert ended.returncode == (command == ["doctor"]), ended.stderr
    assert ended.stderr == ""
    assert "acme-healthy" in ended.stdout


@pytest.mark.parametrize("fault", ["target-missing", "not-callable", "duplicate-name"])
def test_check_finds_faults_of_a_target(installed, fault):
    """`plugins check` finds faults that otherwise appear only when a name is used, and exits with 1 (P1)."""
    distribution = f"acme-{fault}-middle"
    ended = installed.run(
        "-m", "glowplug", "plugins", "check", distribution, GLOWPLUG_PLUGINS=f"{distribution},acme-rival"
    )
    assert ended.returncode == 1, ended.stderr
    said = (
        FAULTS[fault][2]
        .removeprefix("asked: ")
        .replace("both offer the handler 'Faulty'", "is also offered by")
    )
    assert said in ended.stdout


def test_slow_import(installed):
    """A slow import of a plugin module is reported with its duration (P1)."""
    name = "acme-slow-import-last"
    ended = installed.run("-m", "glowplug", "plugins", "show", name, GLOWPLUG_PLUGINS=name)
    assert ended.returncode == 0, ended.stderr
    assert re.search(
        r"finding: +takes 2\.\d s to import, which delays every user of the plugin; move", ended.stdout
    )


def test_warning_is_issued_once(installed):
    """A faulty plugin causes only one warning, even if plugins are used repeatedly (P1)."""
    script = (
        "from glowplug.plugins import get_registry, to_scalar\n"
        "import glowplug.handlers\n"
        "for _ in range(3): get_registry(); to_scalar(object()); dir(glowplug.handlers)\n"
    )
    ended = installed.run(
        "-W", "always", "-c", script, GLOWPLUG_PLUGINS="acme-syntax-error-first,acme-healthy-*"
    )
    assert ended.returncode == 0, ended.stderr
    assert (
        ended.stderr.count("GlowplugPluginWarning: plugin 'aaa-syntax-error' of acme-syntax-error-first 4.2")
        == 1
    )
    assert ended.stderr.count("GlowplugPluginWarning") == 1


def test_strict_setting_raises_the_cause(installed):
    """With GLOWPLUG_STRICT_PLUGINS=1, loading a faulty plugin raises an error."""
    ended = installed.run(
        "-c",
        "from glowplug.handlers import HealthyH",
        GLOWPLUG_PLUGINS="acme-hook-raises-last,acme-healthy-*",
        GLOWPLUG_STRICT_PLUGINS="1",
    )
    assert ended.returncode == 1
    assert "PluginLoadError: plugin 'zzz-hook-raises' of acme-hook-raises-last 4.2" in ended.stderr
    assert "OSError: no disk" in ended.stderr


def test_conflict_of_two(installed):
    """Importing a name that two distributions offer raises an error that names both (P2)."""
    ended = installed.run(
        "-c", "from glowplug.handlers import Faulty", GLOWPLUG_PLUGINS="acme-rival,acme-duplicate-name-first"
    )
    assert ended.returncode == 1
    assert "acme-duplicate-name-first 4.2 and acme-rival 1.0 both offer the handler 'Faulty'" in ended.stderr
    assert (
        "Uninstall or disable all but one, for example with GLOWPLUG_DISABLED_PLUGINS=acme-rival"
        in ended.stderr
    )


def test_conflict_of_three(installed):
    """If three distributions offer a name, the error names all three, and a setting that disables two of them (P2)."""
    both = "acme-duplicate-name-first,acme-duplicate-name-last"
    asking = ("-c", "from glowplug.handlers import Faulty; print(Faulty.__module__)")
    ended = installed.run(*asking, GLOWPLUG_PLUGINS=f"acme-rival,{both}")
    assert (
        "acme-duplicate-name-first 4.2, acme-rival 1.0 and acme-duplicate-name-last 4.2 all offer the handler 'Faulty'"
    ) in ended.stderr
    remedy = "acme-rival,acme-duplicate-name-last"
    assert f"GLOWPLUG_DISABLED_PLUGINS={remedy}" in ended.stderr
    ended = installed.run(*asking, GLOWPLUG_PLUGINS=f"acme-rival,{both}", GLOWPLUG_DISABLED_PLUGINS=remedy)
    assert ended.stdout == "acme_duplicate_name_first.handler\n"


@pytest.mark.parametrize(
    "settings",
    [
        {"GLOWPLUG_DISABLED_PLUGINS": "glowplug-*,acme-*"},
        {"GLOWPLUG_PLUGINS": "acme-healthy-h,acme-healthy-t"},
        {"GLOWPLUG_PLUGINS": "hhh,ttt"},
        {"GLOWPLUG_PLUGINS": ""},
        {"GLOWPLUG_PLUGINS": "acme-*", "GLOWPLUG_DISABLED_PLUGINS": "*-*-first,mmm-*,zzz-*,rival"},
    ],
)
def test_blocked_plugin_is_never_imported(installed, settings):
    """If a plugin is blocked by name, distribution or pattern, none of its modules is imported (S4)."""
    script = (
        "import sys\nfrom glowplug.plugins import get_registry\nregistry = get_registry()\n"
        "print(len(registry.blocked), registry.failures)\n"
        "print([m for m in sys.modules if m.startswith('acme') and 'healthy' not in m])\n"
    )
    ended = installed.run("-W", "error", "-c", script, **settings)
    assert ended.returncode == 0, ended.stderr
    blocked, imported = ended.stdout.splitlines()
    assert int(blocked.split()[0]) >= len(FAULTS) * len(POSITIONS)
    assert blocked.endswith(" ()")
    assert imported == "[]"
