"""Call a function on two ranks of a gloo process group."""

from __future__ import annotations

import importlib.util
import os
import pickle
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from glowplug import distributed
from glowplug_testing.checks import CheckFailed, CheckSkipped

SECONDS = 30.0


class _Child(NamedTuple):
    pid: int
    pipe: int


def on_two_ranks(function: Callable[[int], Any], seconds: float = SECONDS) -> list[Any]:
    """Call ``function(rank)`` on two ranks of a real process group and return both results.

    The ranks are forks of this process, so the function can use all objects of the test, such as fixtures.

    Args:
        function: Function to call; its result must be picklable.
        seconds: Time limit, in seconds.

    Raises:
        CheckSkipped: If torch or ``os.fork`` is missing, or if this process already belongs to a process group.
        CheckFailed: If, on any rank, the function raises an exception, ends the process or exceeds the time limit.
    """
    if importlib.util.find_spec("torch") is None:
        raise CheckSkipped("this check runs two ranks and therefore needs torch, which is not installed")
    if not hasattr(os, "fork") or distributed.is_initialized():
        raise CheckSkipped(
            "this check runs two ranks; it needs os.fork() and a test process that does not yet belong to a process group"
        )
    # Import the module once, before the fork.
    import torch.distributed  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        children = [_fork(function, rank, Path(folder) / "store", seconds) for rank in range(2)]
        try:
            return _answers(children, seconds)
        finally:
            for child in children:
                os.close(child.pipe)
                # The id of a process that has ended stays valid until waitpid().
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)


def _fork(function: Callable[[int], Any], rank: int, store: Path, seconds: float) -> _Child:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python warns that the parent's threads do not exist in the child; the child does not need them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(pid, reading)
    os.close(reading)
    answer: tuple[bool, Any] = (False, "the code under test ended the process")
    try:
        answer = (True, _as_rank(function, rank, store, seconds))
    except BaseException:  # noqa: BLE001 - reported to the parent process
        answer = (False, traceback.format_exc())
    finally:
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        # The child must not run the parent's exit handlers.
        os._exit(0)


def _as_rank(function: Callable[[int], Any], rank: int, store: Path, seconds: float) -> Any:
    import torch

    # The threads of the parent do not exist in a fork.
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=seconds)
    )
    # Otherwise a rank might end before the other connects to it, which would look like a crash.
    torch.distributed.barrier()
    return function(rank)


def _answers(children: list[_Child], seconds: float) -> list[Any]:
    limit = time.monotonic() + seconds
    received = [b"", b""]
    waiting = {child.pipe: rank for rank, child in enumerate(children)}
    while waiting:
        ready, _, _ = select.select(list(waiting), [], [], max(0.0, limit - time.monotonic()))
        if not ready:
            ranks = " and ".join(f"rank {rank}" for rank in waiting.values())
            raise CheckFailed(
                f"{ranks} did not finish within {seconds:g} s; all ranks must call each collective (all_reduce, broadcast, barrier) "
                "the same number of times"
            )
        for pipe in ready:
            data = os.read(pipe, 65536)
            received[waiting[pipe]] += data
            if not data:
                del waiting[pipe]
    answers = [
        pickle.loads(data) if data else (False, "the code under test ended the process")  # noqa: S301 - data of a fork
        for data in received
    ]
    for rank, (succeeded, answer) in enumerate(answers):
        if not succeeded:
            raise CheckFailed(f"rank {rank} of two failed:\n{answer}")
    return [answer for _, answer in answers]
