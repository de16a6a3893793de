"""Tests of saves in the background (async_save=True)."""

import threading
import time
import warnings

import pytest
import torch
from torch import nn

from glowplug import Engine, Events, RunOutcome
from glowplug.exceptions import GlowplugWarning
from glowplug.loggers import Logger
from glowplug.testing import FakeEngine
from glowplug_model_checkpoint import Checkpoint, DiskSaver, KeepBest, KeepLast, ModelCheckpoint

LIMIT = 30.0


class Gated(DiskSaver):
    """Writes a checkpoint only after a permission, or fails."""

    def __init__(self, dirname, *, is_open=False, error=None):
        super().__init__(dirname)
        self.gate = threading.Event()
        self.threads = []
        self.error = error
        if is_open:
            self.gate.set()

    def save(self, checkpoint, filename, metadata=None):
        self.threads.append(threading.current_thread())
        assert self.gate.wait(LIMIT)
        if self.error is not None:
            raise self.error
        super().save(checkpoint, filename, metadata)

    def wait_until_written(self):
        """Wait until the last thread has ended."""
        self.gate.set()
        while not self.threads:
            time.sleep(0.001)
        self.threads[-1].join(LIMIT)


@pytest.fixture
def trainer():
    """A trainer whose step changes the weights in place."""

    def step(engine, batch):
        engine.model.weight.data.add_(1.0)

    engine = Engine(step)
    engine.model = nn.Linear(2, 1)
    return engine


def attach(trainer, saver, event=Events.EPOCH_COMPLETED, **options):
    """Attach an asynchronous checkpoint handler."""
    options = {"async_save": True, **options}
    checkpoint = Checkpoint({"model": trainer.model, "trainer": trainer}, saver, **options)
    checkpoint.attach(trainer, event)
    return checkpoint


def test_training_continues_during_a_save(trainer, tmp_path, names):
    """Steps run during a save; only after the file is durable, the event fires and the older file goes (C1, C5)."""
    saver, seen = Gated(tmp_path, is_open=True), []
    checkpoint = attach(trainer, saver, Events.ITERATION_COMPLETED(every=10))

    @trainer.on(checkpoint.SAVED_CHECKPOINT)
    def note(engine):
        seen.append((engine.state.iteration, checkpoint.last_checkpoint.name))
        assert checkpoint.last_checkpoint.exists()

    @trainer.on(Events.ITERATION_STARTED)
    def control(engine):
        if engine.state.iteration == 11:
            saver.wait_until_written()
        if engine.state.iteration == 20:
            assert seen == [(11, "checkpoint_10.pt")]
            saver.gate.clear()
        if engine.state.iteration == 27:
            # The second save is still waiting.
            assert (names(tmp_path), len(seen)) == (["checkpoint_10.pt"], 1)
            assert checkpoint.last_checkpoint.name == "checkpoint_10.pt"
            saver.wait_until_written()
            assert names(tmp_path) == ["checkpoint_10.pt", "checkpoint_20.pt"]
        if engine.state.iteration == 28:
            assert seen[1:] == [(27, "checkpoint_20.pt")]
            assert names(tmp_path) == ["checkpoint_20.pt"]

    trainer.run([0] * 28)
    assert len(seen) == 2
    assert threading.main_thread() not in saver.threads


