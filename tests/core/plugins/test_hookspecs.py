"""The specifications: what they refuse, and that their examples are plugins."""

import dataclasses
import inspect
import re
import textwrap

import pytest

from glowplug import hookspecs
from glowplug.hookspecs import Check, EventSpec, HandlerSpec, MetricSpec
from glowplug.plugins import Registry
from glowplug.plugins._loading import HOOKS


@pytest.mark.parametrize("spec", [HandlerSpec, MetricSpec, EventSpec])
@pytest.mark.parametrize(
    "target",
    ["acme.shout", "acme.shout:", ":Shout", "acme shout:Shout", "acme/shout.py:Shout", "a:b:c", 3, print],
)
def test_target_that_is_no_text_of_module_and_attribute_is_refused(spec, target):
    """A target must be the text 'module:attribute', and the error shows one."""
    with pytest.raises(
        ValueError, match=r"'Shout': target must be the text 'module:attribute', as in 'acme_shout"
    ):
        spec(name="Shout", target=target)


@pytest.mark.parametrize("spec", [HandlerSpec, MetricSpec, EventSpec])
@pytest.mark.parametrize("name", ["", "my handler", "_Hidden", "3D", None])
def test_name_that_could_not_be_imported_is_refused(spec, name):
    """A name must be usable in an import statement."""
    with pytest.raises(ValueError, match=f"{spec.__name__} name must be a public Python name"):
        spec(name=name, target="acme.shout:Shout")


def test_unknown_kind_is_refused_with_the_known_ones():
    """The error lists the kinds to choose from."""
    with pytest.raises(ValueError, match="'handler', 'logger', 'log_handler', 'save_handler'; got 'tracker'"):
        HandlerSpec(name="Shout", target="acme.shout:Shout", kind="tracker")


def test_unknown_check_status_is_refused():
    """A finding that is neither good nor bad cannot be shown."""
    with pytest.raises(ValueError, match="'ok', 'warning', 'error'; got 'fine'"):
        Check(name="token", status="fine")


@pytest.mark.parametrize("spec", [HandlerSpec, MetricSpec, EventSpec])
def test_summary_must_be_text(spec):
    """A summary that is no text would break the tables of the command line."""
    with pytest.raises(ValueError, match="summary must be text; got 3"):
        spec(name="Shout", target="acme.shout:Shout", summary=3)


@pytest.mark.parametrize("spec", [HandlerSpec, MetricSpec, EventSpec])
def test_specs_are_frozen(spec):
    """Nobody can change what a plugin offers after it was checked."""
    offer = spec(name="Shout", target="acme.shout:Shout")
    with pytest.raises(dataclasses.FrozenInstanceError):
        offer.name = "Whisper"


@pytest.mark.parametrize("hook", HOOKS)
def test_example_in_the_docstring_of_each_hook_is_a_plugin(hook, site):
    """The code block of every hook's docstring loads as a plugin module and implements that hook."""
    documentation = inspect.getdoc(getattr(hookspecs, hook))
    block = re.search(r"::\n\n((?:    .*\n|\n)+)", documentation)[1]
    site.add("acme-example", textwrap.dedent(block))
    registry = Registry.from_entry_points(site.entry_points(), {})
    assert registry.failures == ()
    assert registry.plugins[0].hooks == (hook,)
