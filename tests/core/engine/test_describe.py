"""The table of what is attached to an engine."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from glowplug import Engine, EventEnum, Events, Phase
from glowplug.loggers import Logger, OutputHandler
from glowplug.plugins import Registry, get_registry, use_registry
from glowplug.testing import FakeEngine

COLUMNS = ["event", "phase", "filter", "handler", "from"]
HERE = __name__


class Saver:
    phase = Phase.CHECKPOINT

    def __call__(self, engine):
        pass


class Base:
    def look(self, engine):
        pass

    @classmethod
    def glance(cls, engine):
        pass


class Derived(Base):
    pass


class Quiet(Logger):
    def write_scalars(self, scalars, step, timestamp):
        pass


class Backprop(EventEnum):
    STARTED = "backprop_started"


def note(engine, text=""):
    """Do nothing, as a handler of the user."""


@pytest.fixture(autouse=True)
def no_plugins():
    """Describe as where no plugin is installed; the tests of plugins bring their own."""
    with use_registry(Registry([])):
        yield


@pytest.fixture(
    params=[lambda: Engine(lambda engine, batch: batch), FakeEngine], ids=["Engine", "FakeEngine"]
)
def engine(request):
    """The real engine, and the fake one."""
    return request.param()


class Cells(HTMLParser):
    """Reads a table back as a browser does."""

    def __init__(self, page):
        super().__init__()
        self.rows, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_data(self, data):
        if data.strip():
            self.rows[-1][-1] += data


def cells(engine):
    """Return the table's rows as lists of cells, the same from both forms; the text is cut where its columns begin."""
    header, *lines = engine.describe().splitlines()
    edges = [header.index(column) for column in COLUMNS]
    cut = [
        [line[begin:end].strip() for begin, end in zip(edges, [*edges[1:], None], strict=True)]
        for line in lines
    ]
    assert Cells(engine._repr_html_()).rows == [COLUMNS, *cut]
    return cut


def test_empty_engine_is_a_sentence(engine):
    """Without handlers there is a sentence instead of a table, in both forms."""
    assert engine.describe() == "Nothing is attached to this engine."
    assert engine._repr_html_() == "<p>Nothing is attached to this engine.</p>"


def test_rows_stand_in_the_order_in_which_they_run(engine):
    """By event, then phase, then registration, whatever the order of attaching; custom events come last."""
    engine.register_events("halftime", Backprop.STARTED)
    engine.add_event_handler(Backprop.STARTED, note)
    engine.add_event_handler("halftime", note)
    engine.add_event_handler(Events.TEARDOWN, note)
    engine.add_event_handler(Events.EPOCH_COMPLETED, Saver())
    engine.add_event_handler(Events.EPOCH_COMPLETED, note)
    engine.add_event_handler(Events.EPOCH_COMPLETED, len)
    engine.add_event_handler(Events.STARTED, note)
    assert cells(engine) == [
        ["Events.STARTED", "user", "", "note", HERE],
        ["Events.EPOCH_COMPLETED", "user", "", "note", HERE],
        ["Events.EPOCH_COMPLETED", "user", "", "len", "builtins"],
        ["Events.EPOCH_COMPLETED", "checkpoint", "", "Saver", HERE],
        ["Events.TEARDOWN", "user", "", "note", HERE],
        ["halftime", "user", "", "note", HERE],
        ["Backprop.STARTED", "user", "", "note", HERE],
    ]


def only_odd(engine, counter):
    """Let a handler run at odd counters."""
    return counter % 2


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"every": 10}, "every=10"),
        ({"every": 1}, ""),
        ({"once": 3}, "once=3"),
        ({"once": [1, 5]}, "once=[1, 5]"),
        ({"every": 2, "after": 4, "before": 9}, "every=2, after=4, before=9"),
        ({"event_filter": only_odd}, "event_filter=only_odd"),
    ],
)
def test_filters_are_shown_as_they_are_written(engine, options, shown):
    """A filter reads as in the call that made it."""
    engine.add_event_handler(Events.ITERATION_STARTED(**options), note)
    assert cells(engine) == [["Events.ITERATION_STARTED", "user", shown, "note", HERE]]


@pytest.mark.parametrize(
    ("handler", "shown"),
    [
        (Derived().look, "Derived.look"),
        (Derived.glance, "Derived.glance"),
        (functools.partial(functools.partial(note, text="a"), text="b"), "note"),
        (functools.partial(Derived().look), "Derived.look"),
        (functools.partial(Saver()), "Saver"),
    ],
    ids=["inherited method", "class method", "partial", "partial of a method", "partial of an object"],
)
def test_handlers_have_the_names_that_their_users_know(engine, handler, shown):
    """Methods show the class of their object, not the one that defines them; partials show what they call."""
    engine.add_event_handler(Events.COMPLETED, handler)
    ((_, _, _, name, origin),) = cells(engine)
    assert (name, origin) == (shown, HERE)


