"""Kill anything, at any time: the run ends as if nothing had happened."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from backends import statuses
from chaos import DISTURBANCES, ITERATIONS, DisturbedJob, plan
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

# Disturbances of one run.
PER_RUN = 5


@pytest.fixture
def train(jobs, server, tmp_path, moments):
    """Return a function that trains with disturbances, and returns the job and what it left."""
    disk = tmp_path / "disk"

    def train(name, kinds, *, async_save):
        chance = moments(name)
        job = DisturbedJob(jobs, server, disk, tmp_path / name, chance, async_save=async_save)
        with closing(job):
            results = job.train(plan(kinds, chance))
            # Where the server was down at the end of the run, this delivers the rest.
            replay = jobs.run(tmp_path / name, "replay", home=str(job.home))
        assert replay.result == {"code": 0}, replay.output
        listing = jobs.run(
            tmp_path / name / "list", "command", home=str(job.home), arguments=["spool", "list"]
        )
        assert "No records wait" in listing.output
        left = {"results": results, **what_is_left(job, server)}
        shutil.rmtree(job.output)
        return job, left

    return train


def what_is_left(job, server):
    """Return everything that a job has left: stored values, checkpoints, other files, runs, and processes."""
    return {
        "mlflow": scalars_in_database(server.folder / "mlflow.db", job.name),
        "tensorboard": scalars_in_events(job.output / "tensorboard"),
        # Each process has its own event file.
        "files": sorted(
            kind_of(path.relative_to(job.output))
            for path in files_in(job.output)
            if not path.name.startswith("events.out.tfevents.")
        ),
        "runs": statuses(server.folder / "mlflow.db", job.name),
        "processes": [pid for pid in job.pids if Path(f"/proc/{pid}").exists()],
    }


def files_in(folder):
    """Return all files in a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def kind_of(path):
    """Return the path without the time and the random part in the name of a spool, and the step of the second-last checkpoint."""
    path = re.sub(rf"last_checkpoint_(?!{ITERATIONS}\.)\d+", "last_checkpoint", str(path))
    return re.sub(r"\d{8}-\d{6}(-\w+)-\w+(\.spool)$", r"\1\2", path)


def scalars_in_database(path, experiment):
    """Return name, step and value of each row that the MLflow server has stored, in order."""
    query = """
        SELECT key, step, value FROM metrics JOIN runs USING (run_uuid) JOIN experiments USING (experiment_id)
        WHERE experiments.name = ? ORDER BY key, step
    """
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return list(database.execute(query, (experiment,)))


def scalars_in_events(folder):
    """Return name, step and value of each scalar in the event files, in order."""
    events = [
        Event.FromString(data) for path in files_in(folder) for data in RawEventFileLoader(str(path)).Load()
    ]
    return sorted(
        (value.tag, event.step, value.simple_value or value.tensor.float_val[0])
        for event in events
        for value in event.summary.value
    )


@pytest.mark.timeout(4 * 3600)
def test_disturbed_runs(train, count, moments, report, small_disk):
    """Kills, signals, a dead server, a full disk and a flipped bit change nothing that a run leaves, compared with a whole run."""
    _, expected = train("whole", [], async_save=False)
    assert expected["runs"] == ["FINISHED"]
    assert expected["processes"] == []
    assert [each["iterations"] for each in expected["results"]] == [ITERATIONS] * 2
    for stored in (expected["mlflow"], expected["tensorboard"]):
        assert [step for name, step, _ in stored if name == "training/batch_loss"] == [
            *range(1, ITERATIONS + 1)
        ]
    kinds = [kind for kind in DISTURBANCES if small_disk or kind != "disk full"]
    found = []
    for number in range(count(PER_RUN, 200) // PER_RUN):
        # The first run has the first kinds, whatever the seed is.
        chosen = kinds[:PER_RUN] if number == 0 else moments(number).choices(kinds, k=PER_RUN)
        job, left = train(f"run{number}", chosen, async_save=number % 2 == 1)
        found.append([key for key in expected if left[key] != expected[key]])
        report(
            run=number,
            performed=job.performed,
            starts=job.starts,
            preempted=job.preempted,
            differing=found[-1],
        )
    assert found == [[]] * len(found)