@pytest.mark.parametrize("options", [{}, {"include_self": True}, {"keep": KeepBest(1, by="a") | KeepLast(2)}])
def test_files_equal_those_of_synchronous_saves(tmp_path, assert_equal, options):
    """Files, contents and metadata are those of synchronous saves, although the weights change during the save (C4)."""
    found = {}
    for is_async in (False, True):
        torch.manual_seed(0)
        folder = tmp_path / str(is_async)
        model = nn.Sequential(nn.Linear(50, 50), nn.BatchNorm1d(50))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

        def step(engine, batch, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            model(torch.randn(4, 50)).square().sum().backward()
            optimizer.step()
            engine.state.metrics["a"] = float(model[0].weight.detach().sum().sin())

        trainer = Engine(step)
        checkpoint = ModelCheckpoint(
            folder,
            to_save={"model": model, "optimizer": optimizer, "trainer": trainer},
            async_save=is_async,
            **options,
        )
        checkpoint.attach(trainer, Events.ITERATION_COMPLETED(every=3))
        trainer.run([0] * 20, max_epochs=2)
        saver = DiskSaver(folder, require_empty=False)
        found[is_async] = {
            name: (torch.load(folder / name, weights_only=True), saver.metadata(name))
            for name in sorted(saver.list())
        }
    for (name, sync), (other, asynchronous) in zip(found[False].items(), found[True].items(), strict=True):
        assert name == other
        assert_equal(asynchronous, sync)


def test_one_save_at_a_time(trainer, tmp_path):
    """A save waits for the save before it, which is then complete (C5)."""
    saver, seen = Gated(tmp_path), []
    checkpoint = attach(trainer, saver, Events.ITERATION_COMPLETED, n_saved=None)
    trainer.add_event_handler(
        checkpoint.SAVED_CHECKPOINT,
        lambda: seen.append((trainer.state.iteration, checkpoint.last_checkpoint.name)),
    )
    threading.Timer(0.3, saver.gate.set).start()
    trainer.run([0] * 3)
    assert [name for _, name in seen] == ["checkpoint_1.pt", "checkpoint_2.pt", "checkpoint_3.pt"]
    assert seen[0][0] == 2
    assert len(saver.threads) == 3


def end_completed(trainer):
    """Complete the run."""


def end_terminated(trainer):
    """Terminate the run."""
    trainer.terminate(skip_completed=True)


def end_interrupted(trainer):
    """Interrupt the run."""
    trainer.interrupt()


def end_failed(trainer):
    """Let the run fail."""
    raise ZeroDivisionError("the step failed")


@pytest.mark.parametrize("end", [end_completed, end_terminated, end_interrupted, end_failed])
def test_end_of_run_waits_for_the_save(trainer, tmp_path, names, end):
    """However a run ends, its last save is complete when run() returns or raises (C1, C5)."""
    saver = Gated(tmp_path)
    checkpoint = attach(trainer, saver, Events.ITERATION_COMPLETED(once=2))
    saved = []
    trainer.add_event_handler(
        checkpoint.SAVED_CHECKPOINT, lambda: saved.append(checkpoint.last_checkpoint.name)
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), end, trainer)
    threading.Timer(0.2, saver.gate.set).start()
    try:
        trainer.run([0] * 3)
    except ZeroDivisionError:
        assert end is end_failed
    assert saved == names(tmp_path) == ["checkpoint_2.pt"]


