"""The reference pages list exactly what the code has."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import torch

import glowplug
from glowplug import (
    Engine,
    EventEnum,
    Events,
    OptimizerEvents,
    TbpttEvents,
    create_supervised_tbptt_trainer,
    create_supervised_trainer,
)
from glowplug.plugins import get_registry
from glowplug_model_checkpoint import CheckpointEvents, ModelCheckpoint

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "reference"
EVENTS = (Events, OptimizerEvents, TbpttEvents, CheckpointEvents)
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
# Other strings in capital letters in modules that read the environment: states and errors of MLflow, and a file of a wheel.
NO_VARIABLES = {
    *("FAILED", "FINISHED", "KILLED", "RUNNING", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"),
    "RECORD",
}


def tables_of_events():
    """Return the rows of each table of events by name: the events, with the other cells."""
    page = (PAGES / "events.md").read_text(encoding="utf-8")
    tables = {}
    for name, table in re.findall(r"^<!-- (\w+) -->\n((?:\|.*\n)+)", page, re.MULTILINE):
        rows = [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in table.splitlines()[2:]]
        tables[name] = {event: cells for event, *cells in rows}
    return tables


def engine_with(events):
    """Return an engine that fires the events of a class."""
    model = torch.nn.RNN(1, 1)
    optimizer = torch.optim.SGD(model.parameters())
    if events is OptimizerEvents:
        return create_supervised_trainer(model, optimizer, torch.nn.functional.mse_loss)
    if events is TbpttEvents:
        return create_supervised_tbptt_trainer(model, optimizer, torch.nn.functional.mse_loss, 1)
    engine = Engine(lambda engine, batch: batch)
    if events is CheckpointEvents:
        ModelCheckpoint("checkpoints", to_save={"model": model}).attach(engine)
    return engine


def test_all_events_are_listed():
    """The tables name each event of the core and of the plugins, and no other."""
    listed = {kind: sorted(rows) for kind, rows in tables_of_events().items()}
    assert listed == {kind.__name__: sorted(kind.__members__) for kind in EVENTS}
    assert get_registry().names("event") == ["CheckpointEvents"]
    public = {name for name in glowplug.__all__ if is_event_enum(getattr(glowplug, name))}
    assert public == {"EventEnum", "Tbptt_Events", *listed} - {"CheckpointEvents"}


def is_event_enum(value):
    """Return whether a value is a class of events."""
    return isinstance(value, type) and issubclass(value, EventEnum)


def test_numbers_of_filters(tmp_path, monkeypatch):
    """The tables name the attribute of the state to which the filters of each event refer."""
    monkeypatch.chdir(tmp_path)
    for kind in EVENTS:
        counters = engine_with(kind).state.event_to_attr
        used = {event.name: counters.get(event, "firings") for event in kind}
        assert {event: cells[1] for event, cells in tables_of_events()[kind.__name__].items()} == used


def test_further_arguments():
    """A handler can receive another argument at exactly those events for which the tables name one."""
    handlers = (lambda engine, error: None, lambda engine, *, iter_counter: None)
    for kind in EVENTS:
        engine = Engine(lambda engine, batch: batch)
        engine.register_events(*kind)
        receive = {event.name: any(accepts(engine, event, handler) for handler in handlers) for event in kind}
        assert {
            event: bool(cells[2]) for event, cells in tables_of_events()[kind.__name__].items()
        } == receive


def accepts(engine, event, handler):
    """Return whether a handler can be added at an event."""
    try:
        engine.add_event_handler(event, handler)
    except ValueError:
        return False
    return True


def test_public_modules():
    """The page on compatibility names each public module of the core; each of them has an ``__all__`` whose names exist."""
    page = (ROOT / "docs" / "explanation" / "compatibility.md").read_text(encoding="utf-8")
    (paragraph,) = re.findall(r"^<!-- modules -->\n((?:.+\n)+)", page, re.MULTILINE)
    listed = re.findall(r"`([\w.]+)`", paragraph)
    modules = [importlib.import_module(name) for name in listed]
    assert all(hasattr(module, name) for module in modules for name in module.__all__)
    # The names of these modules are exported by the package itself; the command line has no names for scripts.
    inner = {"cli", "events", "handles", "phase", "stash", "state", "supervised"}
    names = {module.name for module in pkgutil.iter_modules(glowplug.__path__) if module.name[0] != "_"}
    assert set(listed) == {"glowplug", *(f"glowplug.{name}" for name in names - inner)}


def test_all_environment_variables_are_listed():
    """The page names each environment variable that the core and the plugins read, and no other."""
    page = (PAGES / "environment-variables.md").read_text(encoding="utf-8")
    cells = "\n".join(re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE))
    listed = re.findall(r"`(\w+)`", cells)
    sources = [*ROOT.glob("core/src/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    used = set().union(*map(variables_in, sources))
    assert used > NO_VARIABLES
    assert sorted(listed) == sorted(used - NO_VARIABLES)


def variables_in(path):
    """Return the strings of a module that look like environment variables, if the module reads the environment."""
    text = path.read_text(encoding="utf-8")
    if not re.search(r"\benviron\b|\bgetenv\b|\benvironment_variables\b", text):
        return set()
    tree = ast.parse(text)
    exported = {
        name.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for name in ast.walk(node.value)
        if isinstance(name, ast.Constant)
    }
    strings = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {each for each in strings if VARIABLE.fullmatch(each)} - exported
