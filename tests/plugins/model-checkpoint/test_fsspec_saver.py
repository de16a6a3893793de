"""Tests of checkpoints at the addresses of fsspec: in memory, in a folder, and on a real S3 server."""

import os
import random
import sys
import time
import uuid

import fsspec
import fsspec.asyn
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from torch import nn

from glowplug import Engine
from glowplug.exceptions import GlowplugWarning, PluginNotFoundError
from glowplug.plugins import Registry, use_registry
from glowplug.typing import VerifyingSaveHandler
from glowplug_model_checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    DiskSaver,
    FsspecSaver,
    ModelCheckpoint,
    publishing,
    remote_storage,
)
from glowplug_testing import SaveHandlerCase, SaveHandlerContract

CONTENT = {"model": {"weight": torch.arange(5000.0)}, "trainer": {"iteration": 7, "text": "größe"}}
METADATA = {"step": 7}
COUNT = round(float(os.environ.get("GLOWPLUG_CAMPAIGN", "0")) * 1000) or 60


class TestContract(SaveHandlerContract):
    @pytest.fixture(autouse=True)
    def limited(self, request, address):
        """A memory is not shared by processes."""
        if address.startswith("memory:") and "one_rank_writes" in request.node.name:
            pytest.skip("each process has its own memory")

    @pytest.fixture
    def case(self, address, tmp_path):
        """A saver for one of the addresses."""
        # fsspec starts one thread for all drivers, which never ends.
        fsspec.asyn.get_loop()
        return SaveHandlerCase(
            make=lambda: FsspecSaver(address),
            folder=tmp_path / "run" if address.startswith("file:") else None,
            plugin="glowplug_model_checkpoint._plugin",
            seconds_between_saves=1.01 if address.startswith("s3:") else 0.02,
        )


def run(address, model, epochs, **options):
    """Train, and return the trainer and its checkpoint handler."""
    trainer = Engine(lambda engine, batch: None)
    checkpoint = ModelCheckpoint(address, to_save={"model": model, "trainer": trainer}, **options)
    trainer.attach(checkpoint)
    trainer.run([1, 2], max_epochs=epochs)
    return trainer, checkpoint


class TestRuns:
    def test_save_find_and_resume(self, address, model):
        """A run saves to an address, removes old checkpoints, is found there and continues there."""
        assert ModelCheckpoint.latest(address) is None
        _, checkpoint = run(address, model, 3, n_saved=2)
        saver = checkpoint.save_handler
        assert isinstance(saver, FsspecSaver)
        assert isinstance(saver, VerifyingSaveHandler)
        assert sorted(saver.list()) == ["checkpoint_4.pt", "checkpoint_6.pt"]
        assert checkpoint.last_checkpoint == ModelCheckpoint.latest(address) == f"{address}/checkpoint_6.pt"
        fresh = nn.Linear(2, 1)
        ModelCheckpoint.load_objects({"model": fresh}, checkpoint.last_checkpoint)
        assert torch.equal(fresh.weight, model.weight)
        resumed, again = run(address, nn.Linear(2, 1), 4, n_saved=2, resume="auto")
        assert again.resumed_from == f"{address}/checkpoint_6.pt"
        assert resumed.state.iteration == 8
        assert sorted(saver.list()) == ["checkpoint_6.pt", "checkpoint_8.pt"]

    def test_best_and_restore(self, address, model):
        """The best checkpoint is found by its score, and a damaged one is skipped when the latest is restored (C3)."""
        trainer = Engine(lambda engine, batch: None)
        checkpoint = ModelCheckpoint(
            address,
            "best",
            score_function=lambda engine: -abs(engine.state.epoch - 2),
            score_name="score",
            n_saved=None,
            to_save={"model": model},
        )
        trainer.attach(checkpoint)
        trainer.run([1], max_epochs=3)
        best = ModelCheckpoint.best(address, "best")
        assert best == str(checkpoint.best_checkpoint)
        assert "best_model_2" in best
        name = "best_model_3_score=-1.pt"
        change(f"{address}/{name}", lambda content: content[:2000] + b"?" + content[2001:])
        with pytest.warns(GlowplugWarning, match="skipped the checkpoint .*best_model_3"):
            assert "best_model_2" in checkpoint.restore({"model": nn.Linear(2, 1)}, "latest")

    def test_require_empty(self, address, model):
        """A new run refuses an address with checkpoints of its prefix, but not those of other prefixes."""
        run(address, model, 1, filename_prefix="last")
        with pytest.raises(ValueError, match=r"already contains checkpoints: last_checkpoint_2\.pt\. Choose"):
            run(address, model, 1, filename_prefix="last")
        with pytest.raises(ValueError, match="already contains checkpoints"):
            Checkpoint({"model": model}, address)
        with pytest.raises(ValueError, match="already contains checkpoints"):
            FsspecSaver(address, require_empty=True)
        run(address, model, 1, filename_prefix="best")
        run(address, model, 1, filename_prefix="last", require_empty=False)

    def test_options_have_an_effect(self, address, model):
        """The digest, read_back and save_on_rank of a ModelCheckpoint apply to an address."""
        checkpoint = ModelCheckpoint(address, digest="sha256", read_back=True, to_save={"model": model})
        assert (checkpoint.save_handler.digest, checkpoint.save_handler.read_back) == ("sha256", True)
        assert ModelCheckpoint(address, save_on_rank=1).save_handler.save_on_rank == 1
        checkpoint.save_handler.save(CONTENT, "a.pt", METADATA)
        assert checkpoint.save_handler.verify("a.pt")


