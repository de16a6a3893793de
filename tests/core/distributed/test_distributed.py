"""glowplug.distributed with one process and with two ranks."""

import subprocess
import sys

import pytest
import torch

from glowplug import distributed


def test_import_without_torch():
    """Rank and world size are available without importing torch."""
    script = "import sys, glowplug.distributed as d; print(d.rank(), d.world_size(), d.is_initialized(), 'torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["0", "1", "False", "False"]


def test_single_process():
    """Without a process group every function returns the result of a single process (D-002)."""
    tensor = torch.arange(3)
    assert (distributed.rank(), distributed.world_size(), distributed.is_initialized()) == (0, 1, False)
    assert distributed.all_reduce(3) == 3
    assert type(distributed.all_reduce(True)) is int
    assert distributed.all_reduce(tensor, "MAX") is tensor
    assert distributed.all_gather("a") == ["a"]
    assert distributed.all_gather(tensor).tolist() == [0, 1, 2]
    assert distributed.all_gather(torch.tensor(5)).tolist() == [5]
    assert distributed.broadcast(7) == 7
    distributed.barrier()
    assert distributed.agree_any(True) is True
    assert distributed.agree_any(False) is False


def test_invalid_arguments():
    """Invalid operations, values and ranks are refused with a single process too."""
    with pytest.raises(ValueError, match="SUM, PRODUCT, MIN, MAX, got 'MEAN'"):
        distributed.all_reduce(1, "MEAN")
    with pytest.raises(TypeError, match="'three' of type str"):
        distributed.all_reduce("three")
    with pytest.raises(ValueError, match="src must be a rank from 0 to 0, got 1"):
        distributed.broadcast(1, src=1)


def test_rank_zero_only():
    """On rank 0 the decorated function keeps its name and result."""

    @distributed.rank_zero_only
    def save(path, *, fast=False):
        """Save."""
        return path, fast

    assert save("a", fast=True) == ("a", True)
    assert (save.__name__, save.__doc__) == ("save", "Save.")


def test_two_ranks(run_ranks):
    """Two gloo processes agree on reduced, gathered and broadcast values, and number types are kept (D-005)."""

    def check(rank):
        import torch

        from glowplug import distributed as d

        tensor = torch.tensor([1.0 + rank, 10.0])
        reduced = {op: d.all_reduce(tensor, op).tolist() for op in d.REDUCE_OPS}
        large = 2**60 + 1
        integers = [d.all_reduce(rank + 1), d.all_reduce(large, "MAX") - large, d.all_reduce(2, "PRODUCT")]
        gathered = d.all_gather(torch.full((rank + 1, 2), rank))
        own = torch.zeros(2) if rank == 0 else torch.ones(2)
        sent = d.broadcast(own if rank else None, src=1)

        @d.rank_zero_only
        def only():
            return "here"

        d.barrier()
        return {
            "where": [d.rank(), d.world_size()],
            "reduced": reduced,
            "unchanged": tensor.tolist(),
            "integers": integers,
            "types": [
                type(n).__name__ for n in (*integers, d.all_reduce(0.5), d.broadcast(0), d.all_reduce(True))
            ],
            "half": d.all_reduce(0.5),
            "gathered": gathered.tolist(),
            "numbers": d.all_gather(torch.tensor(rank)).tolist(),
            "objects": d.all_gather({"rank": rank}),
            "sent": sent.tolist(),
            "object": d.broadcast({"from": rank}, src=1),
            "into own": d.broadcast(torch.full((2,), float(rank))).tolist(),
            "only": only(),
            "any": [d.agree_any(rank == 1), d.agree_any(False)],
        }

    results = run_ranks(check)
    assert [result.pop("where") for result in results] == [[0, 2], [1, 2]]
    assert [result.pop("unchanged") for result in results] == [[1.0, 10.0], [2.0, 10.0]]
    assert [result.pop("only") for result in results] == ["here", None]
    assert results[0] == results[1]
    assert results[0] == {
        "reduced": {"SUM": [3.0, 20.0], "PRODUCT": [2.0, 100.0], "MIN": [1.0, 10.0], "MAX": [2.0, 10.0]},
        "integers": [3, 0, 4],
        "types": ["int", "int", "int", "float", "int", "int"],
        "half": 1.0,
        "gathered": [[0, 0], [1, 1], [1, 1]],
        "numbers": [0, 1],
        "objects": [{"rank": 0}, {"rank": 1}],
        "sent": [1.0, 1.0],
        "object": {"from": 1},
        "into own": [0.0, 0.0],
        "any": [True, False],
    }


def test_shared_interval(monkeypatch):
    """An interval is over when its time has passed, and starts again if it should."""
    now = [100.0]
    monkeypatch.setattr(distributed.time, "monotonic", lambda: now[0])
    interval, begun = distributed.SharedInterval(10), distributed.SharedInterval(10, began=95.0)
    assert not interval.is_over()
    now[0] = 105.0
    assert (interval.is_over(), begun.is_over()) == (False, True)
    now[0] = 110.0
    assert interval.is_over()
    assert interval.is_over(restart=True)
    assert not interval.is_over()
    now[0] = 120.0
    assert interval.is_over()
    interval.reset()
    assert not interval.is_over()


def test_shared_interval_of_two_ranks(run_ranks):
    """The clock of rank 0 decides for both ranks, at the same events, and few of them exchange anything (E-062)."""

    def ranks(rank):
        import time

        from glowplug import Engine, Events, distributed

        clock, sent = [0.0], []
        # The clock of rank 1 runs ten times as fast.
        time.monotonic = lambda: clock[0] * (1 + 9 * rank)
        broadcast = distributed.broadcast
        distributed.broadcast = lambda value: sent.append(1) or broadcast(value)

        def step(engine, batch):
            clock[0] += 1.0

        engine, got = Engine(step), []
        engine.add_event_handler(
            Events.ITERATION_COMPLETED(every_seconds=100), lambda e: got.append(e.state.iteration)
        )
        engine.run(range(350))
        return [got, len(sent) < 60]

    assert run_ranks(ranks) == [[[101, 201, 301], True]] * 2
