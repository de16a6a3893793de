"""Validation of offers and findings, and the example in the module docstring."""

import dataclasses
import re
import textwrap
from typing import get_args

import pytest

from glowplug import hookspecs
from glowplug.hookspecs import Finding, Offer, OfferKind
from glowplug.plugins import Registry


class TestOffer:
    @pytest.mark.parametrize(
        "target",
        ["acme.shout", "acme.shout:", ":Shout", "acme shout:Shout", "acme/shout.py:Shout", "a:b:c", 3, print],
    )
    def test_invalid_target(self, target):
        """A target that is not 'module:attribute' is refused, and the message shows an example."""
        with pytest.raises(
            ValueError, match=r"'Shout': target must have the form 'module:attribute', as in 'acme_shout"
        ):
            Offer("Shout", target)

    @pytest.mark.parametrize("name", ["", "my handler", "_Hidden", "3D", None])
    def test_invalid_name(self, name):
        """A name that is not a public Python name is refused."""
        with pytest.raises(ValueError, match="Offer name must be a public Python name"):
            Offer(name, "acme.shout:Shout")

    def test_unknown_kind(self):
        """An unknown kind is refused, and the message lists the kinds."""
        with pytest.raises(
            ValueError, match="'save_handler', 'policy', 'filter', 'metric', 'event'; got 'tracker'"
        ):
            Offer("Shout", "acme.shout:Shout", kind="tracker")

    @pytest.mark.parametrize("kind", get_args(OfferKind))
    def test_known_kind(self, kind):
        """Each kind of the Literal is accepted."""
        assert Offer("Shout", "acme.shout:Shout", kind).kind == kind

    def test_invalid_summary(self):
        """A summary that is not text is refused."""
        with pytest.raises(ValueError, match="summary must be a string; got 3"):
            Offer("Shout", "acme.shout:Shout", summary=3)

    def test_frozen(self):
        """An offer is immutable."""
        offer = Offer("Shout", "acme.shout:Shout")
        with pytest.raises(dataclasses.FrozenInstanceError):
            offer.name = "Whisper"


class TestFinding:
    def test_unknown_status(self):
        """An unknown status is refused, and the message lists the statuses."""
        with pytest.raises(ValueError, match="'ok', 'warning', 'error'; got 'fine'"):
            Finding("token", "fine")

    @pytest.mark.parametrize("field", ["name", "message", "remedy"])
    def test_invalid_text(self, field):
        """A text field that is not a string is refused."""
        with pytest.raises(ValueError, match=f"{field} must be a string; got 3"):
            Finding(**{"name": "token", "status": "ok", field: 3})


def test_example_is_a_plugin(site):
    """The example in the module docstring loads as a plugin."""
    block = re.search(r"::\n\n((?:    from .*\n)(?:    .*\n|\n)+)", hookspecs.__doc__)[1]
    site.add("acme-example", textwrap.dedent(block))
    registry = Registry.from_entry_points(site.entry_points(), {})
    assert registry.failures == ()
    assert registry.plugins[0].hooks == ("glowplug_offers",)
    assert registry.names("handler") == ["Shout"]
