"""The registry resolves names on demand, reports faults once, and isolates plugins from each other."""

import sys
import threading
import warnings
from fractions import Fraction

import pytest

from glowplug import plugins
from glowplug.exceptions import (
    GlowplugPluginWarning,
    PluginConflictError,
    PluginLoadError,
    PluginNotFoundError,
)
from glowplug.plugins import Registry, _registry, get_registry, to_scalar, use_registry

BROKEN = "raise RuntimeError('no licence')"
SCALAR = "GLOWPLUG_API = 1\ndef glowplug_to_scalar(value):\n    "


def registry_of(site, **settings):
    """Load the plugins of the folder."""
    return Registry.from_entry_points(site.entry_points(), settings)


@pytest.fixture
def fresh_process(site, monkeypatch):
    """A process that has not loaded its plugins yet, and in which only those of the test may load."""
    monkeypatch.setenv("GLOWPLUG_PLUGINS", "acme-*")
    monkeypatch.setattr(_registry, "_registry", None)
    return site


def test_target_is_imported_when_its_name_is_asked_for(site):
    """Loading the plugins imports no target; the first request does, and the second gives the same class."""
    site.add_handler("acme-noise")
    registry = registry_of(site)
    assert "acme_noise.handler" not in sys.modules
    handler = registry.resolve("handler", "Shout")
    assert handler is registry.resolve("handler", "Shout")
    assert handler is sys.modules["acme_noise.handler"].Shout


def test_metrics_and_events_are_resolved_likewise(site):
    """Handlers, metrics and events have separate names."""
    source = (
        "from glowplug.hookspecs import Offer\nGLOWPLUG_API = 1\n"
        "def glowplug_offers():\n"
        "    yield Offer('Same', 'acme_noise.things:Metric', kind='metric')\n"
        "    yield Offer('Same', 'acme_noise.things:Outer.Events', kind='event')\n"
    )
    site.add(
        "acme-noise", source, files={"things.py": "class Metric: ...\nclass Outer:\n    class Events: ...\n"}
    )
    registry = registry_of(site)
    assert registry.resolve("metric", "Same").__name__ == "Metric"
    assert registry.resolve("event", "Same").__qualname__ == "Outer.Events"
    with pytest.raises(PluginNotFoundError, match=r"It is a metric: from glowplug.metrics import Same"):
        registry.resolve("handler", "Same")


def test_handlers_include_loggers(site):
    """A logger is found as a handler and as a logger, and only as these."""
    site.add(
        "acme-noise",
        "from glowplug.hookspecs import Offer\nGLOWPLUG_API = 1\n"
        "def glowplug_offers(): return [Offer('Log', 'acme_noise.things:Log', kind='logger')]\n",
        files={"things.py": "class Log: ...\n"},
    )
    registry = registry_of(site)
    assert registry.resolve("handler", "Log") is registry.resolve("logger", "Log")
    assert (registry.names("handler"), registry.names("logger")) == (["Log"], ["Log"])
    assert (registry.names("save_handler"), registry.names("metric")) == ([], [])
    with pytest.raises(PluginNotFoundError, match="no plugin offers the save_handler 'Log'"):
        registry.resolve("save_handler", "Log")


@pytest.mark.parametrize("ask", [lambda r: r.names("tracker"), lambda r: r.resolve("tracker", "Log")])
def test_unknown_kind(ask):
    """An unknown kind is a ValueError that lists the kinds."""
    with pytest.raises(ValueError, match=r"kind must be one of 'handler', 'logger', .*; got 'tracker'"):
        ask(Registry([]))


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("import acme_nosuch", "ModuleNotFoundError: No module named 'acme_nosuch'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("Whisper = 1", "AttributeError: module 'acme_noise.handler' has no attribute 'Shout'"),
        ("Shout = 3", "its target acme_noise.handler:Shout is 3, which cannot be called"),
    ],
)
def test_target_that_cannot_be_used(site, code, cause):
    """A broken target is an error that names plugin, distribution, version and cause, for whoever requests that name (P1)."""
    site.add_handler("acme-healthy", "Healthy")
    site.add_handler("acme-noise")
    (site.folder / "acme_noise" / "handler.py").write_text(code)
    registry = registry_of(site)
    with pytest.raises(PluginLoadError) as caught:
        registry.resolve("handler", "Shout")
    assert (
        f"the handler 'Shout' cannot be used: plugin 'acme-noise' of acme-noise 1.0 does not work: {cause}"
        in str(caught.value)
    )
    assert registry.resolve("handler", "Healthy").__name__ == "Healthy"


