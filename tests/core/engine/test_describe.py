"""Engine.describe() and its HTML form."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from glowplug import Engine, EventEnum, Events, Phase
from glowplug.engine import Delegate
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
    """Do nothing."""


@pytest.fixture(autouse=True)
def no_plugins():
    """Hide installed plugins; tests that need plugins install them."""
    with use_registry(Registry([])):
        yield


@pytest.fixture(
    params=[lambda: Engine(lambda engine, batch: batch), FakeEngine], ids=["Engine", "FakeEngine"]
)
def engine(request):
    """Return the real engine and the fake."""
    return request.param()


class Cells(HTMLParser):
    """HTML parser that collects a table's cells and tags."""

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
    """Return the table's cells, and assert that text and HTML agree."""
    header, *lines = engine.describe().splitlines()
    edges = [header.index(column) for column in COLUMNS]
    cut = [
        [line[begin:end].strip() for begin, end in zip(edges, [*edges[1:], None], strict=True)]
        for line in lines
    ]
    assert Cells(engine._repr_html_()).rows == [COLUMNS, *cut]
    return cut


def only_odd(engine, counter):
    """Return whether the counter is odd."""
    return counter % 2


class TestNames:
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
    def test_methods_and_partials(self, engine, handler, shown):
        """Methods are shown with the class of their object, partials with the function they call."""
        engine.add_event_handler(Events.COMPLETED, handler)
        ((_, _, _, name, origin),) = cells(engine)
        assert (name, origin) == (shown, HERE)

    def test_builtin_method(self, engine):
        """A method of a builtin type is shown with its name and origin."""
        engine.add_event_handler(Events.COMPLETED, [].append, 1)
        assert cells(engine) == [["Events.COMPLETED", "user", "", "list.append", "builtins"]]

    def test_plugin_and_distribution(self, engine, site):
        """Objects of a plugin are shown with the plugin, subclasses of the user with the user's module."""
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
            engine.add_event_handler(Events.STARTED, module.Shout().filter, None)
            engine.add_event_handler(Events.STARTED, module.shout)
            engine.add_event_handler(Events.STARTED, type("Mine", (module.Shout,), {"__module__": HERE})())
            assert [row[3:] for row in cells(engine)] == [
                ["Shout", "shout (acme-shout 1.4)"],
                ["Shout.filter", "shout (acme-shout 1.4)"],
                ["shout", "shout (acme-shout 1.4)"],
                ["Mine", HERE],
            ]


class TestRows:
    def test_empty_engine(self, engine):
        """Both forms of an engine without handlers are one sentence."""
        assert engine.describe() == "Nothing is attached to this engine."
        assert engine._repr_html_() == "<p>Nothing is attached to this engine.</p>"

    def test_calling_order(self, engine):
        """Rows are sorted by event, phase and registration, with custom events last."""
        engine.register_events("halftime", Backprop.STARTED)
        engine.add_event_handler(Backprop.STARTED, note)
        engine.add_event_handler("halftime", note)
        engine.add_event_handler(Events.TEARDOWN, note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, Saver())
        engine.add_event_handler(Events.EPOCH_COMPLETED, note)
        engine.add_event_handler(Events.EPOCH_COMPLETED, len, "")
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
    def test_filters(self, engine, options, shown):
        """A filter is shown as in the call that creates it."""
        engine.add_event_handler(Events.ITERATION_STARTED(**options), note)
        assert cells(engine) == [["Events.ITERATION_STARTED", "user", shown, "note", HERE]]

    def test_log_handlers(self, engine):
        """The row of a log handler names logger and handler, and the logger's origin."""
        with Quiet() as logger:
            logger.attach(
                engine, Events.EPOCH_COMPLETED(every=2), OutputHandler("training", metric_names="all")
            )
            assert cells(engine) == [
                ["Events.EPOCH_COMPLETED", "logging", "every=2", "Quiet <- OutputHandler", HERE],
                ["Events.INTERRUPT", "logging", "", "Quiet._run_ended", HERE],
                ["Events.TEARDOWN", "logging", "", "Quiet._run_ended", HERE],
            ]

    def test_removed_handlers(self, engine):
        """Handlers that a handle has removed are not shown."""
        handle = engine.add_event_handler(Events.STARTED, note)
        engine.add_event_handler(Events.STARTED, len, "")
        handle.remove()
        assert [row[3] for row in cells(engine)] == ["len"]


class TestText:
    def test_neither_truncated_nor_coloured(self, engine, monkeypatch):
        """Long names stay on one line without colour codes, whatever the terminal."""
        monkeypatch.setenv("COLUMNS", "20")
        monkeypatch.setenv("FORCE_COLOR", "1")
        long = type("A" * 300, (Saver,), {})()
        engine.add_event_handler(Events.EPOCH_COMPLETED, long)
        table = engine.describe()
        assert "A" * 300 in table
        assert "\x1b" not in table
        assert len(table.splitlines()) == 2
        assert all(line == line.rstrip() for line in table.splitlines())

    def test_names_are_not_markup(self, engine):
        """Names that look like markup are shown literally in both forms."""
        attack = "<script>alert('x')</script>&amp;[bold]"
        engine.register_events(attack)

        def handler(engine):
            pass

        handler.__qualname__ = handler.__module__ = attack
        engine.add_event_handler(attack, handler)
        page = engine._repr_html_()
        assert Cells(page).tags == {"table", "thead", "tbody", "tr", "th", "td"}
        assert cells(engine) == [[attack, "user", "", attack, attack]]


class TestImports:
    def test_plugins_are_loaded_for_a_table_only(self, monkeypatch):
        """describe() loads plugins only if handlers are attached."""
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

    def test_rich_is_imported_for_a_table_only(self):
        """The library rich is imported only when describe() needs a table."""
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


class Helper(Delegate):
    def begin(self, engine):
        pass


def test_method_of_a_delegate():
    """A method of an object that works for a handler is shown with the handler's name and origin."""
    engine, helper = FakeEngine(), Helper()
    helper.owner, helper.label = Saver(), "Saver"
    engine.add_event_handler(Events.STARTED, helper.begin)
    assert engine.describe().splitlines()[1].split() == ["Events.STARTED", "user", "Saver", HERE]
