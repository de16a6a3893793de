"""The spool keeps records on disk until the backend has them."""

import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing, suppress

import pytest

from glowplug.loggers import Damaged, Histogram, Spool, SpoolInUseError, spools_in
from glowplug.loggers._kept_files import keep
from glowplug.loggers._record import Record
from glowplug.loggers._spool import SpoolFullError, adopt, without_repeated_steps

SCALARS = Record(0, "scalars", None, 3, 12.5, {"loss": 0.1, "accuracy": float("inf")})


@pytest.fixture
def path(tmp_path):
    """Return the path of a spool."""
    return tmp_path / "a.spool"


@pytest.fixture
def spool(path):
    """Return an open spool."""
    with closing(Spool(path)) as opened:
        yield opened


def scalars(step, **values):
    """Return a record."""
    return Record(0, "scalars", None, step, 0.0, values)


class TestRecords:
    @pytest.mark.parametrize(
        "record",
        [
            SCALARS,
            Record(
                0, "params", None, None, 1.5, {"lr": 0.1, "layers": [1, 2], "name": "naïve", "none": None}
            ),
            Record(0, "text", "note", 2, 1.5, "line\nline"),
            Record(0, "histogram", "w", 2, 1.5, Histogram([1, 2], -1.0, 1.0, 0.5, 3.0)),
            Record(0, "figure", "plot", 2, 1.5, "<html></html>"),
            Record(0, "artifact", None, None, 1.5, "/tmp/model.pt"),
        ],
        ids=lambda record: record.kind,
    )
    def test_round_trip(self, path, record):
        """Another process reads each kind of record as it was, with its number in the spool."""
        with closing(Spool(path)) as first:
            first.append([record])
        with closing(Spool(path)) as second:
            assert second.read(after=0, most=10) == [record._replace(number=1)]

    def test_image(self, spool):
        """The pixels of an image keep their shape and type, and may be changed."""
        np = pytest.importorskip("numpy")
        pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
        spool.append([Record(0, "image", "x", 1, 0.0, pixels)])
        (found,) = spool.read(after=0, most=1)
        assert found.payload.dtype == np.uint8
        assert (found.payload == pixels).all()
        found.payload[0] = 0

    def test_acknowledged_records_are_gone(self, spool):
        """Acknowledged records are removed, the others stay in order, and numbers are never used again."""
        spool.append([scalars(step, loss=1.0) for step in range(5)])
        spool.acknowledge(3)
        assert (spool.pending, [record.step for record in spool.read(0, 10)]) == (2, [3, 4])
        spool.acknowledge(5)
        assert (spool.pending, spool.size) == (0, 0)
        assert spool.append([SCALARS])[0].number == 6

    @pytest.mark.parametrize("column", ["payload", "layout", "step", "timestamp", "kind"])
    def test_damage_is_reported(self, path, column):
        """A record with a changed column is reported as damaged, and the others are read."""
        with closing(Spool(path)) as first:
            first.append([SCALARS, SCALARS, SCALARS])
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(f"UPDATE records SET {column} = '[1, 2]' WHERE number = 2")
        with closing(Spool(path)) as second:
            good, bad, last = second.read(after=0, most=10)
        assert (good.payload, last.payload) == (SCALARS.payload, SCALARS.payload)
        assert isinstance(bad, Damaged)
        assert bad.number == 2

    def test_other_format(self, path):
        """A spool of another format is refused with both format numbers, and remains as it is."""
        with closing(Spool(path)) as first:
            first.describe({"format": "7"})
        with pytest.raises(OSError, match="has format 7, but this version of glowplug reads format 1"):
            Spool(path)
        assert path.exists()

    def test_no_database(self, path):
        """A file that is not a database is refused by name."""
        path.write_text("not a database " * 100)
        with pytest.raises(OSError, match=r"a\.spool cannot be used: file is not a database"):
            Spool(path)


class TestLimit:
    def test_bytes(self, path):
        """Records above the limit are refused together; delivered records make room."""
        with closing(Spool(path, limit=1_000)) as spool:
            text = Record(0, "text", "x", 1, 0.0, "y" * 600)
            spool.append([text])
            with pytest.raises(SpoolFullError, match="limit of 1,000 bytes"):
                spool.append([text])
            assert spool.pending == 1
            spool.acknowledge(1)
            spool.append([text])

    def test_size_of_names(self, path):
        """The names of scalars, which are larger than the numbers, count as well: the file is hardly larger than the limit."""
        scalars = {f"training/layer {number}/gradient norm": 0.5 for number in range(30)}
        with closing(Spool(path, limit=200_000)) as spool, suppress(SpoolFullError):
            for step in range(1_000):
                spool.append([Record(0, "scalars", None, step, 0.0, scalars)])
        assert path.stat().st_size < 300_000
        with closing(Spool(path)) as spool:
            size = spool.size
            assert 190_000 < size <= 200_000
            spool.acknowledge(spool.last_number)
            assert spool.size == 0

    def test_artifacts(self, path, tmp_path):
        """The bytes of an artifact count, also after the spool is opened again."""
        file = tmp_path / "model.pt"
        file.write_bytes(b"x" * 5_000)
        with closing(Spool(path, limit=8_000)) as spool:
            spool.append([Record(0, "artifact", None, None, 0.0, str(file))])
            size = spool.size
        with closing(Spool(path, limit=8_000)) as spool:
            assert 5_000 < spool.size == size
            with pytest.raises(SpoolFullError):
                spool.append([Record(0, "artifact", None, None, 0.0, str(file))])
            spool.acknowledge(1)
            assert spool.size == 0


