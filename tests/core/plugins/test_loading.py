"""Loading of one plugin module: its API version, its hooks and their results."""

import pytest

from glowplug.plugins import Registry

API = "GLOWPLUG_API = 1\n"
IMPORTS = "from glowplug.hookspecs import Offer, hookimpl\nGLOWPLUG_API = 1\n"
SPEC = "Offer(name='Shout', target='acme_noise.handler:Shout')"


def load(site, source):
    """Load a plugin module beside a healthy one, and assert that the healthy one loads."""
    site.add_handler("acme-healthy", "Healthy")
    site.add("acme-noise", source)
    registry = Registry.from_entry_points(site.entry_points(), {})
    assert registry.resolve("handler", "Healthy").__name__ == "Healthy"
    return registry


FAULTS = {
    "no API version": ("", "add GLOWPLUG_API = 1"),
    "another API version": (
        "GLOWPLUG_API = 2",
        "sets GLOWPLUG_API = 2, but the installed glowplug requires 1",
    ),
    "missing dependency": (API + "import acme_nosuch", "ModuleNotFoundError: No module named 'acme_nosuch'"),
    "syntax error": (API + "def broken(:", "SyntaxError"),
    "exits": (API + "raise SystemExit(3)", "SystemExit: 3"),
    "skips a test": (
        API + "import pytest; pytest.skip('no GPU', allow_module_level=True)",
        "Skipped: no GPU",
    ),
    "unknown hook": (
        API + "def glowplug_offer(): return []",
        "unknown hook glowplug_offer(); did you mean glowplug_offers()?",
    ),
    "unknown decorated hook": (
        IMPORTS + "@hookimpl(specname='glowplug_offering')\ndef metrics(): return []",
        "unknown hook glowplug_offering(); did you mean glowplug_offers()?",
    ),
    "unlike any hook": (
        API + "def glowplug_zzzz(): return []",
        "the hooks are glowplug_doctor, glowplug_offers",
    ),
    "wrong argument": (
        API + "def glowplug_to_scalar(val): return None",
        "{'val'} are declared in the hookimpl but can not be found in the hookspec; write def glowplug_to_scalar(value)",
    ),
    "argument too many": (
        IMPORTS + "@hookimpl\ndef glowplug_offers(engine): return []",
        "write def glowplug_offers()",
    ),
    "no function": (API + "glowplug_offers = []", "the hook glowplug_offers must be a function; got []"),
    "async": (API + "async def glowplug_offers(): return []", "is async; write def glowplug_offers()"),
    "raises": (
        API + "def glowplug_offers(): return 1 / 0",
        "glowplug_offers() failed: ZeroDivisionError",
    ),
    "exits in a hook": (
        API + "def glowplug_offers(): raise SystemExit",
        "glowplug_offers() failed: SystemExit",
    ),
    "raises halfway": (
        IMPORTS + f"def glowplug_offers():\n    yield {SPEC}\n    1 / 0",
        "glowplug_offers() failed: ZeroDivisionError",
    ),
    "bad spec": (
        IMPORTS + "def glowplug_offers(): return [Offer(name='Shout', target='acme.Shout')]",
        "target must have the form 'module:attribute'",
    ),
    "returns nothing": (API + "def glowplug_offers(): pass", "must return a list of Offer objects; got None"),
    "returns text": (
        API + "def glowplug_offers(): return 'Shout'",
        "must return a list of Offer objects; got 'Shout'",
    ),
    "returns a number": (API + "def glowplug_offers(): return 3", "TypeError"),
    "returns a bare spec": (IMPORTS + f"def glowplug_offers(): return {SPEC}", "TypeError"),
    "returns something else": (
        IMPORTS + f"def glowplug_offers(): return [{SPEC}, 'Shout']",
        "glowplug_offers() must return a list of Offer objects; got the item 'Shout'",
    ),
    "offers a handler and a logger of one name": (
        IMPORTS + f"def glowplug_offers(): return [{SPEC}, Offer('Shout', 'a:B', 'logger')]",
        "offers Shout more than once",
    ),
    "offers twice": (
        IMPORTS + f"def glowplug_offers(): return [{SPEC}, {SPEC}]",
        "offers Shout more than once",
    ),
    "asks for other plugins": (
        API + "from glowplug.handlers import Healthy",
        "the plugin module accesses handlers or metrics of plugins at import time",
    ),
}


