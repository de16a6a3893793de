"""Memory and disk stay bounded, and nothing is left after close()."""

import pytest
from faulty_proxy import REFUSED

# Bytes by which the memory of a process may grow while a backend is down: it holds 5,000 records besides those on disk.
GROWTH = 32 << 20
# The largest factor between the size of a spool's files and its limit.
OVERHEAD = 1.5
KINDS = ["mlflow-server", "mlflow-sqlite", "tensorboard", "jsonl", "csv"]


@pytest.fixture
def fill(jobs, tmp_path, backends, count):
    """Return a function that logs many records to a server that is down."""

    def fill(records, **options):
        backend = backends("mlflow-server")(tmp_path / "job")
        backend.proxy.fault = REFUSED
        given = {**backend.arguments, "options": {**backend.arguments["options"], "timeout": 1.0, **options}}
        job = jobs.run(tmp_path / "job", "fill", **given, records=records, pace=100e-6)
        assert job.code == 0, job.output
        return job

    return fill


def growth(memory):
    """Return by how much the memory grew after the first tenth of the records."""
    return max(memory[5:]) - memory[5]


@pytest.mark.timeout(1200)
def test_memory(fill, count, report):
    """While a server is down, memory is flat, and all records are on disk (2,000,000 records in a campaign)."""
    records = count(20_000, 2_000_000)
    result = fill(records).result
    report(
        records=records,
        counts=result["counts"],
        growth_mb=round(growth(result["memory"]) / 2**20, 1),
        disk_mb=round(result["disk"][-1] / 2**20, 1),
        seconds=round(result["seconds"]),
    )
    assert result["counts"] == [0, 0, records]
    assert growth(result["memory"]) <= GROWTH


@pytest.mark.timeout(1200)
def test_spool_limit(fill, count, report):
    """The limit of the spool bounds the disk; records above it are counted as lost, and reported."""
    records, limit = count(20_000, 500_000), count(1, 16) << 20
    job = fill(records, spool_limit=limit)
    sent, dropped, pending = job.result["counts"]
    memory, disk = job.result["memory"], job.result["disk"]
    report(
        records=records,
        limit_mb=limit >> 20,
        largest_disk_mb=round(max(disk) / 2**20, 1),
        growth_mb=round(growth(memory) / 2**20, 1),
        dropped=dropped,
        pending=pending,
    )
    assert (sent, dropped + pending) == (0, records)
    assert dropped > 0
    assert pending > 0
    # The files are the database and its log of at most 4 MB.
    assert max(disk) <= OVERHEAD * limit + (5 << 20)
    assert growth(memory) <= GROWTH
    assert f"has reached its limit of {limit:,} bytes" in job.output
    assert f"records: 0 sent, {dropped} lost, {pending} waiting in " in job.output


@pytest.mark.parametrize("is_down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(300)
def test_nothing_is_left(jobs, tmp_path, backends, kind, is_down):
    """After close(), four loggers have left no thread, open file, temporary file or open run, and raised no warning.

    For the next calls of the process, MLflow keeps a connection to a server for each number of retries (the logger creates its run
    without retries), and its pool up to two connections to a database.
    """
    backend = backends(kind)(tmp_path / "job")
    if is_down:
        if kind != "mlflow-server":
            pytest.skip("only a server is down before the first record")
        backend.proxy.fault = REFUSED
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    options = {**backend.arguments["options"], "timeout": 20.0 if not is_down else 3.0}
    job = jobs.run(
        tmp_path / "job",
        "leave_nothing",
        **{**backend.arguments, "options": options},
        environment={"TMPDIR": str(temporary)},
    )
    assert job.code == 0, job.output
    assert "Warning" not in job.output
    result = job.result
    assert result["threads"] == []
    kept = [name for name in result["files"] if "socket:" in name or "/mlflow.db" in name]
    assert len(kept) <= {"mlflow-server": 2, "mlflow-sqlite": 2}.get(kind, 0)
    assert result["files"] == kept
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "job").rglob("*.part")) == []
    if kind.startswith("mlflow") and not is_down:
        assert set(backend.runs()) == {"FINISHED"}
        assert [path for path in (tmp_path / "job" / "home").rglob("*") if path.is_file()] == []