class TestOwner:
    def test_second_owner(self, spool):
        """A second process or logger cannot open the spool of a running one."""
        with pytest.raises(SpoolInUseError, match=r"another process uses the spool .*a\.spool"):
            Spool(spool.path)
        assert adopt(spool.path.parent, spool.path.name, {}, 1 << 30) is None

    def test_killed_owner(self, path):
        """After kill -9, the next process owns the spool, with every appended record."""
        script = f"""
            import pathlib, time
            from glowplug.loggers import Spool
            from glowplug.loggers._record import Record
            spool = Spool(pathlib.Path({str(path)!r}))
            spool.append([Record(0, "scalars", None, step, 0.0, {{"loss": 0.5}}) for step in range(100)])
            print("ready", flush=True)
            time.sleep(60)
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout.readline() == "ready\n"
            with pytest.raises(SpoolInUseError):
                Spool(path)
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        with closing(Spool(path)) as spool:
            assert (spool.pending, spool.steps) == (100, {"scalars:loss": 99})

    @pytest.mark.parametrize(("name", "run"), [("a.spool", {}), (None, {"run_id": "7"})])
    def test_adopted(self, path, name, run):
        """The spool of an earlier process is found by its name or its run, and not by another run."""
        with closing(Spool(path)) as first:
            first.describe({"run": '{"run_id": "7"}'})
        assert adopt(path.parent, None, {"run_id": "8"}, 1 << 30) is None
        with closing(adopt(path.parent, name, run, 1 << 30)) as found:
            assert found.path == path


class TestDeleting:
    def test_files_go_too(self, spool, tmp_path):
        """Deleting a spool deletes its database and the kept files of its records, and nothing else."""
        original = tmp_path / "model.pt"
        original.write_bytes(b"x")
        kept = keep(str(original), tmp_path / "files")
        spool.append([Record(0, "artifact", None, None, 0.0, each) for each in (kept, str(original))])
        spool.delete()
        assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]

    def test_moved(self, spool, tmp_path):
        """The records of a spool move to the end of another one."""
        spool.append([scalars(2, loss=1.0)])
        with closing(Spool(tmp_path / "b.spool")) as other:
            other.append([scalars(1, loss=1.0)])
            spool.move_to(other)
            assert [record.step for record in other.read(0, 10)] == [1, 2]
        assert spools_in(tmp_path) == [tmp_path / "b.spool"]


class TestSteps:
    def test_highest_step_of_each_name(self, spool):
        """The spool knows the highest step of each name, also of delivered records and after a lower step."""
        spool.append([scalars(3, loss=1.0), scalars(7, loss=1.0, lr=0.1), scalars(5, loss=1.0)])
        spool.append([Record(0, "image", "x", 4, 0.0, "-"), Record(0, "params", None, None, 0.0, {})])
        spool.acknowledge(5)
        spool.append([scalars(6, loss=1.0)])
        expected = {"scalars:loss": 7, "scalars:lr": 7, "image:x": 4}
        assert spool.steps == expected
        path = spool.path
        spool.close()
        with closing(Spool(path)) as again:
            assert again.steps == expected

    def test_repeated_values_are_left_out(self):
        """Values up to the highest step of their name are left out; new names and records without a step stay."""
        steps = {"scalars:loss": 5, "image:x": 2}
        assert without_repeated_steps(scalars(5, loss=1.0), steps) is None
        assert without_repeated_steps(scalars(5, loss=1.0, lr=0.1), steps).payload == {"lr": 0.1}
        assert without_repeated_steps(scalars(6, loss=1.0), steps).payload == {"loss": 1.0}
        for record, is_kept in (("x", False), ("y", True)):
            image = Record(0, "image", record, 2, 0.0, "-")
            assert (without_repeated_steps(image, steps) is image) is is_kept
        params = Record(0, "params", None, None, 0.0, {"lr": 0.1})
        assert without_repeated_steps(params, steps) is params


def test_values_that_sqlite_cannot_store(tmp_path, make_logger, caplog):
    """A step of 65 bits and a name that is not Unicode cost no other record, and are named."""
    with make_logger(spool=tmp_path) as logger:
        for step in range(100):
            logger.log_scalars({"good": 1.0}, step)
            if step % 40 == 0:
                logger.log_scalars({"far": 1.0}, 2**63 + step)
                logger.log_text("\ud800", "text", step)
        assert logger.flush()
        assert logger.counts == (100, 6, 0)
    assert [step for step, scalars in logger.scalars if "good" in scalars] == list(range(100))
    assert "scalars far at step 9223372036854775808 was refused: OverflowError" in caplog.text
    assert "text \\ud800 at step 0 was refused: UnicodeEncodeError" in caplog.text
