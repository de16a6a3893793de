"""The failure of one rank ends the run of the others, whatever they are doing; real gloo processes."""

import pytest

from glowplug.exceptions import RankFailedError

# What rank 1 does, and how rank 0 describes it.
FAILURES = {
    "step": "ValueError: at iteration 6",
    "handler": "ValueError: at iteration 6",
    "data": "OSError: file 6",
    "interrupt": "KeyboardInterrupt",
    "evaluator": "ValueError: in the evaluator",
    "completed": "ValueError: at COMPLETED",
    "arguments": "ValueError: an epoch must have at least one iteration, got epoch length 0",
}


def fail(rank):
    """Rank 1 fails in the way that the file ``how.txt`` names; both ranks return what they saw."""
    import contextlib
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    import torch

    from glowplug import Engine, Events

    how = Path(sys.path[0], "how.txt").read_text()
    fired = []
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 2))

    def step(engine, batch):
        if rank == 1 and engine.state.iteration == 6:
            if how == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            if how in ("step", "sleeps", "tries again", "waits for data"):
                raise ValueError(f"at iteration {engine.state.iteration}")
        model(batch).sum().backward()

    class Data:
        def __len__(self):
            return 0 if how == "arguments" and rank == 1 else 10

        def __iter__(self):
            for number in range(10):
                if rank == 1 and number == 6 and how == "data":
                    raise OSError(f"file {number}")
                if rank == 0 and number == 5 and how == "waits for data":
                    time.sleep(60)
                yield torch.ones(2)

    trainer, evaluator = Engine(step), Engine(lambda engine, batch: model(batch))

    @trainer.on(Events.ITERATION_COMPLETED(once=6))
    def handle():
        if rank == 1 and how == "handler":
            raise ValueError("at iteration 6")
        if how == "evaluator":
            evaluator.run(Data())

    @trainer.on(Events.ITERATION_COMPLETED(once=5))
    def sleep():
        if rank == 0 and how == "sleeps":
            time.sleep(60)

    @trainer.on(Events.ITERATION_COMPLETED(once=5))
    def try_again():
        for _ in range(2 * (rank == 0 and how == "tries again")):
            with contextlib.suppress(Exception):
                time.sleep(60)

    @trainer.on(Events.COMPLETED)
    def complete():
        if rank == 1 and how == "completed":
            raise ValueError("at COMPLETED")

    @evaluator.on(Events.EPOCH_COMPLETED)
    def handle_evaluation():
        if rank == 1:
            raise ValueError("in the evaluator")

    for engine, name in ((trainer, "trainer"), (evaluator, "evaluator")):

        @engine.on(Events.EXCEPTION_RAISED)
        def see(engine, error, name=name):
            fired.append([name, type(error).__name__])

        @engine.on(Events.TEARDOWN)
        def tear_down(engine, name=name):
            fired.append([name, "TEARDOWN"])

    began = time.monotonic()
    try:
        trainer.run(Data())
    except BaseException as error:
        cause = type(error.__cause__).__name__
        result = [f"{type(error).__name__}: {error}", cause, fired, time.monotonic() - began]
        # The process lives on, as in a notebook or in a script that catches the error.
        time.sleep(3 * rank)
        return result


@pytest.fixture
def fail_on_rank_1(run_ranks, tmp_path):
    """Run ``fail`` on several ranks, and return what they saw."""

    def run(how, size=2):
        (tmp_path / "how.txt").write_text(how)
        return run_ranks(fail, size)

    return run


@pytest.mark.parametrize("how", FAILURES)
def test_failure(fail_on_rank_1, how):
    """The failed rank raises its own exception; the other one raises an error that names the rank and the exception (D1)."""
    other, failed = fail_on_rank_1(how)
    kind, _, text = FAILURES[how].partition(": ")
    assert failed[0].startswith(f"{kind}: {text}" if text else kind)
    assert ["trainer", kind] in failed[2] or how == "arguments"
    iteration = {"arguments": 0, "completed": 10}.get(how, 6)
    assert other[0].startswith(f"RankFailedError: rank 1 failed at iteration {iteration}: {FAILURES[how]}")
    assert other[2][-2:] == [["trainer", "RankFailedError"], ["trainer", "TEARDOWN"]]
    assert max(other[3], failed[3]) < 10


@pytest.mark.parametrize("how", ["sleeps", "tries again", "waits for data"])
def test_rank_outside_collectives(fail_on_rank_1, how):
    """A rank that sleeps or waits for data for a minute notices the failure of another rank within ten seconds (D1)."""
    other, _ = fail_on_rank_1(how)
    assert other[0].startswith("RankFailedError: rank 1 failed at iteration 6: ValueError: at iteration 6")
    # The one that tries again notices the failure when the next step fails.
    assert other[1] == ("RuntimeError" if how == "tries again" else "NoneType")
    assert other[2] == [["trainer", "RankFailedError"], ["trainer", "TEARDOWN"]]
    assert other[3] < 10


def test_four_ranks(fail_on_rank_1):
    """All ranks notice the failure, those that are no neighbours of the failed rank included (D1)."""
    results = fail_on_rank_1("step", 4)
    assert results[1][0] == "ValueError: at iteration 6"
    for other in (results[0], *results[2:]):
        assert other[0].startswith(
            "RankFailedError: rank 1 failed at iteration 6: ValueError: at iteration 6"
        )
        assert other[1] == "RuntimeError"
        assert other[3] < 10