def test_name_that_two_distributions_offer(site):
    """The shared name is an error that names both; every other name of the two works (P2)."""
    site.add_handler("acme-one")
    site.add_handler("acme-two", version="2.0")
    site.add_handler("acme-three", "Whisper")
    registry = registry_of(site)
    assert registry.failures == ()
    with pytest.raises(
        PluginConflictError, match=r"acme-one 1\.0 and acme-two 2\.0 both offer the handler 'Shout'"
    ):
        registry.resolve("handler", "Shout")
    assert registry.resolve("handler", "Whisper").__name__ == "Whisper"
    kept = registry_of(site, GLOWPLUG_DISABLED_PLUGINS="acme-one")
    assert kept.resolve("handler", "Shout").__module__ == "acme_two.handler"


def test_missing_name_of_a_known_distribution_says_what_to_install():
    """A name of this project comes with the line that installs it."""
    with pytest.raises(PluginNotFoundError, match=r"It is in glowplug-mlflow: pip install glowplug-mlflow$"):
        Registry([]).resolve("handler", "MLflowLogger")


def test_missing_name_that_is_blocked_says_by_what(site):
    """Who blocked the plugin that has the name is reminded of it."""
    site.add("glowplug-mlflow", version="9.8")
    registry = registry_of(site, GLOWPLUG_PLUGINS="other")
    text = r"pip install glowplug-mlflow \(version 9.8 is installed but blocked by GLOWPLUG_PLUGINS=other\)"
    with pytest.raises(PluginNotFoundError, match=text):
        registry.resolve("handler", "MLflowLogger")


def test_missing_name_of_a_broken_distribution_gives_the_cause(site):
    """Where the distribution is there and broken, installing it is no advice; the cause is."""
    site.add("glowplug-mlflow", name="mlflow", value="acme_nosuch._plugin")
    with pytest.raises(PluginLoadError, match="No module named 'acme_nosuch'") as caught:
        registry_of(site).resolve("handler", "MLflowLogger")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert "glowplug-mlflow 1.0" in str(caught.value)


def test_unknown_name_is_guessed_at(site):
    """A slip is pointed out, and so are the plugins that could not be asked."""
    site.add_handler("acme-noise")
    site.add("acme-broken", BROKEN)
    site.add("acme-blocked")
    registry = registry_of(site, GLOWPLUG_DISABLED_PLUGINS="acme-blocked")
    with pytest.raises(PluginNotFoundError) as caught:
        registry.resolve("handler", "Shuot")
    assert str(caught.value) == (
        "no plugin offers the handler 'Shuot'. Did you mean Shout?"
        " Blocked plugins: acme-blocked (GLOWPLUG_DISABLED_PLUGINS=acme-blocked)."
        " Faulty plugins: acme-broken (RuntimeError: no licence)"
    )


def test_blocked_plugin_is_not_imported(site):
    """Neither the plugin module nor its package is imported (S4)."""
    site.add("acme-noise", "raise SystemExit", name="shout")
    registry = registry_of(site, GLOWPLUG_DISABLED_PLUGINS="shout")
    assert [plugin.distribution for plugin in registry.blocked] == ["acme-noise"]
    assert registry.failures == ()
    assert not [module for module in sys.modules if module.startswith("acme")]


@pytest.mark.parametrize("value", ["1", "true", "yes"])
def test_strict_setting_raises_at_once(site, value):
    """GLOWPLUG_STRICT_PLUGINS turns the first fault into an error with its cause."""
    site.add("acme-noise", BROKEN)
    with pytest.raises(
        PluginLoadError, match=r"acme-noise 1\.0 does not work: RuntimeError: no licence"
    ) as caught:
        registry_of(site, GLOWPLUG_STRICT_PLUGINS=value)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("value", ["", "0", "false", "no", "off"])
