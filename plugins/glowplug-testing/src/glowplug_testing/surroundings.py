"""What surrounds the thing under check: the process, which it must leave as it was, and the world, which may not be there."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from glowplug_testing.checks import CheckSkipped, require

_Probe = tuple[str, Callable[[], Any], Callable[[Any], object]]


def _signals() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _restore_signals(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


def _root_logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    return root.level, tuple(root.handlers), logging.root.manager.disable, logging.getLoggerClass()


def _restore_logging(state: tuple[Any, ...]) -> None:
    root = logging.getLogger()
    root.setLevel(state[0])
    root.handlers[:] = state[1]
    logging.disable(state[2])
    logging.setLoggerClass(state[3])


def _generators() -> list[Any]:
    states: list[Any] = [random.getstate()]
    if "numpy" in sys.modules:
        name, keys, *rest = sys.modules["numpy"].random.get_state()
        states.append((name, keys.tolist(), rest))
    torch: Any = sys.modules.get("torch")
    if hasattr(torch, "get_rng_state"):
        states.append(torch.get_rng_state().tolist())
    return states


def _defaults() -> Any:
    torch: Any = sys.modules.get("torch")
    if not hasattr(torch, "get_default_dtype"):
        return None
    return torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads()


def _nothing(_: Any) -> None:
    """Leave it: it cannot be put back, or need not be."""


_PROBES: tuple[_Probe, ...] = (
    (
        "it installs a signal handler, which belongs to the user; restore it, or do so only when asked",
        _signals,
        _restore_signals,
    ),
    (
        "it configures logging (the root logger's handlers or level), which is the user's; use logging.getLogger(__name__)",
        _root_logging,
        _restore_logging,
    ),
    (
        "it draws from the global random generators, so that training differs with it; use random.Random()",
        _generators,
        _nothing,
    ),
    ("it changes defaults of torch: dtype, grad mode or number of threads", _defaults, _nothing),
    ("it changes the working folder", os.getcwd, os.chdir),
    ("it replaces sys.excepthook", lambda: sys.excepthook, lambda hook: setattr(sys, "excepthook", hook)),
)


@contextlib.contextmanager
def left_as_it_was() -> Iterator[None]:
    """Require that the block leaves the process as it was: signals, logging, random generators, folder, output, threads."""
    before = [read() for _, read, _ in _PROBES]
    threads = set(threading.enumerate())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        yield
    problems = []
    for (text, read, restore), value in zip(_PROBES, before, strict=True):
        if read() != value:
            problems.append(text)
            restore(value)
    if printed.getvalue().strip():
        problems.append(
            f"it prints {printed.getvalue().strip()[:200]!r}; use the logging module, or let the user say where to"
        )
    left = [
        thread.name
        for thread in set(threading.enumerate()) - threads
        if thread.is_alive() and not thread.daemon
    ]
    if left:
        problems.append(
            f"it leaves a thread that keeps the process from ending ({', '.join(left)}); make it a daemon, and end it"
        )
    require(not problems, "; ".join(problems))


_is_refused: Callable[[], bool] = bool  # whether the thread that asks can reach nothing now
_is_hooked = False


@contextlib.contextmanager
def unreachable_world(*, everywhere: bool = False) -> Iterator[None]:
    """Let nothing be reached: opening a file to write, making a folder and connecting raise ``OSError``.

    Args:
        everywhere: on all threads of the process, instead of this one alone.
    """
    global _is_refused, _is_hooked  # noqa: PLW0603 - an audit hook stays for good, so there is one
    if not _is_hooked:
        sys.addaudithook(_refuse)
        _is_hooked = True
    own = threading.get_ident()
    _is_refused = lambda: everywhere or threading.get_ident() == own  # noqa: E731 - it is taken back below
    try:
        yield
    finally:
        _is_refused = bool


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if not _is_refused():
        return
    if event == "open":
        path, mode, flags = args
        writes = set(mode) & set("wax+") if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR)
        if writes and "__pycache__" not in str(path) and not str(path).startswith("/dev/"):
            raise OSError(errno.EROFS, "nothing can be written", str(path))
    elif event in {"os.mkdir", "socket.connect"} or (event == "sqlite3.connect" and args[0] != ":memory:"):
        where = args[-1] if event == "socket.connect" else args[0]
        raise OSError(errno.ECONNREFUSED, "nothing can be reached", f"{event} {where}")


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Let no byte more be written to any file, by anybody in this process.

    A thread of the backend's own may die of it: that is not reported, what becomes of its records is looked at.

    Raises:
        CheckSkipped: the system cannot do this.
    """
    try:
        import resource
    except ImportError:
        raise CheckSkipped("this system has no limit on the size of files to play a full disk with") from None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    hook, threading.excepthook = threading.excepthook, _nothing
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        threading.excepthook = hook
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
