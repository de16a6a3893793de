"""The table of stops in docs/reference/engine.md, compared with the engine.

Set GLOWPLUG_WRITE_DOCS=1 to write the table instead of comparing it.
"""

from __future__ import annotations

import os
from pathlib import Path

from glowplug import Engine, Events, RunOutcome

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "engine.md"
BEGIN, END = "<!-- table of stops: begin -->\n", "<!-- table of stops: end -->\n"
STEP = "the step"
ROWS = [
    "STARTED", "EPOCH_STARTED", "GET_BATCH_STARTED", "GET_BATCH_COMPLETED", "ITERATION_STARTED", STEP,
    "ITERATION_COMPLETED", "DATALOADER_STOP_ITERATION", "EPOCH_COMPLETED", "COMPLETED", "TERMINATE", "TEARDOWN",
]  # fmt: skip


class StopError(Exception):
    """The exception that the table's failing rows raise."""


def fail(engine):
    """Raise StopError."""
    raise StopError


STOPS = {
    "`terminate()`": lambda engine: engine.terminate(),
    "`terminate(skip_completed=True)`": lambda engine: engine.terminate(skip_completed=True),
    "`terminate_epoch()`": lambda engine: engine.terminate_epoch(),
    "`interrupt()`": lambda engine: engine.interrupt(),
    "an exception": fail,
}


def stopped_at(place, stop):
    """Run and stop at one event; return the events fired afterwards, the outcome and the engine."""
    fired, waiting = [], [stop]

    def reach(here):
        if here == place and waiting:
            fired.clear()
            waiting.pop()(engine)

    engine = Engine(lambda engine, batch: reach(STEP))
    for event in Events:
        engine.add_event_handler(event, lambda *_, name=event.name: fired.append(name))
    for event in Events:
        engine.add_event_handler(event, lambda *_, name=event.name: reach(name))
    if place == "TERMINATE":
        # TERMINATE fires only after a call of terminate().
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), lambda e: e.terminate())
    try:
        engine.run([1, 2], max_epochs=2, epoch_length=3)
    except (StopError, RuntimeError) as error:
        fired.append(type(error).__name__)
    return fired, engine.state.outcome, engine


def cell(place, stop):
    """Return a short description of the events after a stop."""
    undisturbed, _, _ = stopped_at(place, lambda engine: None)
    fired, outcome, engine = stopped_at(place, stop)
    if fired == undisturbed:
        return "no effect"
    if outcome is RunOutcome.INTERRUPTED:
        shown = list(fired)
        fired.clear()
        engine.run()
        assert [name for name in shown if name != "INTERRUPT"] + fired == undisturbed
        return f"{arrows(shown)} ⏸"
    raised = ["RuntimeError"] if fired[-1] == "RuntimeError" else []
    if fired[-1] in {"StopError", "RuntimeError"}:
        fired.pop()
    if place != "TEARDOWN":
        assert fired.count("TEARDOWN") == 1
        assert fired.pop() == "TEARDOWN"
    if "EPOCH_STARTED" in fired:
        return f"{arrows(fired[: fired.index('EPOCH_STARTED')])} → the next epoch"
    return arrows([*raised, *fired]) or "nothing more"


def arrows(names):
    """Join event names with arrows."""
    return " → ".join(f"`{name}`" for name in names)


def table():
    """Return the table as Markdown."""
    lines = [["at", *STOPS], ["---"] * (1 + len(STOPS))]
    lines += [
        [place if place == STEP else f"`{place}`", *(cell(place, stop) for stop in STOPS.values())]
        for place in ROWS
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_table_matches_the_engine():
    """For each kind of stop at each event, docs/reference/engine.md lists the events that fire."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    written, after = rest.split(END)
    if os.environ.get("GLOWPLUG_WRITE_DOCS") == "1":
        PAGE.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
        return
    assert written == table(), "run this test with GLOWPLUG_WRITE_DOCS=1 to update the table"