def change(address, function):
    """Change the bytes of a checkpoint."""
    driver, path = fsspec.core.url_to_fs(address)
    driver.invalidate_cache()
    driver.pipe_file(path, function(driver.cat_file(path)))


def test_damage(address):
    """Each flipped bit and each truncation of a checkpoint at an address is detected, and so is a changed manifest (C3)."""
    seed = int(os.environ.get("GLOWPLUG_SEED") or random.randrange(1_000_000))
    print(f"repeat with GLOWPLUG_SEED={seed}")
    chance, saver, missed = random.Random(seed), FsspecSaver(address), []
    saver.save(CONTENT, "a.pt", METADATA)
    driver, path = fsspec.core.url_to_fs(f"{address}/a.pt")
    content = driver.cat_file(path)
    for number in range(COUNT):
        position = chance.randrange(len(content))
        damaged = bytearray(content)
        damaged[position] ^= 1 << chance.randrange(8)
        driver.pipe_file(path, bytes(damaged) if number % 2 else content[:position])
        try:
            saver.verify("a.pt")
        except DamagedCheckpointError:
            continue
        missed.append((position, number % 2))
    print(f"C3: {COUNT} damages at {address.partition(':')[0]}://, {len(missed)} missed")
    assert missed == []
    driver.pipe_file(path, content)
    assert saver.verify("a.pt")


def test_files_are_those_of_disk_saver(address, tmp_path):
    """A checkpoint at an address has the bytes that DiskSaver writes."""
    FsspecSaver(address).save(CONTENT, "a.pt", METADATA)
    saver = DiskSaver(tmp_path / "disk")
    saver.save(CONTENT, "a.pt", METADATA)
    driver, path = fsspec.core.url_to_fs(f"{address}/a.pt")
    assert driver.cat_file(path) == saver.locate("a.pt").read_bytes()


def test_metadata_reads_only_the_end(address, monkeypatch):
    """The metadata of a large checkpoint are read with few requests of its end."""
    saver = FsspecSaver(address)
    saver.save({"weight": torch.zeros(2_000_000)}, "large.pt", METADATA)
    read, make = [], remote_storage._Parts.__init__

    def counting(self, fetch, size):
        make(self, lambda begin, end: read.append(end - begin) or fetch(begin, end), size)

    monkeypatch.setattr(remote_storage._Parts, "__init__", counting)
    assert saver.metadata("large.pt") == METADATA
    if address.startswith("file:"):
        assert read == []
    else:
        assert 1 <= len(read) <= 2
        assert sum(read) <= 1 << 19


@pytest.mark.parametrize("address", ["memory"], indirect=True)
class TestInterrupted:
    @pytest.fixture(params=["put_file", "mv"])
    def failing(self, request, monkeypatch):
        """One operation of the driver that fails half way."""

        def fail(self, source, target, **options):
            if request.param == "put_file":
                self.pipe_file(target, b"half")
            raise OSError("connection lost")

        monkeypatch.setattr(MemoryFileSystem, request.param, fail)

    def test_failed_upload(self, address, failing):
        """A failed upload or rename leaves neither a checkpoint nor a temporary file (C1)."""
        saver = FsspecSaver(address)
        with pytest.raises(OSError, match="connection lost"):
            saver.save(CONTENT, "a.pt", METADATA)
        assert saver.list() == []
        driver, path = fsspec.core.url_to_fs(address)
        assert driver.ls(path) == []

    def test_stale_temporaries_are_swept(self, address, monkeypatch):
        """The first save removes temporary files of killed processes, and no upload that may be in progress (C1)."""
        driver, path = fsspec.core.url_to_fs(address)
        driver.makedirs(path)
        driver.pipe_file(f"{path}/{publishing.temporary_name()}", b"half")
        FsspecSaver(address).save(CONTENT, "a.pt", METADATA)
        assert len(driver.ls(path)) == 2
        now = time.time()
        monkeypatch.setattr(remote_storage.time, "time", lambda: now + 25 * 3600)
        saver = FsspecSaver(address)
        saver.save(CONTENT, "b.pt", METADATA)
        assert len(driver.ls(path)) == 2
        assert saver.list() == ["a.pt", "b.pt"]

    def test_read_back(self, address, monkeypatch):
        """With read_back, a file that differs from what was written gets no name (C3)."""
        saver = FsspecSaver(address, read_back=True)
        saver.save(CONTENT, "a.pt", METADATA)
        put_file = MemoryFileSystem.put_file

        def corrupt(self, local, target, **options):
            put_file(self, local, target, **options)
            change(f"memory:/{target}", lambda content: content[:3000] + b"?" + content[3001:])

        monkeypatch.setattr(MemoryFileSystem, "put_file", corrupt)
        with pytest.raises(DamagedCheckpointError):
            saver.save(CONTENT, "a.pt", METADATA)
        assert saver.list() == ["a.pt"]
        assert saver.verify("a.pt")


