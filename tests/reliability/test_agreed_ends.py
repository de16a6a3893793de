"""The ranks of a job end together, whatever ends the run of one of them (promise D1)."""

import json

import pytest

# How the run of one rank ends, and what the other ranks see: the outcome of their run, or an error.
SITUATIONS = {
    "error in the step": "RankFailedError",
    "error in a handler": "RankFailedError",
    "error at the end of an epoch": "RankFailedError",
    "error in the data": "RankFailedError",
    "error in the evaluator": "RankFailedError",
    "Ctrl-C": "RankFailedError",
    "error while the others sleep": "RankFailedError",
    "error while the others wait for data": "RankFailedError",
    "terminate": "TERMINATED",
    "terminate_epoch": "COMPLETED",
    "interrupt": "INTERRUPTED",
    "NaN": "TERMINATED",
    "early stop": "TERMINATED",
    "unequal data": "COMPLETED",
    "unequal data of unknown length": "COMPLETED",
    "SIGTERM to one": "PreemptionExit",
    "SIGTERM to all": "PreemptionExit",
}


# CI runs these; tests/core/engine has tests of the others.
IN_CI = {"error in the step", "NaN", "early stop", "SIGTERM to one", "SIGTERM to all"}


def job(rank):  # noqa: PLR0915 - the other processes get the source of this one function
    """Train with DDP until the situation in the file ``situation.json`` ends the run; return how it ended on this rank."""
    import json
    import os
    import random
    import signal
    import sys
    import time
    import warnings
    from pathlib import Path

    import torch

    from glowplug import Engine, Events, Phase
    from glowplug.distributed import world_size
    from glowplug_early_stopping import EarlyStopping
    from glowplug_preemption import Preemption
    from glowplug_terminate_on_nan import TerminateOnNan

    what, seed = json.loads(Path(sys.path[0], "situation.json").read_text())
    moments = random.Random(seed)
    culprit, at = moments.randrange(world_size()), moments.randint(2, 55)
    is_culprit = rank == culprit
    seconds = moments.choice([0.0, 0.001, 0.01])
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    torn_down, moments_of_cause = [], []

    def step(engine, batch):
        if engine.state.iteration == at:
            moments_of_cause.append(time.monotonic())
            if is_culprit and (what == "error in the step" or what.startswith("error while")):
                raise ValueError("this is the cause")
            if is_culprit and what == "Ctrl-C":
                os.kill(os.getpid(), signal.SIGINT)
            if what == "SIGTERM to all" or (what == "SIGTERM to one" and is_culprit):
                os.kill(os.getpid(), signal.SIGTERM)
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        time.sleep(seconds)
        return float("nan") if what == "NaN" and is_culprit and engine.state.iteration == at else loss.item()

    length = 20 - is_culprit * what.startswith("unequal")

    class Batches:
        def __iter__(self):
            for number in range(length):
                iteration = trainer.state.iteration + 1
                if iteration == at and what == "error in the data" and is_culprit:
                    moments_of_cause.append(time.monotonic())
                    raise ValueError("this is the cause")
                if iteration == at and what == "error while the others wait for data" and not is_culprit:
                    time.sleep(60)
                yield torch.full((2, 4), float(number))

    class SizedBatches(Batches):
        def __len__(self):
            return length

    trainer = Engine(step)
    evaluator = Engine(lambda engine, batch: model(batch).mean().item())

    class Save:
        phase = Phase.CHECKPOINT

        def __call__(self, engine):
            torn_down.append("saved")

    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=100), Save())
    trainer.attach(TerminateOnNan(), Preemption(["SIGTERM"]))
    # The scores of the ranks differ.
    sign = -1 if is_culprit and what == "early stop" else 1
    scores = EarlyStopping(2, lambda engine: sign * trainer.state.epoch)
    scores.attach(evaluator, Events.COMPLETED)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        if is_culprit and what == "error at the end of an epoch" and engine.state.iteration >= at:
            raise ValueError("this is the cause")
        evaluator.run([torch.ones(2, 4)] * 20)

    @evaluator.on(Events.ITERATION_COMPLETED(once=3))
    def fail(engine):
        if is_culprit and what == "error in the evaluator" and trainer.state.iteration >= at:
            raise ValueError("this is the cause")

    @trainer.on(Events.ITERATION_COMPLETED)
    def end(engine):
        if engine.state.iteration == at - 1 and not is_culprit and what == "error while the others sleep":
            time.sleep(60)
        if engine.state.iteration == at and is_culprit:
            if what == "error in a handler":
                raise ValueError("this is the cause")
            if what in ("terminate", "terminate_epoch", "interrupt"):
                getattr(engine, what)()

    trainer.add_event_handler(Events.TEARDOWN, lambda: torn_down.append("torn down"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data = Batches() if what.endswith("unknown length") else SizedBatches()
            ending = trainer.run(data, max_epochs=3).outcome.name
            message = ""
        except BaseException as error:
            ending, message = type(error).__name__, str(error)
    ended = time.monotonic()
    return {
        "ending": ending,
        "message": message,
        "iteration": trainer.state.iteration,
        "ended": ended,
        "caused": moments_of_cause[0] if is_culprit else None,
        "torn down": torn_down,
        "culprit": culprit,
    }


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("what", SITUATIONS)
def test_ranks_end_together(run_ranks, tmp_path, count, moments, report, what, size):
    """No rank waits for more than ten seconds, all stop at the same iteration, and the cause is what each rank shows."""
    figures = {"hangs": 0, "different iterations": 0, "jobs": 0, "longest seconds": 0.0}
    jobs = count(int(size == 2 and what in IN_CI), 25)
    if not jobs:
        pytest.skip("only in the campaign")
    for number in range(jobs):
        (tmp_path / "situation.json").write_text(json.dumps([what, moments(what, size, number).random()]))
        ranks = run_ranks(job, size)
        culprit = ranks[0]["culprit"]
        is_error = SITUATIONS[what] == "RankFailedError"
        for rank, seen in enumerate(ranks):
            if is_error and rank == culprit:
                assert seen["ending"] in ("ValueError", "KeyboardInterrupt"), ranks
                continue
            assert seen["ending"] == SITUATIONS[what], ranks
            if is_error:
                cause = "KeyboardInterrupt" if what == "Ctrl-C" else "ValueError: this is the cause"
                assert seen["message"].startswith(f"rank {culprit} failed at iteration "), ranks
                assert seen["message"].endswith(cause), ranks
        # An interrupted run is not over.
        is_over = SITUATIONS[what] != "INTERRUPTED"
        assert all(("torn down" in seen["torn down"]) == is_over for seen in ranks), ranks
        if SITUATIONS[what] == "PreemptionExit":
            assert all(
                seen["torn down"] == ["saved", "torn down"] and seen["message"] == "75" for seen in ranks
            )
        figures["jobs"] += 1
        # The clock is the same for all processes of a machine.
        longest = max(seen["ended"] for seen in ranks) - ranks[culprit]["caused"]
        figures["longest seconds"] = max(figures["longest seconds"], round(longest, 1))
        figures["hangs"] += longest > 10
        figures["different iterations"] += not is_error and len({seen["iteration"] for seen in ranks}) > 1
    report(**figures)
    assert figures["hangs"] == figures["different iterations"] == 0
