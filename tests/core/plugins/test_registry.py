"""The registry: resolving names, reporting faults, isolation of plugins."""

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


class TestResolve:
    def test_target_is_imported_on_request(self, site):
        """A target is imported at the first request of its name, and cached."""
        site.add_handler("acme-noise")
        registry = registry_of(site)
        assert "acme_noise.handler" not in sys.modules
        handler = registry.resolve("handler", "Shout")
        assert handler is registry.resolve("handler", "Shout")
        assert handler is sys.modules["acme_noise.handler"].Shout

    def test_kinds_have_separate_names(self, site):
        """Handlers, metrics and events are resolved from separate namespaces."""
        source = (
            "from glowplug.hookspecs import Offer\nGLOWPLUG_API = 1\n"
            "def glowplug_offers():\n"
            "    yield Offer('Same', 'acme_noise.things:Metric', kind='metric')\n"
            "    yield Offer('Same', 'acme_noise.things:Outer.Events', kind='event')\n"
        )
        site.add(
            "acme-noise",
            source,
            files={"things.py": "class Metric: ...\nclass Outer:\n    class Events: ...\n"},
        )
        registry = registry_of(site)
        assert registry.resolve("metric", "Same").__name__ == "Metric"
        assert registry.resolve("event", "Same").__qualname__ == "Outer.Events"
        with pytest.raises(PluginNotFoundError, match=r"It is a metric: from glowplug.metrics import Same"):
            registry.resolve("handler", "Same")

    def test_handlers_include_loggers(self, site):
        """A logger is found as handler and as logger only."""
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
    def test_unknown_kind(self, ask):
        """An unknown kind raises a ValueError that lists the kinds."""
        with pytest.raises(ValueError, match=r"kind must be one of 'handler', 'logger', .*; got 'tracker'"):
            ask(Registry([]))

    @pytest.mark.parametrize(
        ("code", "cause"),
        [
            ("import acme_nosuch", "ModuleNotFoundError: No module named 'acme_nosuch'"),
            ("raise SystemExit(3)", "SystemExit: 3"),
            ("Whisper = 1", "AttributeError: module 'acme_noise.handler' has no attribute 'Shout'"),
            (
                "Shout = 3",
                "the target acme_noise.handler:Shout of the offer 'Shout' is 3, which is not callable",
            ),
        ],
    )
    def test_unusable_target(self, site, code, cause):
        """Requesting an unusable target raises an error with plugin, distribution, version and cause (P1)."""
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

    def test_conflict(self, site):
        """A name offered by two distributions is an error that names both; their other names work (P2)."""
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


class TestMissingName:
    def test_known_distribution(self):
        """The error for a first-party name contains the install command."""
        with pytest.raises(
            PluginNotFoundError, match=r"It is in glowplug-mlflow: pip install glowplug-mlflow$"
        ):
            Registry([]).resolve("handler", "MLflowLogger")

    def test_blocked_distribution(self, site):
        """The error for a name of a blocked plugin names the setting that blocks it."""
        site.add("glowplug-mlflow", version="9.8")
        registry = registry_of(site, GLOWPLUG_PLUGINS="other")
        text = "It is in glowplug-mlflow, which is blocked by GLOWPLUG_PLUGINS=other; change this setting$"
        with pytest.raises(PluginNotFoundError, match=text):
            registry.resolve("handler", "MLflowLogger")

    def test_broken_distribution(self, site):
        """The error for a name of a broken plugin gives the cause instead of an install command."""
        site.add("glowplug-mlflow", name="mlflow", value="acme_nosuch._plugin")
        with pytest.raises(PluginLoadError, match="No module named 'acme_nosuch'") as caught:
            registry_of(site).resolve("handler", "MLflowLogger")
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)
        assert "glowplug-mlflow 1.0" in str(caught.value)

    def test_suggestion(self, site):
        """The error for an unknown name suggests the closest one and lists failed plugins."""
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