def test_default_backend(run_ranks):
    """A rank that waits in a collective of a group whose backends were chosen by torch notices the failure (D1)."""

    def scenario(rank):
        import sys
        import time

        import torch.distributed as dist

        from glowplug import Engine
        from glowplug.distributed import barrier

        dist.destroy_process_group()
        dist.init_process_group(init_method=f"file://{sys.path[0]}/default-store", rank=rank, world_size=2)

        def step(engine, batch):
            if rank == 1 and batch == 3:
                raise ValueError("3")
            barrier()

        began = time.monotonic()
        try:
            Engine(step).run(range(5))
        except Exception as error:
            seconds = time.monotonic() - began
            # The process lives on.
            time.sleep(12 * rank)
            return f"{type(error).__name__}: {error}", seconds

    (other, seconds), (failed, _) = run_ranks(scenario)
    assert other.startswith("RankFailedError: rank 1 failed at iteration 4: ValueError: 3")
    assert failed == "ValueError: 3"
    assert seconds < 10


def test_next_run(run_ranks):
    """After one rank or all have failed, the next run of the same processes works, unless the step was in a collective."""

    def scenario(rank):
        from glowplug import Engine

        def step(engine, batch):
            if batch == 3 or (batch == 2 and rank == 1):
                raise ValueError(batch)

        outcomes = []
        for data in ([1, 3], [1, 2, 1], [1], [3], [1, 1]):
            try:
                outcomes.append(Engine(step).run(data).outcome.name)
            except (ValueError, RuntimeError) as error:
                outcomes.append(str(error))
        return outcomes

    failed = "rank 1 failed at iteration 2: ValueError: 2"
    assert run_ranks(scenario) == [
        ["3", failed, "COMPLETED", "3", "COMPLETED"],
        ["3", "2", "COMPLETED", "3", "COMPLETED"],
    ]


def test_keys_of_former_processes(run_ranks):
    """A failure that former processes have left in the store does not concern the processes that replace them (D1)."""

    def scenario(rank):
        from glowplug.distributed import barrier
        from glowplug.engine._rank_link import Failure, RankLink

        links = []
        # Each process opens its first link in this way; torchrun keeps the store.
        for _ in range(2):
            links.append(RankLink())
            links[-1].begin_watch()
            if len(links) == 1:
                links[0].publish(Failure(0, "ValueError", "the loss is negative", 5))
            barrier()
        return [link.failure() for link in links]

    assert run_ranks(scenario) == [[[0, "ValueError", "the loss is negative", 5], None]] * 2


def test_message_fails(run_ranks):
    """An exception without a message is raised all the same, and the other rank learns its name."""

    def scenario(rank):
        from glowplug import Engine

        class BadError(RuntimeError):
            def __str__(self):
                raise KeyError("no message")

        def step(engine, batch):
            if rank == 1:
                raise BadError

        try:
            Engine(step).run(range(5), agree_every=1)
        except BadError:
            return "BadError"
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    message = "RankFailedError: rank 1 failed at iteration 1: BadError: <exception str() failed>"
    assert run_ranks(scenario) == [message, "BadError"]


@pytest.mark.parametrize("are_alike", [True, False])
def test_caught_failure_of_an_evaluator(run_ranks, tmp_path, are_alike):
    """If all ranks catch the failure of an evaluator, they continue; if one rank does, all end instead of waiting (D1)."""
    (tmp_path / "alike.txt").write_text("yes" if are_alike else "no")

    def scenario(rank):
        import sys
        import time
        from pathlib import Path

        from glowplug import Engine, Events
        from glowplug.distributed import barrier

        are_alike = Path(sys.path[0], "alike.txt").read_text() == "yes"

        def evaluate(engine, batch):
            if batch == 2 and (rank == 1 or are_alike):
                raise ValueError("in the evaluator")
            barrier()

        trainer, evaluator = Engine(lambda engine, batch: None), Engine(evaluate)

        @trainer.on(Events.ITERATION_COMPLETED(once=3))
        def validate():
            try:
                evaluator.run(range(4))
            except ValueError:
                time.sleep(1)

        began = time.monotonic()
        try:
            return trainer.run(range(8)).outcome.name, time.monotonic() - began < 10
        except RuntimeError as error:
            return f"{type(error).__name__}: {error}", time.monotonic() - began < 10

    expected = "COMPLETED"
    if not are_alike:
        expected = "RankFailedError: rank 1 failed at iteration 3: ValueError: in the evaluator"
    assert run_ranks(scenario) == [[expected, True]] * 2


def test_signal_handler_is_restored(run_ranks):
    """After a run, the handler of the signal that interrupts a waiting rank is the former one."""

    def scenario(rank):
        import signal

        from glowplug import Engine, Events

        seen = []
        engine = Engine(lambda engine, batch: None)
        engine.add_event_handler(
            Events.STARTED, lambda: seen.append(callable(signal.getsignal(signal.SIGURG)))
        )
        engine.run([1])
        seen.append(signal.getsignal(signal.SIGURG) == signal.SIG_DFL)
        signal.signal(signal.SIGURG, signal.SIG_IGN)
        engine.run([1])
        seen.append(signal.getsignal(signal.SIGURG) == signal.SIG_IGN)
        return seen

    assert run_ranks(scenario) == [[True, True, False, True]] * 2


def test_error():
    """The error names the rank, the iteration and the exception, and can be pickled."""
    import pickle

    error = pickle.loads(pickle.dumps(RankFailedError(3, "KeyboardInterrupt", "", 7)))
    assert str(error) == "rank 3 failed at iteration 7: KeyboardInterrupt"
    assert (error.rank, error.exception, error.message, error.iteration) == (3, "KeyboardInterrupt", "", 7)
