"""Two ranks: a function in two processes that are joined by gloo, whatever it closes over."""

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
    """Call ``function(rank)`` on two ranks of a real process group, and return what each returned.

    The two are forks of this process, so that the function may use whatever is there, fixtures of a test included.

    Args:
        function: what each rank does; returns something that can be pickled.
        seconds: how long it may take.

    Raises:
        CheckSkipped: there is no torch here, no fork, or this process is a rank itself.
        CheckFailed: it raised on a rank, or did not end in time, as when one rank waits for the other in vain.
    """
    if importlib.util.find_spec("torch") is None:
        raise CheckSkipped("two ranks need torch")
    if not hasattr(os, "fork") or distributed.is_initialized():
        raise CheckSkipped("two ranks are made by fork, in a process that is none")
    import torch.distributed  # noqa: F401 - before the fork, so that it is imported once

    with tempfile.TemporaryDirectory() as folder:
        children = [_fork(function, rank, Path(folder) / "store", seconds) for rank in range(2)]
        try:
            return _answers(children, seconds)
        finally:
            for child in children:
                os.close(child.pipe)
                os.kill(
                    child.pid, signal.SIGKILL
                )  # one that has ended waits to be asked for, so the id is still its own
                os.waitpid(child.pid, 0)


def _fork(function: Callable[[int], Any], rank: int, store: Path, seconds: float) -> _Child:
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python warns of threads that are not there in the child. The function starts its own.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(writing)
        return _Child(pid, reading)
    os.close(reading)
    answer: tuple[bool, Any] = (False, "it ended the process")
    try:
        answer = (True, _as_rank(function, rank, store, seconds))
    except BaseException:  # noqa: BLE001 - the other process is told
        answer = (False, traceback.format_exc())
    finally:
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)  # without what the parent has registered for its end


def _as_rank(function: Callable[[int], Any], rank: int, store: Path, seconds: float) -> Any:
    import torch

    torch.set_num_threads(1)  # the threads of the parent are not here
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=seconds)
    )
    torch.distributed.barrier()  # a rank that ended before the other had connected to it would look like a crash
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
                f"{ranks} did not come to an end within {seconds:g} s. A collective (all_reduce, broadcast, barrier...) waits for "
                "all ranks: each of them must come to it, equally often"
            )
        for pipe in ready:
            data = os.read(pipe, 65536)
            received[waiting[pipe]] += data
            if not data:
                del waiting[pipe]
    answers = [pickle.loads(data) if data else (False, "it ended the process") for data in received]  # noqa: S301 - from our own fork
    for rank, (succeeded, answer) in enumerate(answers):
        if not succeeded:
            raise CheckFailed(f"on rank {rank} of two it failed:\n{answer}")
    return [answer for _, answer in answers]