@pytest.mark.parametrize("address", ["s3"], indirect=True)
class TestS3:
    def test_missing_bucket(self, address):
        """A bucket that does not exist is an error, and not an empty place."""
        with pytest.raises(FileNotFoundError):
            ModelCheckpoint.latest(f"s3://{uuid.uuid4().hex}/run")

    def test_no_server(self, address):
        """A server that does not answer is an error when checkpoints are listed, and not an empty place."""
        options = {"config_kwargs": {"retries": {"max_attempts": 1}}, "endpoint_url": "http://127.0.0.1:9"}
        saver = FsspecSaver(address, storage_options=options)
        with pytest.raises(Exception, match=r"127\.0\.0\.1:9"):
            saver.list()

    def test_multipart_upload(self, address, monkeypatch):
        """A file that is uploaded in parts is complete and verified."""
        saver = FsspecSaver(address)
        content = {"weight": torch.randn(32_000_000)}
        saver.save(content, "large.pt", METADATA)
        assert saver.verify("large.pt")
        assert saver.metadata("large.pt") == METADATA


class Leaky(MemoryFileSystem):
    """A driver that shows its credentials in errors."""

    protocol = "leaky"

    def __init__(self, **options):
        super().__init__(**options)
        self.shown = options

    def ls(self, path, detail=True, **options):
        raise PermissionError(f"{path} refused {self.shown}")

    @classmethod
    def _strip_protocol(cls, path):
        return path.partition("@")[2] or path


def test_secrets_are_not_shown(monkeypatch):
    """Passwords in an address and in storage_options appear neither in errors, nor in locations, nor in repr (S3)."""
    fsspec.register_implementation("leaky", Leaky, clobber=True)
    address = "leaky://me:canary-1@host/run?token=canary-2"
    saver = FsspecSaver(address, storage_options={"password": "canary-3", "client": {"secret": "canary-4"}})
    with pytest.raises(PermissionError, match=r"'password': '\*\*\*'") as raised:
        saver.list()
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    with use_registry(Registry([])), pytest.raises(PluginNotFoundError) as unknown:
        ModelCheckpoint(address.replace("leaky", "acme"))
    with pytest.raises(TypeError, match="only supported for folders") as refused:
        ModelCheckpoint(address, pickle_protocol=4)
    shown = [repr(saver), str(saver.locate("a.pt")), *map(str, (raised.value, unknown.value, refused.value))]
    assert [text for text in shown if "canary" in text] == []
    assert saver.locate("a.pt") == "leaky://me@host/run/a.pt"


class TestDrivers:
    def test_missing_driver(self, monkeypatch):
        """If the driver of a scheme is not installed, the handler cannot be constructed, and the error says what to install."""
        monkeypatch.setitem(
            known_implementations,
            "acme-store",
            {"class": "acme_nosuch.FileSystem", "err": "Install acme-nosuch to access Acme"},
        )
        for make in (ModelCheckpoint, lambda address: Checkpoint({}, FsspecSaver(address))):
            with pytest.raises(
                ImportError, match=r"acme-store:// addresses need .* not installed: Install acme-nosuch"
            ):
                make("acme-store://run")
        with pytest.raises(ImportError, match="Install acme-nosuch"):
            ModelCheckpoint.latest("acme-store://run")

    def test_missing_fsspec(self, monkeypatch):
        """Without fsspec, an address of an object store raises an error that says what to install."""
        monkeypatch.setitem(sys.modules, "fsspec.registry", None)
        with pytest.raises(ImportError, match=r"pip install 'glowplug-model-checkpoint\[fsspec\]'"):
            ModelCheckpoint("s3://bucket/run", require_empty=False)
        with pytest.raises(PluginNotFoundError, match="no plugin handles acme:// addresses"):
            ModelCheckpoint("acme://run")

    @pytest.mark.parametrize("address", ["acme://run", "https://host/run"])
    def test_other_schemes_are_not_claimed(self, address):
        """A scheme that fsspec does not know, or that nobody can write to, remains for other plugins."""
        with pytest.raises(PluginNotFoundError, match="no plugin handles"):
            ModelCheckpoint(address)

    def test_folder_is_no_address(self, tmp_path):
        """FsspecSaver refuses a folder."""
        with pytest.raises(ValueError, match="url must be an address"):
            FsspecSaver(str(tmp_path))

    def test_other_rank(self, model):
        """A save handler for another rank than that of Checkpoint is refused."""
        with pytest.raises(ValueError, match="save_on_rank is 1 for the FsspecSaver but 0 for Checkpoint"):
            Checkpoint({"model": model}, FsspecSaver("memory://ranks", save_on_rank=1))
