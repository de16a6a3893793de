"""How one plugin module is judged: its API version, its hooks, and what they return."""

import pytest

from glowplug.plugins import Registry

API = "GLOWPLUG_API = 1\n"
IMPORTS = "from glowplug.hookspecs import EventSpec, HandlerSpec, MetricSpec, hookimpl\nGLOWPLUG_API = 1\n"
SPEC = "HandlerSpec(name='Shout', target='acme_noise.handler:Shout')"


def load(site, source):
    """Load a plugin module beside a healthy one, which must load whatever the other holds."""
    site.add_handler("acme-healthy", "Healthy")
    site.add("acme-noise", source)
    registry = Registry.from_entry_points(site.entry_points(), {})
    assert registry.resolve_handler("Healthy").__name__ == "Healthy"
    return registry


FAULTS = {
    "no API version": ("", "add GLOWPLUG_API = 1"),
    "another API version": ("GLOWPLUG_API = 2", "states GLOWPLUG_API = 2; this core has version 1"),
    "missing dependency": (API + "import acme_nosuch", "ModuleNotFoundError: No module named 'acme_nosuch'"),
    "syntax error": (API + "def broken(:", "SyntaxError"),
    "exits": (API + "raise SystemExit(3)", "SystemExit: 3"),
    "skips a test": (
        API + "import pytest; pytest.skip('no GPU', allow_module_level=True)",
        "Skipped: no GPU",
    ),
    "unknown hook": (
        API + "def glowplug_handler(): return []",
        "unknown hook glowplug_handler(); did you mean glowplug_handlers()?",
    ),
    "unknown decorated hook": (
        IMPORTS + "@hookimpl(specname='glowplug_metric')\ndef metrics(): return []",
        "unknown hook glowplug_metric(); did you mean glowplug_metrics()?",
    ),
    "unlike any hook": (
        API + "def glowplug_zzzz(): return []",
        "the hooks are glowplug_doctor, glowplug_events",
    ),
    "wrong argument": (
        API + "def glowplug_to_scalar(val): return None",
        "{'val'} are declared in the hookimpl but can not be found in the hookspec; write def glowplug_to_scalar(value)",
    ),
    "argument too many": (
        IMPORTS + "@hookimpl\ndef glowplug_handlers(engine): return []",
        "write def glowplug_handlers()",
    ),
    "no function": (API + "glowplug_handlers = []", "its glowplug_handlers must be a function; got []"),
    "async": (API + "async def glowplug_handlers(): return []", "is async; write def glowplug_handlers()"),
    "raises": (
        API + "def glowplug_handlers(): return 1 / 0",
        "glowplug_handlers() failed: ZeroDivisionError",
    ),
    "exits in a hook": (
        API + "def glowplug_handlers(): raise SystemExit",
        "glowplug_handlers() failed: SystemExit",
    ),
    "raises halfway": (
        IMPORTS + f"def glowplug_handlers():\n    yield {SPEC}\n    1 / 0",
        "glowplug_handlers() failed: ZeroDivisionError",
    ),
    "bad spec": (
        IMPORTS + "def glowplug_handlers(): return [HandlerSpec(name='Shout', target='acme.Shout')]",
        "target must be the text 'module:attribute'",
    ),
    "returns nothing": (API + "def glowplug_handlers(): pass", "must return a list of HandlerSpec; got None"),
    "returns text": (
        API + "def glowplug_handlers(): return 'Shout'",
        "must return a list of HandlerSpec; got 'Shout'",
    ),
    "returns a number": (API + "def glowplug_handlers(): return 3", "TypeError"),
    "returns a bare spec": (IMPORTS + f"def glowplug_handlers(): return {SPEC}", "TypeError"),
    "returns other specs": (
        IMPORTS + "def glowplug_metrics(): return [HandlerSpec(name='Shout', target='a.b:Shout')]",
        "glowplug_metrics() must return a list of MetricSpec; got HandlerSpec(",
    ),
    "offers twice": (
        IMPORTS + f"def glowplug_handlers(): return [{SPEC}, {SPEC}]",
        "offers Shout more than once",
    ),
    "asks for other plugins": (
        API + "from glowplug.handlers import Healthy",
        "asks for the names of other plugins while it is loaded",
    ),
}


@pytest.mark.parametrize(("source", "cause"), FAULTS.values(), ids=FAULTS)
def test_P1_fault_is_recorded_with_its_cause(site, source, cause):
    """A faulty module becomes one failure that names plugin, distribution, version, cause and remedy."""
    registry = load(site, source)
    (failure,) = registry.failures
    assert (failure.name, failure.distribution, failure.version) == ("acme-noise", "acme-noise", "1.0")
    assert cause in failure.cause
    assert "pip install --upgrade" in failure.remedy
    assert "GLOWPLUG_DISABLED_PLUGINS=acme-noise" in failure.remedy
    assert [plugin.name for plugin in registry.plugins] == ["acme-healthy"]


GOOD = {
    "decorated": IMPORTS + f"@hookimpl\ndef glowplug_handlers(): return [{SPEC}]",
    "undecorated": IMPORTS + f"def glowplug_handlers(): return [{SPEC}]",
    "generator": IMPORTS + f"def glowplug_handlers(): yield {SPEC}",
    "tuple": IMPORTS + f"def glowplug_handlers(): return ({SPEC},)",
    "other function name": IMPORTS
    + f"@hookimpl(specname='glowplug_handlers')\ndef handlers(): return [{SPEC}]",
    "optional hook": IMPORTS + f"def glowplug_handlers(): return [{SPEC}]\n"
    "@hookimpl(optionalhook=True)\ndef glowplug_of_tomorrow(): pass",
    "helper of that prefix from elsewhere": "from glowplug.plugins._loading import one_line as glowplug_helper\n"
    + IMPORTS
    + f"def glowplug_handlers(): return [{SPEC}]",
}


@pytest.mark.parametrize("source", GOOD.values(), ids=GOOD)
def test_ways_to_write_a_hook(site, source):
    """A hook may be decorated or only named like one, and may return any iterable of specifications."""
    registry = load(site, source)
    assert registry.failures == ()
    assert registry.names("handler") == ["Healthy", "Shout"]


def test_plugin_without_hooks_loads(site):
    """A module that implements nothing is no fault."""
    registry = load(site, API)
    assert registry.failures == ()
    assert registry.plugins[1].hooks == ()


def test_failed_plugin_leaves_no_hook_behind(site):
    """A plugin that fails after its registration is asked for nothing later."""
    source = "def glowplug_to_scalar(value): return 1.0\ndef glowplug_handlers(): return 3"
    registry = load(site, API + source)
    assert len(registry.failures) == 1
    assert registry.to_scalar(object()) is None


def test_interrupt_while_a_plugin_is_imported_reaches_the_user(site):
    """Ctrl-C is not a fault of the plugin that happens to be imported."""
    site.add("acme-noise", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.from_entry_points(site.entry_points(), {})


def test_same_module_under_two_names(site):
    """The second of two entry points that name one module is told so."""
    site.add("acme-noise", name="a")
    site.add("acme-other", name="b", value="acme_noise._plugin")
    registry = Registry.from_entry_points(site.entry_points(), {})
    assert [plugin.name for plugin in registry.plugins] == ["a"]
    assert (
        "its module acme_noise._plugin is that of plugin a (acme-noise) as well" in registry.failures[0].cause
    )
