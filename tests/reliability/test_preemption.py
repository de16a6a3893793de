"""Signals at random moments: a checkpoint, the exit code and the status of the run each time (C6)."""

import os
import signal
import time
from pathlib import Path

import pytest

pytest.importorskip("glowplug_preemption")
pytest.importorskip("glowplug_model_checkpoint")

LIMIT = 60
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# The parts of a run in which a signal may arrive; "anywhere" is a random moment.
REGIONS = ("anywhere", "anywhere", "start", "data", "validation", "save")
SLOW = {"epochs": 10_000, "pause": 0.02, "pace": 0.002}
EXIT_CODE = 75

pytestmark = pytest.mark.timeout(3000)


@pytest.fixture(scope="module")
def digests(jobs, tmp_path_factory):
    """The digest of the weights at the end of each epoch of a run that is not preempted, by the number of workers."""
    found = {}
    for workers in (0, 2):
        folder = tmp_path_factory.mktemp("whole")
        job = jobs.run(
            folder,
            "train_preemptible",
            kind="csv",
            target=str(folder / "log.csv"),
            epochs=60,
            workers=workers,
        )
        found[workers] = job.result["digests"]
    return found


def wait_for_region(job, region, occurrence):
    """Wait until a part of the run has begun a number of times."""
    path, end = job.folder / f"regions-{job.pid}", time.monotonic() + LIMIT
    while not (path.exists() and path.read_text().split().count(region) >= occurrence):
        assert time.monotonic() < end, f"the job did not get there\n{job.output}"
        assert job.is_running, job.output
        time.sleep(0.001)


def aim(job, region, chance):
    """Wait for a random moment in a part of the run."""
    if region == "anywhere":
        job.wait_for_calls()
        time.sleep(chance.uniform(0.0, 1.0))
    else:
        wait_for_region(job, region, 1 if region in {"start", "save"} else chance.randint(1, 3))
        time.sleep(chance.uniform(0.0, SLOW["pause"]))


def saved_iteration(folder):
    """Return the iteration of the latest checkpoint that loads, or ``None`` if there is none."""
    import torch

    files = list(Path(folder, "checkpoints").glob("latest*.pt"))
    states = [torch.load(file, weights_only=True)["trainer"] for file in files]
    return max((state["iteration"] for state in states), default=None)


class Trial:
    """One job that a signal ends, and the job that resumes it."""

    def __init__(self, jobs, make_backend, folder, workers, async_save):
        self.jobs = jobs
        self.folder = folder
        self.backend = make_backend(folder)
        self.arguments = {**self.backend.arguments, "workers": workers, "async_save": async_save}
        self.workers = workers

    def preempt(self, region, signum, chance):
        """Start a job, send it a signal, and check how it ended; return the seconds to its end."""
        job = self.jobs.start(self.folder, "train_preemptible", **self.arguments, **SLOW)
        aim(job, region, chance)
        sent = time.monotonic()
        os.kill(job.pid, signum)
        assert job.wait() == EXIT_CODE, f"{region} {signum.name}: exit code {job.code}\n{job.output}"
        seconds = time.monotonic() - sent
        calls = job.calls()
        # The checkpoint contains the last iteration that completed; a job may end before the first one.
        assert saved_iteration(self.folder) == max(calls, default=0), f"{region} {signum.name}\n{job.output}"
        assert self.backend.stored() == dict.fromkeys(range(1, max(calls, default=0) + 1), 1), job.output
        self.check_ended(has_logged=bool(calls))
        return seconds

    def check_ended(self, has_logged):
        """Check that no run is left RUNNING; a logger that was never used opens no run."""
        if self.backend.kind == "mlflow":
            ended, killed = self.backend.runs(), "KILLED"
        else:
            ended, killed = self.backend.outcomes(), "interrupted"
        assert set(ended) <= {killed}
        assert ended or not has_logged

    def resume(self, digests):
        """Resume the job, and compare its weights with those of a run that was not preempted."""
        job = self.jobs.run(self.folder, "train_preemptible", **self.arguments)
        assert job.code == 0, job.output
        result = job.result
        assert result["digests"]
        expected = digests[self.workers]
        assert result["digests"] == {epoch: expected[epoch] for epoch in result["digests"]}, job.output
        assert self.backend.stored() == dict.fromkeys(range(1, result["iteration"] + 1), 1)
        if self.backend.kind == "mlflow":
            assert self.backend.runs() == ["FINISHED"]


@pytest.mark.parametrize("kind", ["mlflow-sqlite", "jsonl"])
def test_random_moments(jobs, tmp_path, backends, count, moments, report, digests, kind):
    """A signal at a random moment leads to a checkpoint, exit code 75 and no RUNNING run, and the job resumes exactly (C6)."""
    make_backend = backends(kind)

    def trial(number):
        chance = moments(kind, number)
        region = REGIONS[number % len(REGIONS)]
        workers, async_save = chance.choice((0, 0, 2)), chance.choice((False, True))
        each = Trial(jobs, make_backend, tmp_path / f"job{number}", workers, async_save)
        seconds = [each.preempt(region, chance.choice(SIGNALS), chance)]
        if number % 4 == 3:
            # The resumed job is preempted again.
            seconds.append(each.preempt("anywhere", chance.choice(SIGNALS), chance))
        each.resume(digests)
        return seconds

    trials = count(len(REGIONS), 80)
    seconds = sorted(s for found in jobs.each(trial, range(trials)) for s in found)
    report(kind=kind, signals=len(seconds), median=seconds[len(seconds) // 2], longest=seconds[-1])


@pytest.mark.parametrize("kind", ["mlflow-sqlite"])
def test_two_signals(jobs, tmp_path, backends, count, moments, report, kind):
    """A second signal ends the process at once, even in the middle of the save that the first one caused (C6)."""
    make_backend = backends(kind)

    def trial(number):
        chance = moments("two", number)
        folder = tmp_path / f"job{number}"
        backend = make_backend(folder)
        job = jobs.start(
            folder, "train_preemptible", **backend.arguments, epochs=10_000, pause=3.0, pace=0.001
        )
        wait_for_region(job, "start", 1)
        os.kill(job.pid, signal.SIGTERM)
        # The checkpoint of the first signal.
        wait_for_region(job, "save", 1)
        time.sleep(chance.uniform(0.0, 0.2))
        second, sent = chance.choice(SIGNALS), time.monotonic()
        os.kill(job.pid, second)
        assert job.wait() == -second, job.output
        seconds = time.monotonic() - sent
        assert jobs.run(folder, "replay").result == {"code": 0}
        assert backend.runs() in (["KILLED"], [])
        return seconds

    seconds = jobs.each(trial, range(count(2, 40)))
    report(signals=2 * len(seconds), longest=max(seconds))
    # The parent polls its child.
    assert max(seconds) < 1