def test_method_of_a_builtin(engine):
    """A method written in C has a name and an origin too."""
    engine.add_event_handler(Events.COMPLETED, [].append)
    assert cells(engine) == [["Events.COMPLETED", "user", "", "list.append", "builtins"]]


def test_loggers_show_what_they_are_given(engine):
    """A log handler's row names both the logger and the handler, and comes from where the logger does."""
    with Quiet() as logger:
        logger.attach(engine, Events.EPOCH_COMPLETED(every=2), OutputHandler("training", metric_names="all"))
        assert cells(engine) == [
            ["Events.EPOCH_COMPLETED", "logging", "every=2", "Quiet <- OutputHandler", HERE],
            ["Events.INTERRUPT", "logging", "", "Quiet._run_interrupted", HERE],
            ["Events.TEARDOWN", "logging", "", "Quiet._run_ended", HERE],
        ]


def test_plugin_is_named_with_its_distribution(engine, site):
    """A plugin's objects come from it, with the methods they inherit; a subclass of the user's comes from the user."""
    helpers = (
        "import logging\ndef shout(engine): pass\n"
        "class Shout(logging.Filter):\n    def __call__(self): pass\n"
    )
    offer = (
        "from glowplug.hookspecs import Offer, hookimpl\nGLOWPLUG_API = 1\n@hookimpl\n"
        "def glowplug_offers():\n"
        "    return [Offer(name='Shout', target='acme_shout.handler:Shout', summary='Prints.')]\n"
    )
    site.add("acme-shout", offer, name="shout", version="1.4", files={"handler.py": helpers})
    with use_registry(Registry.from_entry_points(site.entry_points())):
        module = importlib.import_module("acme_shout.handler")
        engine.add_event_handler(Events.STARTED, module.Shout())
        engine.add_event_handler(Events.STARTED, module.Shout().filter)
        engine.add_event_handler(Events.STARTED, module.shout)
        engine.add_event_handler(Events.STARTED, type("Mine", (module.Shout,), {"__module__": HERE})())
        assert [row[3:] for row in cells(engine)] == [
            ["Shout", "shout (acme-shout 1.4)"],
            ["Shout.filter", "shout (acme-shout 1.4)"],
            ["shout", "shout (acme-shout 1.4)"],
            ["Mine", HERE],
        ]


def test_handles_take_rows_away(engine):
    """The table is that of the moment: what a handle removes is not shown any more."""
    handle = engine.add_event_handler(Events.STARTED, note)
    engine.add_event_handler(Events.STARTED, len)
    handle.remove()
    assert [row[3] for row in cells(engine)] == ["len"]


def test_nothing_is_cut_or_coloured(engine, monkeypatch):
    """Long names stay whole and on one line in a narrow terminal that is said to have colours."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("FORCE_COLOR", "1")
    long = type("A" * 300, (Saver,), {})()
    engine.add_event_handler(Events.EPOCH_COMPLETED, long)
    table = engine.describe()
    assert "A" * 300 in table
    assert "\x1b" not in table
    assert len(table.splitlines()) == 2
    assert all(line == line.rstrip() for line in table.splitlines())


def test_names_are_never_markup(engine):
    """Names are text, never markup: a tag in the name of an event or a handler stands there as it is, in both forms."""
    attack = "<script>alert('x')</script>&amp;[bold]"
    engine.register_events(attack)

    def handler(engine):
        pass

    handler.__qualname__ = handler.__module__ = attack
    engine.add_event_handler(attack, handler)
    page = engine._repr_html_()
    assert Cells(page).tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert cells(engine) == [[attack, "user", "", attack, attack]]


def test_plugins_are_loaded_only_for_a_table(monkeypatch):
    """An engine without handlers is described without looking for plugins; one with handlers looks."""
    asked = []
    monkeypatch.setattr(
        "glowplug.engine._describe.get_registry", lambda: (asked.append(1), get_registry())[1]
    )
    fake = FakeEngine()
    fake.describe()
    assert not asked
    fake.add_event_handler(Events.STARTED, note)
    fake.describe()
    assert asked


def test_rich_is_imported_for_a_table_only():
    """An engine that is never described does not pay for the library that sets tables."""
    script = (
        "import sys, glowplug\n"
        "engine = glowplug.Engine(lambda engine, batch: batch)\n"
        "engine.add_event_handler(glowplug.Events.STARTED, lambda: None)\n"
        "engine.run([1])\n"
        "assert 'rich' not in sys.modules\n"
        "engine.describe()\n"
        "print('rich' in sys.modules, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"GLOWPLUG_PLUGINS": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("True False", "")