class TestFailure:
    """A failure in the background surfaces at the next boundary (C5)."""

    def test_next_iteration(self, trainer, tmp_path):
        """The run fails at the first iteration after the save has failed, and nothing is recorded."""
        saver = Gated(tmp_path, error=OSError(28, "No space left on device"))
        checkpoint = attach(trainer, saver, Events.ITERATION_COMPLETED(once=2))
        trainer.add_event_handler(Events.ITERATION_STARTED(once=5), saver.wait_until_written)
        with pytest.raises(OSError, match="No space left"):
            trainer.run([0] * 10)
        assert trainer.state.iteration == 5
        assert (checkpoint.saved, trainer.state.outcome) == ((), RunOutcome.FAILED)

    def test_end_of_run(self, trainer, tmp_path):
        """A failure that nobody has seen yet ends the run as FAILED."""
        attach(trainer, Gated(tmp_path, is_open=True, error=OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space left"):
            trainer.run([0])
        assert trainer.state.outcome is RunOutcome.FAILED

    def test_close(self, tmp_path, model, fake):
        """close() raises the failure once."""
        saver = Gated(tmp_path, is_open=True, error=OSError(28, "No space left on device"))
        checkpoint = Checkpoint({"model": model}, saver, async_save=True)
        checkpoint(fake)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.close()
        checkpoint.close()

    def test_next_save(self, tmp_path, model, fake):
        """The next save raises the failure."""
        saver = Gated(tmp_path, is_open=True, error=OSError(28, "No space left on device"))
        checkpoint = Checkpoint({"model": model}, saver, async_save=True)
        checkpoint(fake)
        with pytest.raises(OSError, match="No space left"):
            checkpoint(fake)

    def test_warn(self, trainer, tmp_path, names):
        """With on_error="warn", a failed save costs that save alone, and the summary counts it (C2)."""
        saver = Gated(tmp_path, is_open=True)
        checkpoint = attach(trainer, saver, on_error="warn")

        @trainer.on(Events.EPOCH_STARTED)
        def fail_in_epoch_3(engine):
            checkpoint.close()
            saver.error = OSError(28, "No space left on device") if engine.state.epoch == 3 else None

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GlowplugWarning)
            trainer.run([0], max_epochs=5)
        first, last = (str(each.message) for each in caught)
        assert "could not save 'checkpoint_3.pt'" in first
        assert "1 of 5 saves failed: checkpoint_3.pt" in last
        assert names(tmp_path) == ["checkpoint_5.pt"]

    def test_last_save_is_in_the_summary(self, trainer, tmp_path):
        """The summary at the end of the run counts a save that fails while the run ends (C2)."""
        saver = Gated(tmp_path, is_open=True)
        attach(trainer, saver, on_error="warn")

        @trainer.on(Events.EPOCH_COMPLETED)
        def fail_in_epoch_2(engine):
            saver.error = OSError(28, "No space left on device") if engine.state.epoch == 2 else None

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GlowplugWarning)
            trainer.run([0], max_epochs=2)
        assert "1 of 2 saves failed" in str(caught[-1].message)


def test_copy_fails(tmp_path, fake):
    """If the states cannot be read, the call itself fails, and a later save works."""

    class Broken(nn.Linear):
        is_broken = True

        def state_dict(self, *arguments, **options):
            if self.is_broken:
                raise ZeroDivisionError("no state")
            return super().state_dict(*arguments, **options)

    model = Broken(1, 1)
    checkpoint = Checkpoint({"model": model}, DiskSaver(tmp_path), async_save=True)
    with pytest.raises(ZeroDivisionError):
        checkpoint(fake)
    model.is_broken = False
    checkpoint(fake)
    checkpoint.close()
    assert checkpoint.last_checkpoint.exists()


def test_save_now_is_synchronous(trainer, tmp_path, names):
    """Before the process ends, the save in the background is completed, and the last save is on disk at once (C6)."""
    saver = Gated(tmp_path)
    checkpoint = attach(trainer, saver, Events.ITERATION_COMPLETED(once=2), n_saved=2)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), trainer.interrupt)
    threading.Timer(0.1, saver.gate.set).start()
    trainer.run([0] * 5)
    assert checkpoint.save_now(trainer)
    assert names(tmp_path) == ["checkpoint_2.pt", "checkpoint_3.pt"]
    assert saver.threads[-1] is threading.main_thread()


def test_failed_run_is_saved_at_once(trainer, tmp_path, names):
    """At EXCEPTION_RAISED, the checkpoint is on disk when the handler returns."""
    checkpoint = attach(trainer, DiskSaver(tmp_path), Events.EXCEPTION_RAISED)
    found = []
    trainer.add_event_handler(Events.TEARDOWN, lambda: found.extend(names(tmp_path)))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), end_failed, trainer)
    with pytest.raises(ZeroDivisionError):
        trainer.run([0] * 3)
    assert found == [checkpoint.last_checkpoint.name]


def test_evaluator(trainer, tmp_path, names):
    """A handler of an evaluator completes its saves while the trainer trains."""
    evaluator, saver = Engine(lambda engine, batch: None), Gated(tmp_path, is_open=True)
    best = Checkpoint(
        {"model": trainer.model}, saver, score_function=lambda engine: trainer.state.epoch, async_save=True
    )
    best.attach(evaluator, Events.COMPLETED)
    seen = []
    evaluator.add_event_handler(
        best.SAVED_CHECKPOINT, lambda engine: seen.append((engine is evaluator, trainer.state.iteration))
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda: saver.threads and saver.wait_until_written())
    trainer.run([0] * 3, max_epochs=2)
    assert seen == [(True, 4), (True, 6)]
    assert names(tmp_path) == ["model_2_2.0000.pt"] or len(names(tmp_path)) == 1


