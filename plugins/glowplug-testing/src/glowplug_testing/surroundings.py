"""Environment of the object under test: state of the process, and simulated I/O faults."""

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
    # A logger that another test did not close leaves glowplug's handler, which the next close() of any logger removes.
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {
        number: signal.SIG_DFL if getattr(handler, "__module__", "") == "glowplug.loggers._exit" else handler
        for number, handler in handlers.items()
    }


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


def _do_not_restore(_: Any) -> None:
    """Do nothing; used for state that cannot or need not be restored."""


_PROBES: tuple[_Probe, ...] = (
    (
        "the code under test installs a signal handler; do so only if the user requests it, and restore the previous one",
        _signals,
        _restore_signals,
    ),
    (
        "the code under test configures the root logger, which belongs to the user; use logging.getLogger(__name__)",
        _root_logging,
        _restore_logging,
    ),
    (
        "the code under test uses a global random generator, which changes the training results; use random.Random()",
        _generators,
        _do_not_restore,
    ),
    (
        "the code under test changes a default of torch (dtype, grad mode or number of threads); restore the default",
        _defaults,
        _do_not_restore,
    ),
    ("the code under test changes the working directory; use absolute paths", os.getcwd, os.chdir),
    (
        "the code under test replaces sys.excepthook; restore the previous hook",
        lambda: sys.excepthook,
        lambda hook: setattr(sys, "excepthook", hook),
    ),
)


@contextlib.contextmanager
def unchanged_process() -> Iterator[None]:
    """Require that the ``with`` block does not print, leave threads running, or change global state of the process."""
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
            f"the code under test prints {printed.getvalue().strip()[:200]!r}; use the logging module, or add an option for the "
            "output file"
        )
    left = [
        thread.name
        for thread in set(threading.enumerate()) - threads
        if thread.is_alive() and not thread.daemon
    ]
    if left:
        problems.append(
            f"the code under test leaves non-daemon threads running, which keep the process alive: {', '.join(left)}; end these "
            "threads, or create them with daemon=True"
        )
    require(not problems, "; ".join(problems))


# Returns whether the current thread is prevented from opening files and connections.
_is_refused: Callable[[], bool] = bool
_is_hooked = False


@contextlib.contextmanager
def no_files_or_connections(*, on_all_threads: bool = False) -> Iterator[None]:
    """Raise ``OSError`` when a file is opened for writing, a directory is created or a connection is opened.

    Args:
        on_all_threads: Whether to raise on all threads of the process. By default, only the current thread is affected.
    """
    global _is_refused, _is_hooked  # noqa: PLW0603 - an audit hook cannot be removed, so there is only one
    if not _is_hooked:
        sys.addaudithook(_refuse)
        _is_hooked = True
    current = threading.get_ident()
    _is_refused = lambda: on_all_threads or threading.get_ident() == current  # noqa: E731 - reset below
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
            raise OSError(errno.EROFS, "read-only file system", str(path))
    elif event in {"os.mkdir", "socket.connect"} or (event == "sqlite3.connect" and args[0] != ":memory:"):
        where = args[-1] if event == "socket.connect" else args[0]
        raise OSError(errno.ECONNREFUSED, "unreachable", f"{event} {where}")


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Make every write to a file fail in this process.

    Exceptions in threads are not printed, because the checks that simulate a full disk examine the stored data instead.

    Raises:
        CheckSkipped: If the system cannot limit the size of files.
    """
    try:
        import resource
    except ImportError:
        raise CheckSkipped(
            "this check simulates a full disk with the Python module resource, which this system lacks"
        ) from None
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    hook, threading.excepthook = threading.excepthook, _do_not_restore
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        threading.excepthook = hook
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
