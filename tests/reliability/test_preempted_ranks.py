"""Signals at random moments to some ranks of a job (C6): all ranks save at the same iteration, and the job resumes exactly."""

import json

import pytest

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGINT")
EXIT_CODE = 75


def train(rank):
    """Train with DDP, or resume, until the signals in the file ``how.json`` or the end; return how the run ended on this rank."""
    import hashlib
    import json
    import os
    import signal
    import sys
    import threading
    import time
    from pathlib import Path

    import torch
    from torch import nn
    from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

    from glowplug import Engine, Events
    from glowplug.exceptions import PreemptionExit
    from glowplug_jsonl import JsonLinesLogger
    from glowplug_model_checkpoint import ModelCheckpoint
    from glowplug_preemption import Preemption

    how = json.loads(Path(sys.path[0], "how.json").read_text())
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    parallel = nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    data = TensorDataset(torch.linspace(0, 1, 1600).reshape(200, 8))
    loader = DataLoader(data, batch_size=5, sampler=DistributedSampler(data))

    def step(engine, batch):
        optimizer.zero_grad()
        loss = parallel(batch[0]).sub(1).square().mean()
        loss.backward()
        optimizer.step()
        time.sleep(how["pause"])
        return loss.item()

    def send():
        os.kill(os.getpid(), getattr(signal, how["signal"]))

    trainer = Engine(step)
    trainer.attach(Preemption(how["signals"]))

    @trainer.on(Events.STARTED)
    def aim():
        if rank in how["ranks"]:
            threading.Timer(how["delay"], send).start()

    with JsonLinesLogger(f"{how['folder']}/log.jsonl") as logger:
        logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "training", output_transform=float)
        parts = {"model": model, "optimizer": optimizer, "trainer": trainer, "logger": logger}
        checkpoint = ModelCheckpoint(
            how["folder"], resume="auto", to_save=parts, require_empty=False, async_save=how["async_save"]
        )
        checkpoint.attach(trainer, Events.EPOCH_COMPLETED)
        code = 0
        try:
            trainer.run(loader, max_epochs=30)
        except PreemptionExit as end:
            code = end.code
    weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
    return {
        "code": code,
        "iteration": trainer.state.iteration,
        "outcome": trainer.state.outcome.name,
        "digest": hashlib.sha256(weights).hexdigest(),
    }


class Job:
    """A job of two ranks in one folder."""

    def __init__(self, run_ranks, tmp_path, name):
        self._run_ranks = run_ranks
        self._how = tmp_path / "how.json"
        self._folder = tmp_path / name
        self._folder.mkdir()

    def run(self, **how):
        """Run the job, and return how it ended, which is the same on all ranks."""
        options = {"signals": SIGNALS, "ranks": [], "pause": 0.0, "async_save": False}
        self._how.write_text(json.dumps({**options, "folder": str(self._folder), **how}))
        ends = self._run_ranks(train)
        assert ends[0] == ends[1]
        return ends[0]

    def check(self, iteration, outcomes):
        """Check that the latest checkpoint and the log contain all iterations, and that the log ends with these outcomes."""
        import torch

        (file,) = self._folder.glob("*.pt")
        assert torch.load(file, weights_only=True)["trainer"]["iteration"] == iteration
        lines = (self._folder / "log.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert [each["step"] for each in records if each["kind"] == "scalars"] == list(
            range(1, iteration + 1)
        )
        assert [each["outcome"] for each in records if each["kind"] == "end"] == outcomes


@pytest.mark.timeout(3000)
def test_random_moments(run_ranks, tmp_path, count, moments, report):
    """After signals at random moments, all ranks have saved the same iteration and end with code 75; resuming is exact (C6)."""
    whole = Job(run_ranks, tmp_path, "whole").run()
    assert (whole["code"], whole["iteration"], whole["outcome"]) == (0, 600, "COMPLETED")
    signals = asynchronous = 0
    for number in range(count(1, 100)):
        chance = moments(number)
        job = Job(run_ranks, tmp_path, f"job{number}")
        for resumed in range(2):
            how = {
                "signal": chance.choice(SIGNALS),
                "ranks": chance.choice([[0], [1], [0, 1]]),
                "delay": chance.uniform(0.0, 0.4),
                "pause": 0.005,
                "async_save": chance.choice([False, True]),
            }
            end = job.run(**how)
            assert (end["code"], end["outcome"]) == (EXIT_CODE, "INTERRUPTED"), (how, end)
            job.check(end["iteration"], ["interrupted"] * (resumed + 1))
            signals += 1
            asynchronous += how["async_save"]
        assert job.run() == whole, how
        job.check(600, ["interrupted", "interrupted", "completed"])
    report(signals=signals, asynchronous=asynchronous)