def test_handlers_are_removed_after_the_save(tmp_path, model):
    """Between saves, an asynchronous handler has no handlers at the iterations of the trainer."""
    fake = FakeEngine()
    checkpoint = Checkpoint({"model": model}, DiskSaver(tmp_path), async_save=True)
    before = len(fake.registrations())
    checkpoint(fake)
    assert len(fake.registrations()) > before
    checkpoint.close()
    assert len(fake.registrations()) == before


def test_restore_waits_for_the_save(trainer, tmp_path):
    """restore() returns the checkpoint that is in the background when it is called."""
    saver = Gated(tmp_path)
    checkpoint = attach(trainer, saver)
    checkpoint(trainer)
    threading.Timer(0.1, saver.gate.set).start()
    assert checkpoint.restore({"model": trainer.model}) == checkpoint.last_checkpoint


def test_reset_keeps_files(trainer, tmp_path, names):
    """Files that the user made the handler forget during a save are not removed."""
    saver = Gated(tmp_path, is_open=True)
    checkpoint = Checkpoint({"model": trainer.model}, saver, async_save=True)
    trainer.state.iteration = 1
    checkpoint(trainer)
    checkpoint.close()
    trainer.state.iteration = 2
    checkpoint(trainer)
    checkpoint.reset()
    checkpoint.close()
    assert names(tmp_path) == ["model_1.pt", "model_2.pt"]


def test_save_handler_with_its_own_copy(trainer, memory_store):
    """A save handler with a method stage() makes the copy itself, and the returned function runs on another thread."""
    threads = []

    class Staging(type(memory_store)):
        def stage(self, checkpoint, filename, metadata=None):
            copied = {name: weight.clone() for name, weight in checkpoint.items()}

            def commit():
                threads.append(threading.current_thread())
                self.save(copied, filename, metadata)

            return commit

    store = Staging()
    checkpoint = Checkpoint({"model": trainer.model}, store, async_save=True)
    before = trainer.model.weight.detach().clone()
    checkpoint(trainer)
    trainer.model.weight.data.add_(1.0)
    checkpoint.close()
    assert torch.equal(store.files["model_0.pt"]["weight"], before)
    assert threads
    assert threads[0] is not threading.main_thread()


class Artifacts(Logger):
    """Keeps the names of artifacts."""

    def __init__(self, **options):
        super().__init__(**options)
        self.files = []

    def write_scalars(self, scalars, step, timestamp):
        """Ignore numbers."""

    def write_artifact(self, path, name):
        """Read an artifact."""
        self.files.append(torch.load(path, weights_only=True)["weight"].tolist())


@pytest.mark.parametrize("async_save", [False, True])
def test_also_to(trainer, tmp_path, async_save):
    """Each checkpoint reaches the logger with the content that it had, although its file is removed later."""
    logger = Artifacts()
    checkpoint = ModelCheckpoint(
        tmp_path, to_save={"model": trainer.model}, async_save=async_save, also_to=logger
    )
    trainer.attach(checkpoint)
    weights = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: weights.append(trainer.model.weight.tolist()))
    trainer.run([0], max_epochs=3)
    logger.close()
    assert logger.files == weights


def test_also_to_is_checked(tmp_path, model, memory_store):
    """A logger that stores no artifacts, or checkpoints that are no files, are refused when the handler is made."""

    class Numbers(Logger):
        def write_scalars(self, scalars, step, timestamp):
            """Ignore numbers."""

    for wrong in (Numbers(), "mlflow", None):
        with pytest.raises(TypeError, match="also_to needs loggers that store artifacts"):
            ModelCheckpoint(tmp_path, to_save={"model": model}, also_to=wrong)
    with pytest.raises(ValueError, match="also_to needs checkpoints in a folder"):
        Checkpoint({"model": model}, memory_store, also_to=Artifacts())
