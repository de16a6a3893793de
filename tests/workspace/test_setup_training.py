"""setup_training with the real plugins: what it attaches, saves, logs and prints."""

import json

import pytest
import torch
from torch import nn

from glowplug import Engine, Events, create_supervised_evaluator, create_supervised_trainer, setup_training
from glowplug_jsonl import JsonLinesLogger
from glowplug_metrics import Accuracy, Loss

DATA = [(x, x.argmax(1)) for x in torch.randn(96, 4, generator=torch.Generator().manual_seed(1)).split(16)]


class Job:
    """A small classifier."""

    def __init__(self, folder, lr=0.5, **options):
        torch.manual_seed(0)
        self.model = nn.Linear(4, 4)
        loss_fn = nn.functional.cross_entropy
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr)
        self.trainer = create_supervised_trainer(self.model, self.optimizer, loss_fn)
        self.evaluator = create_supervised_evaluator(
            self.model, {"accuracy": Accuracy(), "loss": Loss(loss_fn)}
        )
        self.shown = []
        self.setup = setup_training(
            self.trainer,
            {"model": self.model, "optimizer": self.optimizer},
            folder,
            self.evaluator,
            DATA,
            **{"progress": False, "show": self.shown.append, **options},
        )

    def run(self, epochs):
        """Train, and return the job."""
        self.trainer.run(DATA, max_epochs=epochs)
        return self


def test_files_and_text(tmp_path):
    """A run saves the latest and the best checkpoint, logs, and prints what was attached (E-210)."""
    with JsonLinesLogger(tmp_path / "log.jsonl") as logger:
        job = Job(tmp_path / "saved", best="accuracy", patience=50, loggers=[logger], log_every=3).run(2)
    best, latest = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert best.startswith("best_model_")
    assert latest == "checkpoint_12.pt"
    assert (job.setup.best.best_checkpoint.name, job.setup.latest.last_checkpoint.name) == (best, latest)
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    logged = [(each["step"], set(each["values"])) for each in records if each["kind"] == "scalars"]
    expected = [
        *((step, {name}) for step in (3, 6) for name in ("lr/group_0", "training/loss")),
        (6, {"validation/accuracy", "validation/loss"}),
        *((step, {name}) for step in (9, 12) for name in ("lr/group_0", "training/loss")),
        (12, {"validation/accuracy", "validation/loss"}),
    ]
    assert logged == expected
    (text,) = job.shown
    assert text.splitlines() == [
        "TerminateOnNan   stops the run at a NaN or infinite output",
        "evaluator        runs at Events.EPOCH_COMPLETED",
        f"ModelCheckpoint  saves the checkpoint with the best accuracy in {tmp_path / 'saved'}",
        "EarlyStopping    stops the run after 50 evaluations without a better accuracy",
        "JsonLinesLogger  logs the training every 3 iterations",
        f"ModelCheckpoint  saves all objects in {tmp_path / 'saved'} at Events.EPOCH_COMPLETED",
    ]


def test_objects_of_the_best_checkpoint(tmp_path):
    """The best checkpoint contains the given objects, else the model or, without a model, everything."""
    average = nn.Linear(4, 4)
    contents = {}
    for name, options in (("given", {"to_save_best": {"average": average}}), ("default", {})):
        job = Job(tmp_path / name, best="accuracy", **options).run(1)
        contents[name] = torch.load(job.setup.best.best_checkpoint)
    assert torch.equal(contents["given"]["weight"], average.weight)
    assert torch.equal(contents["default"]["weight"], job.model.weight)
    trainer = Engine(lambda engine, batch: None)
    evaluator = Engine(lambda engine, batch: None)
    evaluator.add_event_handler(Events.COMPLETED, lambda: evaluator.state.metrics.update(accuracy=1.0))
    setup = setup_training(
        trainer, {"net": average}, tmp_path / "all", evaluator, [0], best="accuracy", progress=False, show=str
    )
    trainer.run([0])
    assert torch.load(setup.best.best_checkpoint).keys() == {"net", "trainer"}


def test_second_start_continues(tmp_path):
    """A second call with the same folder continues the run, which ends as a run that was never stopped."""
    whole = Job(tmp_path / "whole", best="loss", mode="min").run(4)
    Job(tmp_path / "parts", best="loss", mode="min").run(2)
    second = Job(tmp_path / "parts", best="loss", mode="min")
    assert second.trainer.state.epoch == 2
    assert "resumed from" in second.shown[0]
    assert second.setup.best.best_checkpoint.is_file()
    second.run(4)
    assert torch.equal(second.model.weight, whole.model.weight)
    assert second.setup.best.best_checkpoint.name == whole.setup.best.best_checkpoint.name


