"""Several ranks log to one run, and its status is true (L5)."""

import signal

import pytest

KINDS = ["mlflow-server", "mlflow-sqlite", "tensorboard", "jsonl", "csv"]
SHORT = {"epochs": 1, "pace": 0.0005}
ENDINGS = {
    "end": (SHORT, None, ["FINISHED"]),
    "terminated": ({**SHORT, "terminate_at": 50}, None, ["FINISHED"]),
    "exception in the run": ({**SHORT, "raise_at": 50}, None, ["FAILED"]),
    "exception after the run": ({**SHORT, "raise_after": True}, None, ["FAILED"]),
    "SIGTERM": ({}, signal.SIGTERM, ["KILLED"]),
    "SIGKILL": ({}, signal.SIGKILL, ["RUNNING"]),
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["mlflow-server", "mlflow-sqlite"])
@pytest.mark.timeout(300)
def test_status(jobs, tmp_path, backends, kind, ending):
    """The status of the run tells how the process ended; a killed run is KILLED after its replay (L5)."""
    arguments, signum, status = ENDINGS[ending]
    backend = backends(kind)(tmp_path / "job")
    job = jobs.start(tmp_path / "job", "train", **{**backend.arguments, **arguments})
    job.wait_for_calls()
    if signum is not None:
        while not backend.stored():
            assert job.is_running, job.output
        job.kill(signum)
    else:
        job.wait()
    assert backend.runs() == status, job.output
    assert jobs.run(job.folder, "replay").result == {"code": 0}, job.output
    assert backend.runs() == (["KILLED"] if ending == "SIGKILL" else status)


@pytest.mark.parametrize("kind", ["mlflow-server", "mlflow-sqlite"])
@pytest.mark.timeout(300)
def test_resumed(jobs, tmp_path, backends, kind):
    """A failed run that is resumed is RUNNING, then FINISHED (L5)."""
    folder = tmp_path / "job"
    backend = backends(kind)(folder)
    jobs.run(folder, "train", **{**backend.arguments, "raise_at": 90, "save_every": 40})
    assert backend.runs() == ["FAILED"]
    job = jobs.start(folder, "train", **{**backend.arguments, "epochs": 5})
    job.wait_for_calls()
    while len(backend.stored()) < 120:
        assert job.is_running, job.output
    assert backend.runs() == ["RUNNING"]
    assert job.wait() == 0, job.output
    assert backend.runs() == ["FINISHED"]
    assert backend.stored() == dict.fromkeys(range(1, 501), 1)


@pytest.mark.parametrize("is_early", [True, False], ids=["group-first", "logger-first"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(300)
def test_two_ranks(jobs, tmp_path, backends, kind, is_early):
    """Two gloo ranks log to one run, each step once, also if they log before the process group exists (L5)."""
    backend = backends(kind)(tmp_path / "backend")
    ranks = [
        jobs.start(
            tmp_path / f"rank{rank}",
            "train_rank",
            rank=rank,
            size=2,
            is_early=is_early,
            **{**backend.arguments, **SHORT},
        )
        for rank in (1, 0)
    ]
    assert [job.wait() for job in ranks] == [0, 0], [job.output for job in ranks]
    assert [job.result["counts"] for job in ranks] == [[0, 0, 0], [100, 0, 0]]
    assert backend.runs() == ["FINISHED"]
    assert backend.stored() == dict.fromkeys(range(1, 101), 1)
