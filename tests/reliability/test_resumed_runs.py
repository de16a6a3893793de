"""Resumed runs store each step once (L3)."""

import contextlib
import shutil
import signal
import time

import pytest


@pytest.mark.parametrize("kind", ["mlflow-server", "mlflow-sqlite", "tensorboard", "jsonl", "csv"])
@pytest.mark.timeout(3600)
def test_resumed_from_older_states(jobs, tmp_path, backends, count, moments, report, kind):
    """After kills, each resumed from an older state, each step is in one run, once, which is FINISHED (L3, L5)."""
    cycles, folder = count(3, 100), tmp_path / "job"
    backend = backends(kind)(folder)
    arguments = {**backend.arguments, "save_every": 40}
    last, older, began = 0, None, time.monotonic()
    for cycle in range(cycles):
        chance = moments(cycle)
        job = jobs.start(folder, "train", **arguments)
        job.wait_for_calls()
        # Without a state, the next process would begin a new run.
        while not (folder / "state").exists():
            assert job.is_running, job.output
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.8))
        with backend.down() if backend.has_spool and cycle % 3 == 1 else contextlib.nullcontext():
            time.sleep(chance.uniform(0.0, 0.3))
            job.kill(signal.SIGKILL)
        last = max(last, *job.calls())
        # Sometimes the newest state is lost as well.
        if older is not None and chance.random() < 0.3:
            (folder / "state").write_bytes(older)
        elif (folder / "state").exists():
            older = (folder / "state").read_bytes()
    epochs = last // 100 + 2
    job = jobs.run(
        folder,
        "train",
        **{**arguments, "epochs": epochs, "options": {**arguments["options"], "timeout": 60.0}},
    )
    assert job.code == 0, job.output
    stored = backend.stored()
    report(
        cycles=cycles,
        steps=100 * epochs,
        missing=100 * epochs - len(stored),
        doubled=sum(number - 1 for number in stored.values()),
        runs=backend.runs(),
        seconds=round(time.monotonic() - began),
    )
    assert stored == dict.fromkeys(range(1, 100 * epochs + 1), 1)
    assert backend.runs() == ["FINISHED"]
    shutil.rmtree(folder)


@pytest.mark.timeout(1800)
def test_server_is_killed_and_restarted(jobs, tmp_path, own_server, count, moments, report):
    """A server that is killed and restarted during several runs, many times, gets each point once (L1, L2)."""
    from backends import MLflowServerBackend

    kinds = {f"job{number}": MLflowServerBackend(own_server, f"job{number}") for number in range(2)}
    running = {
        name: jobs.start(tmp_path / name, "train", **backend.arguments) for name, backend in kinds.items()
    }
    restarts = count(1, 15)
    for job in running.values():
        job.wait_for_calls()
    for number in range(restarts):
        chance = moments(number)
        time.sleep(chance.uniform(0.5, 3.0))
        own_server.kill()
        time.sleep(chance.uniform(0.0, 1.0))
        own_server.start()
    points = lost = doubled = 0
    for name, backend in kinds.items():
        job = running[name]
        ages = job.kill(signal.SIGTERM)
        assert jobs.run(job.folder, "replay").result == {"code": 0}, job.output
        stored = backend.stored()
        points += len(ages)
        lost += sum(step not in stored for step in ages)
        doubled += sum(number - 1 for number in stored.values())
        assert backend.runs() == ["KILLED"]
        backend.close()
    report(restarts=restarts, jobs=len(kinds), points=points, lost=lost, doubled=doubled)
    assert (lost, doubled) == (0, 0)
