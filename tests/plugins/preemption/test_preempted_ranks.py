"""Preemption over several ranks: real signals to real gloo processes."""

import pytest


def preempted(rank):
    """Run a job that a signal ends, as the file ``how.json`` describes; return where and how the run of this rank ended."""
    import json
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    from glowplug import Engine, Events, Phase
    from glowplug.distributed import barrier
    from glowplug.exceptions import PreemptionExit
    from glowplug_preemption import Preemption

    how = json.loads(Path(sys.path[0], "how.json").read_text())
    saved, requeued = [], []
    os.environ["PATH"] = f"{sys.path[0]}:{os.environ['PATH']}"
    os.environ["SLURM_JOB_ID"] = str(rank)

    class Save:
        phase = Phase.CHECKPOINT

        def __call__(self, engine):
            saved.append(engine.state.iteration)
            # A save in which all ranks take part.
            barrier()

    def step(engine, batch):
        time.sleep(0.001 * (1 + rank))
        if engine.state.iteration == how["at"] and rank in how["ranks"]:
            os.kill(os.getpid(), getattr(signal, how["signal"]))

    trainer = Engine(step)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=100), Save())
    handler = Preemption(
        max_minutes=how["minutes"][rank], requeue=True, signals=["SIGTERM", "SIGUSR1", "SIGINT"]
    )
    handler.attach(trainer, Events.ITERATION_COMPLETED(every=how["every"]))
    if how["at"] == "end" and rank in how["ranks"]:
        trainer.add_event_handler(
            Events.COMPLETED, lambda: os.kill(os.getpid(), getattr(signal, how["signal"]))
        )
    before = signal.getsignal(signal.SIGTERM)
    try:
        trainer.run(range(60), max_epochs=2)
    except PreemptionExit as end:
        state = trainer.state
        restored = signal.getsignal(signal.SIGTERM) == before
        requeued = sorted(each.name for each in Path(sys.path[0]).glob("requeued-*"))
        return end.code, state.iteration, state.outcome.name, saved, handler.reason, restored, requeued


@pytest.fixture
def preempt(run_ranks, tmp_path):
    """Run ``preempted`` on several ranks, and return the common result."""
    import json

    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\ntouch "{tmp_path}/requeued-$2"\n')
    scontrol.chmod(0o755)

    def run(size=2, **how):
        options = {"at": 30, "ranks": [1], "signal": "SIGUSR1", "minutes": [None] * size, "every": 1}
        (tmp_path / "how.json").write_text(json.dumps({**options, **how}))
        results = run_ranks(preempted, size)
        # Rank 0 requeues after the other ranks may have ended.
        requeued = {name for *_, names in results for name in names}
        assert [each[:-1] for each in results] == [results[0][:-1]] * size
        return (*results[0][:-1], sorted(requeued))

    return run


@pytest.mark.parametrize(("size", "ranks"), [(2, [1]), (2, [0]), (2, [0, 1]), (4, [2])])
def test_signal(preempt, size, ranks):
    """After a signal to one rank or to all, all ranks save at the same iteration and end with the same exit code (C6, D1)."""
    code, iteration, outcome, saved, reason, restored, requeued = preempt(size, ranks=ranks)
    assert (code, outcome, reason, restored) == (75, "INTERRUPTED", "SIGUSR1", True)
    assert 30 < iteration <= 120
    assert saved == [iteration]
    assert requeued == ["requeued-0"]


def test_accumulation(preempt):
    """The run ends at an iteration at which the handler was attached, although the vote ended at another one."""
    _, iteration, _, saved, *_ = preempt(every=7)
    assert iteration % 7 == 0 or iteration % 60 == 0
    assert saved == [iteration]


def test_cancelled(preempt):
    """SIGTERM, with which jobs are cancelled, requeues nothing, whichever rank received it."""
    assert preempt(signal="SIGTERM")[4:] == ("SIGTERM", True, [])


def test_time_limit(preempt):
    """The first rank whose time is over ends the run of all ranks."""
    code, *_, reason, _, requeued = preempt(at=None, minutes=[None, 0.05 / 60])
    assert (code, reason, requeued) == (75, "max_minutes", ["requeued-0"])


def test_signal_after_the_last_iteration(preempt):
    """A signal to one rank after the last iteration ends all ranks with the same exit code."""
    code, iteration, outcome, saved, reason, restored, _ = preempt(at="end")
    assert (code, iteration, outcome, reason, restored) == (75, 120, "INTERRUPTED", "SIGUSR1", True)
    assert saved == [120]
