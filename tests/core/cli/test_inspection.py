"""Static checks of `glowplug plugins check` on handlers, loggers and metrics."""

import abc
import inspect

import pytest

from glowplug import EventEnum, Events, Phase
from glowplug.cli._lint import WRITE_ARGUMENTS, inspect_offer
from glowplug.hookspecs import Offer
from glowplug.loggers import Logger, Writer

TARGET = "acme_noise.handler:Shout"
LOGGER = Offer("Shout", TARGET, "logger")
HANDLER = Offer("Shout", TARGET)
SAVER = Offer("Shout", TARGET, "save_handler")
POLICY = Offer("Shout", TARGET, "policy")
FILTER = Offer("Shout", TARGET, "filter")
LOG_HANDLER = Offer("Shout", TARGET, "log_handler")
METRIC = Offer("Shout", TARGET, "metric")
EVENT = Offer("Shout", TARGET, "event")


class GoodLogger(Logger):
    def write_scalars(self, scalars, step, timestamp): ...

    def write_params(self, params): ...

    def write_artifact(self, path, name): ...


class GoodHandler:
    phase = Phase.CHECKPOINT

    def attach(self, engine, event=Events.EPOCH_COMPLETED): ...


class BaseHandler(GoodHandler, abc.ABC):
    @abc.abstractmethod
    def more(self): ...


class Callable:
    def __call__(self, *args): ...


class WithProperty(Callable):
    @property
    def phase(self):
        return Phase.LOGGING


class TwoArguments:
    def __call__(self, checkpoint, filename): ...


class GoodPolicy:
    def kept(self, saved): ...


class Static:
    @staticmethod
    def attach(engine): ...


class GoodEvents(EventEnum):
    LOUD = "loud"


def factory():
    """Return an object."""


@pytest.mark.parametrize(
    ("spec", "target"),
    [
        (LOGGER, GoodLogger),
        (LOGGER, factory),
        (HANDLER, GoodHandler),
        (HANDLER, BaseHandler),
        (HANDLER, Callable),
        (HANDLER, WithProperty),
        (HANDLER, Static),
        (SAVER, TwoArguments),
        (SAVER, Callable),
        (POLICY, GoodPolicy),
        (FILTER, Callable),
        (LOG_HANDLER, Callable),
        (METRIC, factory),
        (EVENT, GoodEvents),
    ],
)
def test_valid_targets(spec, target):
    """A valid class, and a factory function, give one positive finding."""
    (finding,) = inspect_offer(spec, target)
    assert (finding.status, finding.message) == ("ok", TARGET)


def define(*bases, **attributes):
    """Return a class with these attributes."""
    return type("Shout", bases, attributes)


async def asynchronous(self, engine):
    """Do something later."""


FAULTS = {
    "logger of another base class": (
        LOGGER,
        define(attach=factory),
        "is not a subclass of glowplug.loggers.Logger",
    ),
    "logger without attach": (
        LOGGER,
        define(),
        "is not a subclass of glowplug.loggers.Logger and has no method attach",
    ),
    "logger without a write method": (
        LOGGER,
        define(Logger),
        "implements neither write_scalars nor write_scalars_batch",
    ),
    "write_scalars without timestamp": (
        LOGGER,
        define(Logger, write_scalars=lambda self, scalars, step: None),
        "write_scalars(self, scalars, step) cannot be called as write_scalars(scalars, step, timestamp)",
    ),
    "write_text with too few parameters": (
        LOGGER,
        define(GoodLogger, write_text=lambda self, text: None),
        "write_text(self, text) cannot be called as write_text(name, text, step, timestamp)",
    ),
    "async write_scalars": (LOGGER, define(GoodLogger, write_scalars=asynchronous), "write_scalars is async"),
    "handler without attach": (HANDLER, define(), "has no method attach, and its instances are not callable"),
    "attach without the engine": (
        HANDLER,
        define(attach=lambda self: None),
        "cannot be called as attach(engine)",
    ),
    "async attach": (HANDLER, define(attach=asynchronous), "attach is async and would never be awaited"),
    "phase of type str": (
        HANDLER,
        define(GoodHandler, phase="logging"),
        "phase = 'logging' is ignored, because it is not a member",
    ),
    "phase of type int": (
        HANDLER,
        define(GoodHandler, phase=2),
        "phase = 2 is ignored, because it is not a member of glowplug.Phase",
    ),
    "abstract handler": (
        HANDLER,
        define(BaseHandler),
        "does not define more",
    ),
    "save handler": (
        SAVER,
        define(__call__=lambda self, checkpoint: None),
        "cannot be called as __call__(checkpoint, filename, metadata)",
    ),
    "save handler without methods": (
        SAVER,
        define(),
        "has no method save, and its instances are not callable",
    ),
    "save handler that cannot list": (
        SAVER,
        define(save=lambda self, checkpoint, filename, metadata=None: None, load=factory),
        "does not define list, remove, locate",
    ),
    "save without metadata": (
        SAVER,
        define(save=lambda self, checkpoint, filename: None),
        "cannot be called as save(checkpoint, filename, metadata)",
    ),
    "policy without a method": (POLICY, define(), "has no method kept"),
    "policy without checkpoints": (POLICY, define(kept=lambda self: []), "cannot be called as kept(saved)"),
    "filter": (
        FILTER,
        define(__call__=lambda self, engine: True),
        "cannot be called as __call__(engine, event)",
    ),
    "log handler": (
        LOG_HANDLER,
        define(__call__=lambda self, engine: None),
        "cannot be called as __call__(engine, logger, event_name)",
    ),
    "metric without methods": (METRIC, define(update=factory), "does not define attach, reset, compute"),
    "metric of another base class": (
        METRIC,
        define(**dict.fromkeys(("attach", "reset", "update", "compute"), factory)),
        "is not a subclass of glowplug.Metric",
    ),
    "events that are a dict": (EVENT, dict, "is not a subclass of glowplug.EventEnum"),
    "events that are a function": (EVENT, factory, "is not a class"),
}


@pytest.mark.parametrize(("spec", "target", "message"), FAULTS.values(), ids=FAULTS)
def test_mistakes(spec, target, message):
    """Each mistake is a finding that names it and the remedy."""
    (finding,) = [each for each in inspect_offer(spec, target) if message in each.message]
    assert finding.status in {"error", "warning"}
    assert finding.remedy


def test_save_handlers():
    """A save handler has the methods of the protocol, as those of the plugins have, or can be called, as in ignite."""
    methods = {
        "save": lambda self, checkpoint, filename, metadata=None: None,
        "list": lambda self: [],
        **dict.fromkeys(("load", "remove", "locate"), lambda self, filename: None),
    }
    for target in (define(**methods), define(__call__=lambda self, checkpoint, filename: None)):
        assert [each.status for each in inspect_offer(SAVER, target)] == ["ok"]


def test_attach_with_more_arguments():
    """A handler whose attach() requires more arguments is a warning."""
    (finding,) = inspect_offer(HANDLER, define(attach=lambda self, engine, optimizer: None))
    assert finding.status == "warning"
    assert "engine.attach(handler) works" in finding.remedy


def test_write_arguments_match_writer():
    """The checked arguments equal the parameters of Writer's methods."""
    for method, arguments in WRITE_ARGUMENTS.items():
        assert ("self", *arguments) == tuple(inspect.signature(getattr(Writer, method)).parameters)
    assert {name for name in vars(Writer) if name.startswith("write_")} <= WRITE_ARGUMENTS.keys()