def test_strict_setting_can_be_off(site, value):
    """The usual ways to say no are understood."""
    site.add("acme-noise", BROKEN)
    assert len(registry_of(site, GLOWPLUG_STRICT_PLUGINS=value).failures) == 1


def test_one_warning_for_each_fault_and_once(fresh_process):
    """The first need of plugins warns once of a fault, with distribution, version, cause and remedy; later ones do not (P1)."""
    fresh_process.add("acme-noise", BROKEN, name="shout")
    fresh_process.add_handler("acme-healthy", "Healthy")
    with pytest.warns(GlowplugPluginWarning) as caught:
        registry = get_registry()
    (warning,) = caught
    assert str(warning.message) == (
        "plugin 'shout' of acme-noise 1.0 does not work: RuntimeError: no licence."
        " To fix it: pip install --upgrade acme-noise; to disable it: GLOWPLUG_DISABLED_PLUGINS=shout"
    )
    assert get_registry() is registry
    assert registry.resolve("handler", "Healthy").__name__ == "Healthy"


def test_warning_made_an_error_leaves_the_registry_loaded(fresh_process):
    """Under -W error the first need raises, and the plugins that work can still be used."""
    fresh_process.add("acme-noise", BROKEN)
    fresh_process.add_handler("acme-healthy", "Healthy")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(GlowplugPluginWarning):
            get_registry()
        assert get_registry().names("handler") == ["Healthy"]


def test_slow_import_is_warned_of(site, monkeypatch):
    """A plugin module that everybody waits for works, and its name and distribution are told."""
    monkeypatch.setattr(_registry, "SLOW_IMPORT_SECONDS", 0.05)
    site.add("acme-noise", "import time; time.sleep(0.1); GLOWPLUG_API = 1")
    registry = registry_of(site)
    with pytest.warns(
        GlowplugPluginWarning, match=r"plugin 'acme-noise' of acme-noise 1\.0 took 0\.1 s to import"
    ):
        registry.warn()
    assert len(registry.plugins) == 1


def test_plugins_are_loaded_once_however_many_threads_need_them(fresh_process):
    """Sixteen threads that need the plugins at the same moment get one registry, and one import."""
    source = "import time, sys\nsys.acme_imports = getattr(sys, 'acme_imports', 0) + 1\ntime.sleep(0.1)\nGLOWPLUG_API = 1\n"
    fresh_process.add("acme-noise", source)
    start = threading.Barrier(16)
    found = []

    def need():
        start.wait()
        found.append(get_registry())

    threads = [threading.Thread(target=need) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    try:
        assert len(found) == 16
        assert len(set(map(id, found))) == 1
        assert [plugin.name for plugin in found[0].plugins] == ["acme-noise"]
        assert sys.acme_imports == 1
    finally:
        del sys.acme_imports


def test_use_registry_is_undone(site):
    """Another registry stands in for the process's own one inside the block only."""
    before = _registry._registry
    with use_registry(Registry([])) as registry:
        assert get_registry() is registry
    assert _registry._registry is before


def test_to_scalar_takes_the_first_answer(site):
    """Plugins are asked one after the other, tryfirst before the rest, until one knows the type."""
    site.add(
        "acme-a",
        SCALAR + "return 1 if isinstance(value, Fraction) else None\nfrom fractions import Fraction\n",
    )
    site.add(
        "acme-b",
        "from fractions import Fraction\nfrom glowplug.hookspecs import hookimpl\nGLOWPLUG_API = 1\n"
        "@hookimpl(tryfirst=True)\n"
        "def glowplug_to_scalar(value): return 2 if value == Fraction(1, 2) else None\n",
    )
    with use_registry(registry_of(site)):
        assert to_scalar(Fraction(1, 2)) == 2.0
        assert isinstance(to_scalar(Fraction(1, 2)), float)
        assert to_scalar(Fraction(1, 3)) == 1.0
        assert to_scalar("text") is None


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        ("raise RuntimeError('no licence')", "glowplug_to_scalar() failed: RuntimeError: no licence"),
        ("raise SystemExit(3)", "glowplug_to_scalar() failed: SystemExit: 3"),
        ("return 'text'", "glowplug_to_scalar() must return a number or None; got 'text'"),
    ],
)
@pytest.mark.parametrize("name", ["acme-aaa", "acme-zzz"])
def test_hook_that_fails_in_a_run_is_reported_once(site, name, body, cause):
    """The plugin is not asked again, the others are, and the run continues with one warning (P1)."""
    site.add(
        "acme-mmm",
        "from fractions import Fraction\n" + SCALAR + "return 7 if type(value) is Fraction else None",
    )
    site.add(name, SCALAR + body)
    registry = registry_of(site)
    with pytest.warns(GlowplugPluginWarning) as caught:
        answers = [registry.to_scalar(value) for value in (object(), object(), Fraction(1, 2))]
    assert answers == [None, None, 7.0]
    (warning,) = caught
    assert f"of {name} 1.0 does not work: its hook {cause}" in str(warning.message)
    assert [failure.distribution for failure in registry.failures] == [name]