class TestIsolation:
    def test_blocked_plugin_is_not_imported(self, site):
        """Neither the module nor the package of a blocked plugin is imported (S4)."""
        site.add("acme-noise", "raise SystemExit", name="shout")
        registry = registry_of(site, GLOWPLUG_DISABLED_PLUGINS="shout")
        assert [plugin.distribution for plugin in registry.blocked] == ["acme-noise"]
        assert registry.failures == ()
        assert not [module for module in sys.modules if module.startswith("acme")]

    @pytest.mark.parametrize("value", ["1", "true", "yes"])
    def test_strict_setting(self, site, value):
        """GLOWPLUG_STRICT_PLUGINS turns the first fault into an error with its cause (P1)."""
        site.add("acme-noise", BROKEN)
        with pytest.raises(
            PluginLoadError, match=r"acme-noise 1\.0 does not work: RuntimeError: no licence"
        ) as caught:
            registry_of(site, GLOWPLUG_STRICT_PLUGINS=value)
        assert isinstance(caught.value.__cause__, RuntimeError)

    @pytest.mark.parametrize("value", ["", "0", "false", "no", "off"])
    def test_strict_setting_off(self, site, value):
        """GLOWPLUG_STRICT_PLUGINS accepts the usual values for off."""
        site.add("acme-noise", BROKEN)
        assert len(registry_of(site, GLOWPLUG_STRICT_PLUGINS=value).failures) == 1

    def test_one_warning_per_fault(self, fresh_process):
        """Loading plugins warns once per fault, with distribution, version, cause and remedy (P1)."""
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

    def test_warning_as_error(self, fresh_process):
        """If warnings are errors, the first request raises, and healthy plugins still work."""
        fresh_process.add("acme-noise", BROKEN)
        fresh_process.add_handler("acme-healthy", "Healthy")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(GlowplugPluginWarning):
                get_registry()
            assert get_registry().names("handler") == ["Healthy"]

    def test_slow_import_warns(self, site, monkeypatch):
        """A slow import warns with the plugin's name and distribution, and the plugin works."""
        monkeypatch.setattr(_registry, "SLOW_IMPORT_SECONDS", 0.05)
        site.add("acme-noise", "import time; time.sleep(0.1); GLOWPLUG_API = 1")
        registry = registry_of(site)
        with pytest.warns(
            GlowplugPluginWarning, match=r"plugin 'acme-noise' of acme-noise 1\.0 took 0\.1 s to import"
        ):
            registry.warn()
        assert len(registry.plugins) == 1


class TestHooks:
    def test_to_scalar(self, site):
        """Hooks are called in order, tryfirst before others, until one returns a value."""
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
    def test_failing_hook_is_reported_once(self, site, name, body, cause):
        """A failing hook is disabled with one warning, and the others are still called (P1)."""
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
        assert f"of {name} 1.0 does not work: the hook {cause}" in str(warning.message)
        assert [failure.distribution for failure in registry.failures] == [name]

    def test_save_handler(self, site):
        """The plugin for a scheme provides the save handler, and an unknown scheme is an error."""
        site.add(
            "acme-s3",
            "GLOWPLUG_API = 1\ndef glowplug_save_handler(uri): return print if uri.startswith('s3://') else None\n",
        )
        with use_registry(registry_of(site)):
            assert plugins.save_handler("s3://bucket/run") is print
            with pytest.raises(
                PluginNotFoundError,
                match=r"no plugin handles gs:// addresses: got 'gs://bucket/run'\. Install a plugin that",
            ):
                plugins.save_handler("gs://bucket/run")

    def test_findings(self, site):
        """A failing doctor hook becomes a finding, and other plugins' hooks are called."""
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
            ("acme-b", "error", "the hook glowplug_doctor() failed: ZeroDivisionError: division by zero"),
        ]


class TestOrigin:
    def test_plugin_objects(self, site):
        """Classes, objects and methods of a plugin are traced to it; those of core and user are not."""
        site.add_handler("acme-noise")
        registry = registry_of(site)
        handler = registry.resolve("handler", "Shout")
        for value in (handler, handler(), handler().attach):
            assert registry.origin_of(value).distribution == "acme-noise"
        for value in (Registry, registry, print, lambda: None, 3, None):
            assert registry.origin_of(value) is None

    def test_package_with_a_common_prefix(self, site):
        """A package whose name begins with another one's is not mistaken for it."""
        site.add("acme-noise")
        site.add_handler("acme-noise-extra")
        registry = registry_of(site)
        assert registry.origin_of(registry.resolve("handler", "Shout")).distribution == "acme-noise-extra"


class TestGetRegistry:
    def test_threads_share_one_registry(self, fresh_process):
        """Sixteen threads that request the registry at once share it, and import plugins once."""
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

    def test_use_registry(self, site):
        """use_registry() replaces the process's registry within the block only."""
        before = _registry._registry
        with use_registry(Registry([])) as registry:
            assert get_registry() is registry
        assert _registry._registry is before

    def test_runs_import_no_plugin(self, site):
        """A run imports and attaches no handler of a plugin, even if plugins are loaded."""
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
