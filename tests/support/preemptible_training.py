"""Training that a signal ends and another process resumes, for the tests of preemption."""

import contextlib
import hashlib
import os
import time
import warnings

BATCHES = 12
PER_BATCH = 4


class Regions:
    """Notes in a file which part of the run begins, so that a test can send its signal there, and stays there for a while."""

    def __init__(self, folder, pause):
        self._file = os.open(folder / f"regions-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._pause = pause

    def enter(self, name):
        """Begin a part of the run, and stay there for a while."""
        os.write(self._file, f"{name}\n".encode())
        time.sleep(self._pause)


class SlowState:
    """Part of a checkpoint that is slow to save."""

    def __init__(self, regions):
        self._regions = regions

    def state_dict(self):
        """Save slowly."""
        self._regions.enter("save")
        return {"done": True}

    def load_state_dict(self, state):
        """Load nothing."""


def digest_of(model):
    """Return a digest of all weights."""
    total = hashlib.sha256()
    for value in model.state_dict().values():
        total.update(value.numpy().tobytes())
    return total.hexdigest()


def make_data(regions, workers):
    """Return a shuffled DataLoader with random noise in each sample."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Noisy(Dataset):
        def __len__(self):
            return BATCHES * PER_BATCH

        def __getitem__(self, index):
            if index == 5:
                regions.enter("data")
            return torch.full((8,), index / 48) + torch.rand(8), torch.ones(1)

    return DataLoader(Noisy(), batch_size=PER_BATCH, shuffle=True, num_workers=workers)


def attach_checkpoints(trainer, evaluator, parts, folder, async_save):
    """Attach the pattern of the README: the latest checkpoint on the trainer, the best one on the evaluator."""
    from glowplug import Events
    from glowplug_model_checkpoint import ModelCheckpoint

    options = {"require_empty": False, "async_save": async_save}
    latest = ModelCheckpoint(folder / "checkpoints", "latest", to_save=parts, **options)
    best = ModelCheckpoint(
        folder / "checkpoints", "best", score_name="score", to_save={"model": parts["model"]}, **options
    )
    latest.attach(trainer, Events.EPOCH_COMPLETED(every=2))
    best.attach(evaluator, Events.COMPLETED)
    newest = ModelCheckpoint.latest(folder / "checkpoints", "latest")
    if newest:
        ModelCheckpoint.load_objects(parts, newest)


def train_preemptible(
    folder,
    kind,
    target,
    logger_factory,
    *,
    options=None,
    epochs=None,
    workers=0,
    pause=0.0,
    pace=0.0,
    async_save=False,
):
    """Train with checkpoints, a validation and a logger, until a signal comes or the given number of epochs is done.

    A job without ``epochs`` runs to the end of the epoch that it resumes in, and one more. Returns the digest of the weights at
    the end of each epoch.
    """
    import torch
    from torch import nn

    from glowplug import Engine, Events, create_supervised_trainer
    from glowplug_preemption import Preemption

    torch.manual_seed(7)
    regions, digests = Regions(folder, pause), {}
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.9)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.mse_loss)
    evaluator = Engine(lambda engine, batch: regions.enter("validation"))
    calls = os.open(folder / f"calls-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @evaluator.on(Events.COMPLETED)
    def score(engine):
        engine.state.metrics["score"] = float(torch.rand(()))

    @trainer.on(Events.STARTED)
    def begin():
        regions.enter("start")

    @trainer.on(Events.ITERATION_COMPLETED)
    def note(engine):
        os.write(calls, b"%d %.6f\n" % (engine.state.iteration, time.time()))
        time.sleep(pace)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(engine):
        evaluator.run(range(2))
        with warnings.catch_warnings():
            # A process that resumes at the end of an epoch steps the scheduler before the optimizer, as it should.
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            scheduler.step()
        digests[engine.state.epoch] = digest_of(model)

    logger = logger_factory(kind, target, {"timeout": 10.0, **(options or {})})
    logger.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED, "training", output_transform=lambda loss: {"loss": loss}
    )
    parts = {
        "model": model,
        "optimizer": optimizer,
        "scheduler": scheduler,
        "trainer": trainer,
        "slow": SlowState(regions),
    }
    attach_checkpoints(trainer, evaluator, parts, folder, async_save)
    trainer.attach(Preemption())
    data = make_data(regions, workers)
    trainer.run(data, max_epochs=epochs or max(1, trainer.state.epoch + 2))
    with contextlib.suppress(OSError):
        os.close(calls)
    return {"iteration": trainer.state.iteration, "digests": digests}