@pytest.mark.parametrize(("mode", "best_epoch", "last_epoch"), [("min", 6, 6), ("max", 1, 3)])
def test_mode(tmp_path, mode, best_epoch, last_epoch):
    """A falling loss is best at the end with mode="min"; with mode="max", it is best at the start and ends the run."""
    job = Job(tmp_path, best="loss", mode=mode, patience=2).run(6)
    assert job.setup.best.best_checkpoint.name.startswith(
        f"best_model_epoch={best_epoch}_step={6 * best_epoch}_loss="
    )
    assert job.setup.early_stopping.best_epoch == best_epoch
    assert job.trainer.state.epoch == last_epoch


def test_event_name(tmp_path):
    """Validation and checkpoints follow an event of the iterations."""
    job = Job(tmp_path, best="loss", mode="min", event_name=Events.ITERATION_COMPLETED(every=4))
    evaluations = []
    job.evaluator.add_event_handler(Events.COMPLETED, lambda: evaluations.append(job.trainer.state.iteration))
    job.run(1)
    assert evaluations == [4]
    assert job.setup.latest.last_checkpoint.name == "checkpoint_4.pt"


def test_progress(tmp_path, capsys):
    """The bar shows the loss of the trainer."""
    Job(tmp_path, progress=True).run(1)
    assert "loss=" in capsys.readouterr().err


def test_ranks(run_ranks):
    """Only rank 0 prints what was attached."""

    def lines(rank):
        import tempfile

        from glowplug import Engine, setup_training

        shown = []
        with tempfile.TemporaryDirectory() as folder:
            setup_training(Engine(lambda engine, batch: None), {}, folder, progress=False, show=shown.append)
        return len(shown)

    assert run_ranks(lines) == [1, 0]


def test_handle(tmp_path):
    """The handle detaches everything."""
    job = Job(tmp_path, best="accuracy", patience=3, progress=True)
    job.setup.handle.remove()
    assert not [each for each in job.trainer.registrations() if each.event != Events.STARTED]
    job.run(1)
    assert not list(tmp_path.iterdir())


def test_error_detaches(tmp_path):
    """If a handler cannot be attached, the others are detached again."""
    (tmp_path / "checkpoint_3.pt").write_bytes(b"damaged")
    trainer = Engine(lambda engine, batch: None)
    before = list(trainer.registrations())
    with pytest.raises(ValueError, match="already contains checkpoints"):
        setup_training(trainer, {}, tmp_path, resume=False)
    assert list(trainer.registrations()) == before


def test_not_finite(tmp_path):
    """The run ends when the loss is not finite."""
    job = Job(tmp_path)
    data = [DATA[0], (DATA[0][0] * float("nan"), DATA[0][1]), DATA[0]]
    job.trainer.run(data, max_epochs=2)
    assert job.trainer.state.iteration == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"best": "accuracy", "mode": "up"}, "mode must be 'max' or 'min', got 'up'"),
        ({"patience": 3}, "patience=3 requires best"),
        ({"to_save_best": {}}, "to_save_best requires best"),
        ({"best": "accuracy", "patience": 0}, "patience must be at least 1, got 0"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
    ],
)
def test_invalid(tmp_path, options, message):
    """Options are checked before anything is attached."""
    with pytest.raises(ValueError, match=message):
        Job(tmp_path, **options)


def test_unknown_metric(tmp_path):
    """A metric that the evaluator does not have is an error that lists its metrics."""
    with pytest.raises(ValueError, match=r"best='acuracy' is not a metric .* has \['accuracy', 'loss'\]"):
        Job(tmp_path, best="acuracy").run(1)


def test_incomplete(tmp_path):
    """An evaluator without data, a metric without an evaluator and another trainer are refused."""
    job = Job(tmp_path / "a")
    for options, message in (
        ({"evaluator": job.evaluator}, "requires evaluator and validation_data together"),
        ({"best": "accuracy"}, "best='accuracy' is a metric of the evaluator"),
    ):
        with pytest.raises(ValueError, match=message):
            setup_training(job.trainer, {"model": job.model}, tmp_path / "b", **options)
    with pytest.raises(ValueError, match="another object under the name 'trainer'"):
        setup_training(job.trainer, {"trainer": job.model}, tmp_path / "b")
