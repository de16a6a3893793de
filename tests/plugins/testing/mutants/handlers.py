"""A correct handler, and mutants with one fault each."""

import logging
import random
import threading
import time

from glowplug import Events, Phase, RemovableEventHandle
from glowplug.distributed import barrier, rank


class Best:
    """Records the accuracy of each epoch and the best one."""

    phase = Phase.USER

    def __init__(self, state_key=None):
        self.state_key = state_key or type(self).__name__
        self.best = None
        self.history = []

    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        handle = engine.add_event_handler(event_name, self)
        return RemovableEventHandle.join(handle, engine.register_state(self.state_key, self))

    def __call__(self, engine):
        metrics = engine.state.metrics
        if "accuracy" not in metrics:
            raise ValueError(f"metric 'accuracy' is missing; engine.state.metrics has {list(metrics)}")
        self.history.append(metrics["accuracy"])
        self.best = max(self.history)

    def state_dict(self):
        return {"best": self.best, "history": list(self.history)}

    def load_state_dict(self, state):
        self.best, self.history = state["best"], list(state["history"])


# Attaching


class ReturnsNothing(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        super().attach(engine, event_name)


class LeavesARegistration(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        engine.add_event_handler(Events.STARTED, self.begin)
        return super().attach(engine, event_name)

    def begin(self):
        self.history = []


class LeavesItsState(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        engine.register_state(self.state_key, self)
        return engine.add_event_handler(event_name, self)


class RegistersInARun(Best):
    def __call__(self, engine):
        super().__call__(engine)
        engine.add_event_handler(Events.TEARDOWN, self.end)

    def end(self):
        pass


class NamesItEvent(Best):
    def attach(self, engine, event=Events.EPOCH_COMPLETED):
        return super().attach(engine, event)


class IgnoresTheEvent(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        return super().attach(engine)


class IsHalfAttached(Best):
    attached = False

    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        handle = super().attach(engine, event_name)
        if self.attached:
            raise ValueError("IsHalfAttached is already attached; remove its handle first")
        self.attached = True
        return handle


class IsAttachedOnce(Best):
    attached = False

    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        if self.attached:
            return RemovableEventHandle()
        self.attached = True
        return super().attach(engine, event_name)


class RemovesFromAll(Best):
    def __init__(self):
        super().__init__()
        self.handles = []

    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        self.handles.append(super().attach(engine, event_name))
        return RemovableEventHandle(self.remove)

    def remove(self):
        for handle in self.handles:
            handle.remove()


class KeepsTheEngine(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        self.engine = engine
        return super().attach(engine, event_name)


class StopsAtAttach(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        engine.terminate()
        return super().attach(engine, event_name)


class NeedsAnEvent(Best):
    def attach(self, engine, event_name):
        return super().attach(engine, event_name)


class TakesTwoArguments(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        return engine.add_event_handler(event_name, lambda e: self(e, "accuracy"))

    def __call__(self, engine, name):
        return engine.state.metrics[name]


class IsNoHandler:
    pass


# Runs


class NeedsTheRealEngine(Best):
    def __call__(self, engine):
        engine.set_data([0, 1, 2])
        super().__call__(engine)


class NeedsTheFake(Best):
    def __call__(self, engine):
        self.events = len(engine.fired)
        super().__call__(engine)


class ReadsPrivateAttributes(Best):
    def __call__(self, engine):
        self.events = len(engine._channels)
        super().__call__(engine)


class SwallowsExceptions(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        handle = engine.add_event_handler(Events.EXCEPTION_RAISED, lambda error: True)
        return RemovableEventHandle.join(handle, super().attach(engine, event_name))


class SwallowsCtrlC(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        handle = engine.add_event_handler(
            Events.EXCEPTION_RAISED, lambda error: isinstance(error, KeyboardInterrupt)
        )
        return RemovableEventHandle.join(handle, super().attach(engine, event_name))


class MutatesTheOutput(Best):
    def __call__(self, engine):
        engine.state.output.pop("loss")
        super().__call__(engine)


class ReplacesTheOutput(Best):
    def __call__(self, engine):
        engine.state.output = None
        super().__call__(engine)


class RoundsTheMetrics(Best):
    def __call__(self, engine):
        super().__call__(engine)
        engine.state.metrics["accuracy"] = round(engine.state.metrics["accuracy"])


class CountsForItself(Best):
    def __call__(self, engine):
        super().__call__(engine)
        engine.state.epoch += 1


class WorksOnce(Best):
    def __call__(self, engine):
        if engine.state.epoch <= len(self.history):
            raise RuntimeError("this epoch was already recorded")
        super().__call__(engine)


class PhaseIsAString(Best):
    phase = "checkpoint"


class Sleeps(Best):
    def __call__(self, engine):
        time.sleep(0.06)
        super().__call__(engine)


class RaisesKeyError(Best):
    def __call__(self, engine):
        self.history.append(engine.state.metrics["accuracy"])
        self.best = max(self.history)


# State


class StateIsNotRegistered(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        # The engine adds the state of an object, but not that of a bound method's object.
        return engine.add_event_handler(event_name, self.__call__)


class StateIsAnObject(Best):
    def state_dict(self):
        return {"best": self.best, "history": self.history[:], "seen": History(self.history)}

    def load_state_dict(self, state):
        super().load_state_dict(state)


class History:
    def __init__(self, values):
        self.values = values


class StateIsNotLoaded(Best):
    def load_state_dict(self, state):
        self.best = state["best"]


class StateIsHalf(Best):
    load_state_dict = None


class StateSharesAList(Best):
    def state_dict(self):
        return {"best": self.best, "history": self.history}


class StateCanBeChanged(Best):
    def __init__(self):
        super().__init__()
        self.kept = {"values": {}}

    def state_dict(self):
        return self.kept

    def load_state_dict(self, state):
        self.kept = state


class CannotBePickled(Best):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


# Processes


class WaitsInTheConstructor(Best):
    def __init__(self):
        super().__init__()
        barrier()


class StopsOneRank(Best):
    def __call__(self, engine):
        super().__call__(engine)
        if rank() == 1:
            engine.state.max_epochs = engine.state.epoch


class WaitsOnOneRank(Best):
    def __call__(self, engine):
        super().__call__(engine)
        if rank() == 0:
            barrier()


class Prints(Best):
    def __call__(self, engine):
        super().__call__(engine)
        print(self.best)


class ConfiguresLogging(Best):
    def __init__(self):
        super().__init__()
        logging.getLogger().addHandler(logging.NullHandler())


class Seeds(Best):
    def attach(self, engine, event_name=Events.EPOCH_COMPLETED):
        random.seed(7)
        return super().attach(engine, event_name)
