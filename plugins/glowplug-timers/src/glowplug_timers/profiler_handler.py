"""The handler that writes traces of torch.profiler."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glowplug import Events, RemovableEventHandle
from glowplug.distributed import rank, world_size
from glowplug.engine import EngineReference, describe_handler
from glowplug.typing import AnyEvent, EngineProtocol, RegistrationProtocol

if TYPE_CHECKING:
    import torch


class ProfilerHandler:
    """Profile some iterations of a run with ``torch.profiler``, and write them as traces.

    The traces are JSON files in the format of Chrome, named ``*.pt.trace.json``. TensorBoard shows them with the plugin
    ``torch-tb-profiler``, and https://ui.perfetto.dev shows a single file. In a trace, each handler appears under its name and
    event, next to the operations of torch.

    A cycle skips ``wait`` iterations, profiles ``warmup`` iterations without recording them, and records ``active`` iterations. If
    the run ends within a cycle, even because of an exception, what was recorded is written. ``interrupt()`` ends the
    profile; the next ``run()`` begins the first cycle again.

    Args:
        dirname: Folder of the traces. A process in a group of several writes a file for its rank.
        wait: Iterations at the beginning of each cycle that are not profiled. Defaults to 1.
        warmup: Iterations that are profiled but not recorded, because the profiler itself is slow at first. Defaults to 1.
        active: Iterations that are recorded in each cycle. Defaults to 3.
        repeat: Number of cycles; 0 means until the end of the run. Defaults to 1.
        skip_first: Iterations before the first cycle. Defaults to 0.
        on_trace_ready: Function of the ``torch.profiler.profile`` that is called after each cycle, instead of writing a file.
        **options: Further options of ``torch.profiler.profile``, such as ``record_shapes``, ``profile_memory`` or ``with_stack``.

    Attributes:
        profile: The ``torch.profiler.profile`` of the current or last run; ``None`` before the first run.

    Raises:
        ValueError: If a number of iterations is not an integer, is negative, or is 0 for ``active``, or if neither or both of
            ``dirname`` and ``on_trace_ready`` are given.
        TypeError: If an option is unknown, or is ``schedule``, which the handler sets itself.

    Example:
        >>> import tempfile
        >>> from glowplug import Engine
        >>> trainer = Engine(lambda engine, batch: batch)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = ProfilerHandler(folder, wait=1, warmup=1, active=2).attach(trainer)
        ...     _ = trainer.run(range(10))
        ...     [path.suffix for path in Path(folder).iterdir()]
        ['.json']
    """

    def __init__(
        self,
        dirname: str | Path | None = None,
        *,
        wait: int = 1,
        warmup: int = 1,
        active: int = 3,
        repeat: int = 1,
        skip_first: int = 0,
        on_trace_ready: Callable[[torch.profiler.profile], Any] | None = None,
        **options: Any,
    ) -> None:
        counts: dict[str, Any] = {
            "wait": wait,
            "warmup": warmup,
            "active": active,
            "repeat": repeat,
            "skip_first": skip_first,
        }
        for name, count in counts.items():
            if not isinstance(count, int) or count < (name == "active"):
                raise ValueError(
                    f"ProfilerHandler: {name} must be an integer of at least {int(name == 'active')}, got {count!r}"
                )
        if (dirname is None) == (on_trace_ready is None):
            raise ValueError("ProfilerHandler needs either dirname or on_trace_ready")
        _check_options(options)
        self._counts = counts
        self._dirname = None if dirname is None else str(dirname)
        self._on_trace_ready = on_trace_ready
        self._options = options
        self._engine = EngineReference(None)
        self._is_on = False
        self.profile: torch.profiler.profile | None = None

    def attach(
        self, engine: EngineProtocol, event_name: AnyEvent = Events.ITERATION_COMPLETED
    ) -> RemovableEventHandle:
        """Profile the runs of an engine.

        Args:
            engine: The engine.
            event_name: Event that ends a step of the schedule.

        Returns:
            A handle that detaches the handler, and ends the profile.

        Raises:
            ValueError: If the handler is already attached to an engine.
        """
        if self._engine() is not None:
            raise ValueError(
                "this ProfilerHandler is already attached to an engine; create another one, or remove the handle of the first "
                "attach()"
            )
        with ExitStack() as undo:
            undo.callback(self._detach)
            undo.enter_context(engine.wrap_handlers(self._named))
            undo.enter_context(engine.add_event_handler(Events.STARTED, self._start))
            undo.enter_context(engine.add_event_handler(event_name, self))
            undo.enter_context(engine.add_event_handler(Events.INTERRUPT | Events.TEARDOWN, self._stop))
            self._engine = EngineReference(engine)
            return RemovableEventHandle(undo.pop_all().close)

    def _detach(self) -> None:
        self._engine = EngineReference(None)
        self._stop()

    def __call__(self, engine: EngineProtocol) -> None:
        """End a step of the schedule; after an interruption, begin the schedule again.

        Args:
            engine: The engine.
        """
        if not self._is_on or self.profile is None:
            self._start()
            return
        try:
            with warnings.catch_warnings():
                # Each cycle has its own trace, so no event is missed.
                warnings.filterwarnings("ignore", message=".*Profiler clears events at the end of each cycle")
                self.profile.step()
        except BaseException:
            # The trace may have ended already; to end it twice would crash the process.
            self._is_on = False
            raise

    def _start(self) -> None:
        from torch.profiler import profile, schedule, tensorboard_trace_handler

        self._stop()
        ready = self._on_trace_ready
        if ready is None:
            # Without a name, torch takes the name of the host and the process.
            name = f"rank{rank()}" if world_size() > 1 else None
            ready = tensorboard_trace_handler(str(self._dirname), worker_name=name)
        self.profile = profile(schedule=schedule(**self._counts), on_trace_ready=ready, **self._options)
        self.profile.start()
        self._is_on = True

    def _stop(self) -> None:
        if self._is_on and self.profile is not None:
            self._is_on = False
            self.profile.stop()

    def _named(self, registration: RegistrationProtocol, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call of a handler that appears in the trace."""
        handler = registration.handler
        if handler is self or getattr(handler, "__self__", None) is self:
            return call
        name = f"{describe_handler(handler)} at {registration.event}"

        def recorded(*arguments: Any) -> Any:
            if not self._is_on:
                return call(*arguments)
            from torch.profiler import record_function

            with record_function(name):
                return call(*arguments)

        return recorded

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "profile": None, "_is_on": False}


def _check_options(names: Iterable[str]) -> None:
    """Raise an error if an option is not one of ``torch.profiler.profile``, or is set by the handler."""
    from torch.profiler import profile

    known = inspect.signature(profile).parameters.keys() - {"schedule", "use_cuda"}
    for name in names:
        if name == "schedule":
            raise TypeError(
                "ProfilerHandler creates the schedule itself; pass wait, warmup, active, repeat and skip_first instead"
            )
        if name not in known:
            hint = "".join(f". Did you mean {match}?" for match in get_close_matches(name, known, n=1))
            raise TypeError(f"ProfilerHandler: torch.profiler.profile has no option {name!r}{hint}")