@pytest.mark.parametrize(("source", "cause"), FAULTS.values(), ids=FAULTS)
def test_failure_names_its_cause(site, source, cause):
    """A faulty module gives one failure that names plugin, distribution, version, cause and remedy (P1)."""
    registry = load(site, source)
    (failure,) = registry.failures
    assert (failure.name, failure.distribution, failure.version) == ("acme-noise", "acme-noise", "1.0")
    assert cause in failure.cause
    assert "pip install --upgrade" in failure.remedy
    assert "GLOWPLUG_DISABLED_PLUGINS=acme-noise" in failure.remedy
    assert [plugin.name for plugin in registry.plugins] == ["acme-healthy"]


GOOD = {
    "decorated": IMPORTS + f"@hookimpl\ndef glowplug_offers(): return [{SPEC}]",
    "undecorated": IMPORTS + f"def glowplug_offers(): return [{SPEC}]",
    "generator": IMPORTS + f"def glowplug_offers(): yield {SPEC}",
    "tuple": IMPORTS + f"def glowplug_offers(): return ({SPEC},)",
    "other function name": IMPORTS
    + f"@hookimpl(specname='glowplug_offers')\ndef handlers(): return [{SPEC}]",
    "optional hook": IMPORTS + f"def glowplug_offers(): return [{SPEC}]\n"
    "@hookimpl(optionalhook=True)\ndef glowplug_of_tomorrow(): pass",
    "helper of that prefix from elsewhere": "from glowplug.plugins._loading import describe_error as glowplug_helper\n"
    + IMPORTS
    + f"def glowplug_offers(): return [{SPEC}]",
}


@pytest.mark.parametrize("source", GOOD.values(), ids=GOOD)
def test_ways_to_write_a_hook(site, source):
    """A hook is recognised by decorator or name, and may return any iterable of offers."""
    registry = load(site, source)
    assert registry.failures == ()
    assert registry.names("handler") == ["Healthy", "Shout"]


def test_plugin_without_hooks_loads(site):
    """A module without hooks loads without a failure."""
    registry = load(site, API)
    assert registry.failures == ()
    assert registry.plugins[1].hooks == ()


def test_failed_plugin_is_unregistered(site):
    """The hooks of a plugin that fails after registration are not called."""
    source = "def glowplug_to_scalar(value): return 1.0\ndef glowplug_offers(): return 3"
    registry = load(site, API + source)
    assert len(registry.failures) == 1
    assert registry.to_scalar(object()) is None


def test_interrupt_during_import(site):
    """KeyboardInterrupt during the import of a plugin propagates."""
    site.add("acme-noise", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        Registry.from_entry_points(site.entry_points(), {})


def test_same_module_under_two_names(site):
    """The second of two entry points with one module is a failure."""
    site.add("acme-noise", name="a")
    site.add("acme-other", name="b", value="acme_noise._plugin")
    registry = Registry.from_entry_points(site.entry_points(), {})
    assert [plugin.name for plugin in registry.plugins] == ["a"]
    assert "the module acme_noise._plugin also belongs to plugin a (acme-noise)" in registry.failures[0].cause


def test_failure_has_plugin_distribution_and_hook(site):
    """The exception has plugin, distribution and hook as attributes."""
    registry = load(site, API + "def glowplug_offers(): return 1 / 0")
    (failure,) = registry.failures
    assert (failure.exception.plugin, failure.exception.distribution) == ("acme-noise", "acme-noise")
    assert failure.exception.hook == "glowplug_offers"


def test_failure_outside_a_hook_has_no_hook(site):
    """The attribute `hook` is None if no hook failed."""
    (failure,) = load(site, "GLOWPLUG_API = 2").failures
    assert failure.exception.plugin == "acme-noise"
    assert failure.exception.hook is None