def test_save_handler_of_an_address(site):
    """The plugin that knows the scheme says where a checkpoint goes; a scheme that none knows is an error that says so."""
    site.add(
        "acme-s3",
        "GLOWPLUG_API = 1\ndef glowplug_save_handler(uri): return print if uri.startswith('s3://') else None\n",
    )
    with use_registry(registry_of(site)):
        assert plugins.save_handler("s3://bucket/run") is print
        with pytest.raises(
            PluginNotFoundError,
            match=r"no plugin handles gs:// addresses: got 'gs://bucket/run'\. Install a plugin whose",
        ):
            plugins.save_handler("gs://bucket/run")


def test_findings_of_the_plugins(site):
    """A hook that fails is a finding, and the other plugins' hooks are called."""
    site.add(
        "acme-a",
        "from glowplug.hookspecs import Finding\nGLOWPLUG_API = 1\n"
        "def glowplug_doctor(): return [Finding(name='token', status='warning', message='old')]\n",
    )
    site.add("acme-b", "GLOWPLUG_API = 1\ndef glowplug_doctor(): return 1 / 0\n")
    found = [
        (plugin.distribution, finding.status, finding.message)
        for plugin, finding in registry_of(site).findings()
    ]
    assert found == [
        ("acme-a", "warning", "old"),
        ("acme-b", "error", "its hook glowplug_doctor() failed: ZeroDivisionError: division by zero"),
    ]


def test_origin_of_what_a_plugin_brings(site):
    """A class, its objects and their methods are traced to the plugin; the core's and the user's own are not."""
    site.add_handler("acme-noise")
    registry = registry_of(site)
    handler = registry.resolve("handler", "Shout")
    for value in (handler, handler(), handler().attach):
        assert registry.origin_of(value).distribution == "acme-noise"
    for value in (Registry, registry, print, lambda: None, 3, None):
        assert registry.origin_of(value) is None


def test_origin_of_a_package_whose_name_begins_alike(site):
    """A package is not taken for another one that has a longer name."""
    site.add("acme-noise")
    site.add_handler("acme-noise-extra")
    registry = registry_of(site)
    assert registry.origin_of(registry.resolve("handler", "Shout")).distribution == "acme-noise-extra"


def test_installing_never_changes_a_run(site):
    """A run imports no plugin; once the plugins are loaded, a run still imports and attaches none of their handlers."""
    site.add_handler("acme-noise")
    script = (
        "import sys\n"
        "from glowplug import Engine\n"
        "def run():\n"
        "    Engine(lambda engine, batch: batch).run([1, 2], max_epochs=2)\n"
        "    return [module for module in sys.modules if module.startswith('acme')]\n"
        "print(run())\n"
        "from glowplug.plugins import get_registry\n"
        "assert 'Shout' in get_registry().names('handler')\n"
        "print(run())\n"
    )
    ended = site.run("-W", "error", "-c", script)
    assert ended.stdout.splitlines() == ["[]", "['acme_noise', 'acme_noise._plugin']"], ended.stderr
