"""No fault of a backend reaches the training loop (L1)."""

import shutil
import time

import pytest
from faulty_proxy import BLACK_HOLE, REFUSED, SLOW

from glowplug.loggers import read_content, spools_in

SERVER = [REFUSED, BLACK_HOLE, 500, 429, SLOW, 401, 403]
DISK = ["disk full", "disk full for a while", "folder gone", "folder gone for a while"]
CASES = [
    *(("mlflow-server", fault) for fault in (*SERVER, "disk full")),
    *(("mlflow-sqlite", fault) for fault in ("locked", *DISK)),
    *((kind, fault) for kind in ("tensorboard", "jsonl", "csv") for fault in DISK),
]
EPOCHS = 5
TIMEOUT = 4.0
FILE_LIMIT = 24_000
# Seconds that a busy machine takes to wake the threads at the end.
MARGIN = 0.5


def inject(backend, job, fault, chance):
    """Cause a fault at a random moment, keep it for a while or to the end, and return a function that ends it."""
    time.sleep(chance.uniform(0.0, 0.6))
    for_a_while = str(fault).endswith("for a while")
    if str(fault).startswith("disk full"):

        def end():
            (job.folder / "space").touch()

    elif str(fault).startswith("folder gone"):
        moved = backend.folder.with_name("moved")
        backend.folder.rename(moved)
        # A file with the name of the folder keeps the logger from creating the folder again.
        backend.folder.touch()

        def end():
            backend.folder.unlink()
            moved.rename(backend.folder)

    elif fault == "locked":
        lock = backend.down()
        lock.__enter__()

        def end():
            lock.__exit__(None, None, None)

    else:
        backend.proxy.fault = fault

        def end():
            backend.proxy.fault = "healthy"

    if for_a_while:
        time.sleep(0.4)
        end()
        return lambda: None
    return end


def waiting(home):
    """Return the number of records in the spools."""
    return sum(read_content(path).records for path in spools_in(home / "spool"))


@pytest.mark.parametrize(("kind", "fault"), CASES, ids=lambda value: str(value).replace(" ", "-"))
@pytest.mark.timeout(1800)
def test_fault(jobs, tmp_path, backends, count, moments, report, is_campaign, kind, fault):
    """The run completes, log calls stay short, closing keeps its limit, and the reported numbers are right (L1)."""
    make_backend, durations, endings = backends(kind), [], []
    total = {"sent": 0, "lost": 0, "wait": 0}
    for number in range(count(1, 5)):
        chance, folder = moments(number), tmp_path / f"{number}"
        backend = make_backend(folder)
        options = {**backend.arguments["options"], "timeout": TIMEOUT}
        arguments = {**backend.arguments, "options": options, "epochs": EPOCHS}
        if str(fault).startswith("disk full"):
            arguments["file_limit"] = FILE_LIMIT
        job = jobs.start(folder, "train", **arguments)
        job.wait_for_calls()
        end_fault = inject(backend, job, fault, chance)
        assert job.wait() == 0, job.output
        result, steps = job.result, range(1, 100 * EPOCHS + 1)
        assert result["iterations"] == len(steps)
        durations += result["durations"]
        endings.append(result["ending"])
        sent, dropped, pending = result["counts"]
        for key, value in zip(total, (sent, dropped, pending), strict=True):
            total[key] += value
        assert sent + dropped + pending == len(steps), job.output
        # A full disk has no room for the log either.
        if (dropped or pending) and fault != "disk full":
            assert f"records: {sent} sent, {dropped} lost" in job.output
        end_fault()
        if pending:
            assert waiting(folder / "home") == pending
            assert fault == "disk full" or f"{pending} waiting in " in job.output
        if backend.has_spool:
            assert jobs.run(folder, "replay").result == {"code": 0}, job.output
        stored = backend.stored()
        assert len(stored) == len(steps) - dropped, job.output
        assert set(stored.values()) <= {1}
        shutil.rmtree(folder)
    durations.sort()
    p99, longest = durations[int(0.99 * len(durations))], durations[-1]
    report(
        calls=len(durations),
        p99_us=round(1e6 * p99),
        max_ms=round(1e3 * longest, 2),
        longest_end_s=round(max(endings), 2),
        **total,
    )
    assert max(endings) <= TIMEOUT + MARGIN
    if is_campaign:
        assert p99 <= 100e-6
        assert longest <= 10e-3
