"""Where a run stands: what an engine saves, and how it gets back there."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from itertools import repeat
from typing import Any, TypeAlias

from glowplug.engine import _data_pass, _rng
from glowplug.engine._handler_table import HandlerTable
from glowplug.engine._run_plan import is_done, position_of
from glowplug.state import RunOutcome

Loop: TypeAlias = Generator[None, None, RunOutcome]


class Resumable(HandlerTable):
    """A dispatcher that knows where its run stands, and can save it and go on from there.

    ``Engine`` adds the loop to it, which keeps this up to date.
    """

    def __init__(self) -> None:
        super().__init__()
        self.state_dict_user_keys: list[str] = []
        self._is_running = False
        self._loop: Loop | None = None  # suspended by interrupt()
        self._iterator: Iterator[Any] | None = None  # of the pass under way
        self._pass: _data_pass.DataPass | None = None  # the pass under way, or the last one
        self._in_epoch = False  # between EPOCH_STARTED and EPOCH_COMPLETED
        self._epoch_start = 0  # the iteration before the first one of the epoch
        self._stepped = 0  # the last iteration whose step was done
        self._was_loaded = False
        self._resuming: Mapping[str, Any] | None = None  # where a loaded state stands, until the run is there
        self._random_state: Mapping[str, Any] | None = None  # that of a loaded state, the same

    def state_dict(self) -> dict[str, Any]:
        """Return what a later run needs to go on with the very next batch (E-180).

        Counters, limits, ``state_dict_user_keys``, the state of stateful handlers, and where in the data and in the
        random numbers the engine is. All of it loads with ``torch.load(weights_only=True)``. Called from the step, or
        from a handler before it, it is the state before that iteration.

        Example:
            >>> from glowplug import Engine
            >>> engine = Engine(lambda engine, batch: batch)
            >>> _ = engine.run([1, 2], max_epochs=3)
            >>> state = engine.state_dict()
            >>> state["iteration"], state["epoch_length"], state["max_epochs"], state["resume"]["epoch"]
            (6, 2, 3, 3)
        """
        state = self.state
        limit = "max_epochs" if state.max_iters is None else "max_iters"
        handlers = self._stateful.state_dict(self)
        # An iteration whose step is not done does not count: its batch comes again.
        iteration = self._stepped if self._stepped == state.iteration - 1 else state.iteration
        return {
            "epoch_length": state.epoch_length or None,  # data without a batch leaves nothing to go on with
            "iteration": iteration,
            limit: getattr(state, limit),
            **{key: getattr(state, key) for key in self.state_dict_user_keys},
            **({"handlers": handlers} if handlers else {}),
            **({"resume": self._place(iteration)} if iteration or state.epoch else {}),
        }

    def _place(self, iteration: int) -> dict[str, Any]:
        """Return where the engine is after an iteration: in its epoch, in its data, in the random numbers."""
        loaded = self._resuming  # what is still to be gone on with is saved as it was loaded
        epoch_iterations, data = None, None
        if loaded is not None:
            epoch_iterations, data = loaded["epoch_iterations"], loaded["data"]
        elif self._pass is not None:
            data = self._pass.position(iteration)
        if self._in_epoch:
            epoch_iterations = iteration - self._epoch_start
        return {
            "format": _data_pass.FORMAT,
            "epoch": self.state.epoch - self._in_epoch,
            "epoch_iterations": epoch_iterations,
            "data": data,
            "random": _rng.capture() if self._random_state is None else self._random_state,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take a state that :meth:`state_dict` returned; the next run() goes on from there (E-181, E-182).

        Args:
            state_dict: needs ``epoch_length``, one of ``iteration`` and ``epoch``, one of ``max_epochs`` and
                ``max_iters``, and each of ``state_dict_user_keys``; further keys are ignored.

        Raises:
            TypeError: not a mapping.
            ValueError: a key is missing, the numbers contradict each other, or the state was written in a format that
                this version does not know. Nothing has been loaded then.
            RuntimeError: the engine is running: it was called from the step or from a handler.
        """
        if self._is_running:
            raise RuntimeError(
                "load_state_dict() was called while this engine is running, which would leave its data where it is; call "
                "it before run(), or call engine.terminate() here, load after run() has returned, and run() again"
            )
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"an engine's state is a mapping, got {type(state_dict).__name__}")
        for group in (("epoch_length",), ("iteration", "epoch"), ("max_epochs", "max_iters")):
            if sum(key in state_dict for key in group) != 1:
                raise ValueError(
                    f"an engine's state must have exactly one of {' and '.join(group)}; got the keys {list(state_dict)}"
                )
        missing = [key for key in self.state_dict_user_keys if key not in state_dict]
        if missing:
            raise ValueError(
                f"state_dict_user_keys asks for {', '.join(missing)}, which the state does not have; got the keys "
                f"{list(state_dict)}"
            )
        place = state_dict.get("resume")
        if place is not None:
            _data_pass.check_format(place)
        iteration, epoch = position_of(state_dict)
        state = self.state
        self._loop = self._iterator = self._pass = None
        self._in_epoch = False
        if place is None:  # made by hand, or saved before the first epoch: the data begins anew
            within = iteration % (state_dict["epoch_length"] or 1)
            place = {"epoch_iterations": within or None, "data": None, "random": None}
        self._resuming, self._random_state = place, place["random"]
        self._stepped = iteration
        state.epoch_length = state_dict["epoch_length"]
        state.iteration, state.epoch = iteration, epoch
        state.max_epochs, state.max_iters = state_dict.get("max_epochs"), state_dict.get("max_iters")
        state.outcome = None
        self._was_loaded = True
        for key in self.state_dict_user_keys:
            setattr(state, key, state_dict[key])
        self._stateful.load_state_dict(state_dict.get("handlers", {}))

    def _is_within_loaded_epoch(self) -> bool:
        """Return whether a loaded state stands within an epoch that is still to be gone on with."""
        return self._resuming is not None and self._resuming["epoch_iterations"] is not None

    def _has_epoch_to_do(self) -> bool:
        state = self.state
        if self._is_within_loaded_epoch():  # which may have no more to do than to be completed
            return not self._is_cut_short() and (state.max_epochs is None or state.epoch < state.max_epochs)
        return not is_done(state, state.max_epochs, state.max_iters)

    def _is_cut_short(self) -> bool:
        """Return whether max_iters ends the run inside an epoch (E-104)."""
        state = self.state
        return (
            state.iteration == state.max_iters and state.iteration - self._epoch_start != state.epoch_length
        )

    def _begin_epoch(self, done: int) -> None:
        """Count the epoch's iterations from here, less those done already: a handler may have set the counters (E-175)."""
        self._epoch_start = self.state.iteration - done
        self._stepped = self.state.iteration

    def _end_epoch(self, *, early: bool) -> int:
        """Note that no epoch is under way any more, and return how many iterations the last one had."""
        done = self.state.iteration - self._epoch_start
        self._in_epoch = False
        self._epoch_start = self._stepped = self.state.iteration
        if self._resuming is not None:
            self._resuming = {**self._resuming, "epoch_iterations": None}
        if early:
            self._iterator = self._pass = None
        return done

    def _restore_random_state(self) -> None:
        """After a load, let the random numbers go on where they were: past the handlers that ran again on the way."""
        states, self._random_state = self._random_state, None
        if states is not None:
            _rng.restore(states)

    def _begin_pass(self) -> None:
        """Take an iterator over the data: a new one, or after a load the one that was left."""
        state, place, self._resuming = self.state, self._resuming, None
        if state.dataloader is None:
            self._pass, self._iterator = None, repeat(None)
            return
        if place is not None and place["data"] is not None:
            self._pass, self._iterator = _data_pass.resumed(state.dataloader, state.iteration, place["data"])
        else:
            self._pass = _data_pass.DataPass(state.dataloader, state.iteration)
            self._iterator = self._pass.begin()
