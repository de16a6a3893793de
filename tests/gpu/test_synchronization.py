"""The main job on an accelerator: glowplug never makes the training thread wait for the device.

On the CPU, the same job shows that it logs everything. The other tests need a CUDA device.
"""

import time

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer
from glowplug.loggers import (
    GradsHistHandler,
    GradsScalarHandler,
    Logger,
    OptimizerParamsHandler,
    OutputHandler,
    WeightsHistHandler,
    WeightsScalarHandler,
    setup_logging,
)
from glowplug_ema import EMAHandler, SWAHandler
from glowplug_jsonl import CsvLogger, JsonLinesLogger
from glowplug_metrics import (
    ROC_AUC,
    Accuracy,
    Average,
    ClassificationReport,
    ConfusionMatrix,
    EpochMetric,
    EpochOutputStore,
    Fbeta,
    Frequency,
    GeometricAverage,
    IoU,
    JaccardIndex,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    MetricGroup,
    MultiLabelConfusionMatrix,
    Precision,
    Recall,
    RootMeanSquaredError,
    RunningAverage,
    TopKCategoricalAccuracy,
    mIoU,
)
from glowplug_mlflow import MLflowLogger
from glowplug_monitors import DataWait, DeviceUsage, GradientNorm, LearningRate, Throughput
from glowplug_schedulers import create_lr_scheduler_with_warmup
from glowplug_tensorboard import TensorboardLogger
from glowplug_timers import HandlersTimeProfiler, TimeLimit

EPOCHS, BATCHES = 2, 12
CYCLES = 2_000_000_000
"""Clock cycles for which a kernel keeps the device busy; about a second."""

pytestmark = [
    # torch says so once, and would raise here.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature"),
    # OutputHandler reports once that a logger has no matrices or texts.
    pytest.mark.filterwarnings("ignore:.* which .* cannot log; the value is omitted"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),
]
needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device, whose synchronizations are counted"
)


class Memory(Logger):
    """Keeps what the worker writes."""

    uses_spool = False

    def __init__(self, **options):
        super().__init__(**options)
        self.scalars, self.histograms, self.images = {}, {}, {}

    def write_scalars(self, scalars, step, timestamp):
        for name, value in scalars.items():
            self.scalars.setdefault(name, []).append((step, value))

    def write_histogram(self, name, histogram, step, timestamp):
        self.histograms.setdefault(name, []).append((step, histogram))

    def write_image(self, name, image, step, timestamp):
        self.images.setdefault(name, []).append((step, image))

    def write_params(self, params):
        pass


class Watched:
    """Batches during which every synchronization raises, up to the last handler of the last iteration."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        set_mode("error")
        try:
            yield from self.batches
        finally:
            set_mode("default")


def set_mode(mode):
    """Set what a synchronization with a device does; without a device, there is none."""
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode(mode)


@pytest.fixture(autouse=True)
def default_mode():
    """Leave no test in a mode that the test before it has set."""
    yield
    set_mode("default")


def loggers_in(folder):
    """Return one logger of each kind that is installed."""
    loggers = [
        Memory(),
        TensorboardLogger(folder / "tensorboard"),
        MLflowLogger(f"sqlite:///{folder / 'mlflow.db'}", "digits", timeout=120),
        JsonLinesLogger(folder / "log.jsonl"),
        CsvLogger(folder / "log.csv"),
    ]
    try:
        import wandb  # noqa: F401
    except ImportError:
        return loggers
    from glowplug_wandb import WandbLogger

    return [*loggers, WandbLogger("digits", dir=folder, mode="offline", timeout=120)]


def classification_metrics(device):
    """Return the metrics of scores of ten classes, by name."""

    def correct(scores, labels):
        return float((scores.argmax(1) == labels).float().mean())

    matrix = ConfusionMatrix(10)
    return {
        "accuracy": Accuracy(),
        "precision": Precision(average=True),
        "recall": Recall(),
        "f2": Fbeta(2),
        "top3": TopKCategoricalAccuracy(3),
        "loss": Loss(nn.functional.cross_entropy),
        "matrix": matrix,
        "iou": IoU(matrix),
        "miou": mIoU(matrix),
        "jaccard": JaccardIndex(matrix),
        "report": ClassificationReport(),
        "group": MetricGroup({"accuracy": Accuracy(), "recall": Recall(average="micro")}),
        # By default, each batch is copied to the CPU, and compute_fn is tried on the first: both wait.
        "epoch": EpochMetric(correct, check_compute_fn=False, device=device),
    }


def number_metrics(device):
    """Return the metrics of numbers, for the score of the right class, by name."""

    def score(output):
        scores, labels = output
        return scores.softmax(1).gather(1, labels[:, None])[:, 0], torch.ones_like(labels, dtype=scores.dtype)

    def one(output):
        return score(output)[0]

    def is_zero(output):
        scores, labels = output
        return scores.softmax(1)[:, 0], (labels == 0).long()

    def many(output):
        scores, labels = output
        return (scores > 0).long(), nn.functional.one_hot(labels, 10)

    return {
        "absolute": MeanAbsoluteError(score),
        "squared": MeanSquaredError(score),
        "root": RootMeanSquaredError(score),
        "average": Average(one),
        "geometric": GeometricAverage(one),
        "auc": ROC_AUC(is_zero, check_compute_fn=False, device=device),
        "matrices": MultiLabelConfusionMatrix(10, many),
    }


def main_job(device, loggers):
    """Train a small classifier on handwritten digits, with all metrics and log handlers."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32, device=device).flatten(1) / 16
    labels = torch.tensor(digits.target, device=device)
    batches = list(zip(images.split(64), labels.split(64), strict=True))[:BATCHES]
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    metrics = classification_metrics(device) | number_metrics(device)
    evaluator = create_supervised_evaluator(model, metrics=metrics)
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "running")
    Frequency(output_transform=lambda loss: 64).attach(trainer, "speed")
    # The values that compute() returns after an epoch are on the host.
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(Watched(batches)))
    attach_everyday_handlers(trainer, model, optimizer)
    setup_logging(trainer, loggers, optimizers=optimizer, evaluators=evaluator)
    every = Events.ITERATION_COMPLETED(every=5)
    for logger in loggers:
        if logger.takes("log_params"):
            logger.log_params({"lr": 2e-3, "device": device})
        logger.attach(
            trainer, every, OutputHandler("iteration", metric_names=["running", "gradient_norm", "lr"])
        )
        logger.attach(trainer, every, OptimizerParamsHandler(optimizer, tag="again"))
        for handler in (WeightsScalarHandler, GradsScalarHandler, WeightsHistHandler, GradsHistHandler):
            if logger.takes(handler.method):
                logger.attach(trainer, every, handler(model))
        if logger.takes("log_image"):
            logger.attach(trainer, every, log_image)
    trainer.run(Watched(batches), max_epochs=EPOCHS)
    return trainer


def attach_everyday_handlers(trainer, model, optimizer):
    """Attach the handlers that read or change the model, the optimizer or the output at each iteration."""
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * BATCHES)
    handlers = [
        create_lr_scheduler_with_warmup(schedule, 1e-4, 4),
        EMAHandler(model, momentum=0.1),
        SWAHandler(model),
        LearningRate(optimizer),
        GradientNorm(model),
        Throughput(),
        DataWait(),
        DeviceUsage(),
        EpochOutputStore(),
        TimeLimit(hours=1),
        HandlersTimeProfiler(),
    ]
    for handler in handlers:
        trainer.attach(handler)


def log_image(engine, logger, event_name):
    """Log the first image of the batch."""
    logger.log_image("digit", engine.state.batch[0][0].reshape(8, 8), engine.state.iteration)


def run_and_check(device, folder):
    """Run the main job, and check that every logger wrote every record."""
    loggers = loggers_in(folder)
    main_job(device, loggers)
    memory = loggers[0]
    for logger in loggers:
        logger.close()
        assert logger.counts.dropped == logger.counts.pending == 0, type(logger).__name__
        assert logger.counts.sent > EPOCHS * BATCHES, type(logger).__name__
    losses = [value for _, value in memory.scalars["training/loss"]]
    assert len(losses) == EPOCHS * BATCHES
    assert losses[-1] < losses[0]
    assert memory.scalars["iteration/running"][-1][0] == 20
    assert all(value > 0 for _, value in memory.scalars["iteration/gradient_norm"])
    assert memory.scalars["validation/accuracy"][-1][0] == EPOCHS
    assert len(memory.histograms["weights/0/weight"]) == 4
    step, pixels = memory.images["digit"][0]
    assert (step, pixels.shape, pixels.max() > 0) == (5, (8, 8, 1), True)


def test_main_job_on_the_cpu(tmp_path):
    """The main job runs with every logger, metric and log handler, and every record arrives."""
    run_and_check("cpu", tmp_path)


@needs_cuda
def test_main_job_on_cuda(tmp_path):
    """No iteration of the main job synchronizes with the device, neither in training nor in evaluation."""
    run_and_check("cuda", tmp_path)


@needs_cuda
def test_synchronization_is_found(tmp_path):
    """A handler that reads a value of the device fails in the main job, so the job would find one of glowplug."""
    trainer = create_supervised_trainer(
        model := nn.Linear(2, 2).cuda(), torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss()
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: engine.state.output.item())
    batch = torch.ones(1, 2, device="cuda"), torch.zeros(1, dtype=torch.long, device="cuda")
    with pytest.raises(RuntimeError, match="synchroniz"):
        trainer.run(Watched([batch]))


@needs_cuda
@pytest.mark.parametrize("kind", ["scalars", "histogram", "image"])
def test_logging_does_not_wait(kind):
    """A tensor that the device has not computed yet is logged at once, with the value that it gets."""
    with Memory(timeout=60) as logger:
        values = torch.zeros(3, 4, 4, device="cuda")
        log(logger, kind, values)
        assert logger.flush()
        computed = torch.cuda.Event()
        torch.cuda._sleep(CYCLES)
        values += 0.5
        computed.record()
        began = time.monotonic()
        log(logger, kind, values)
        seconds = time.monotonic() - began
        assert not computed.query(), "the device was not busy, so the test shows nothing"
        # In the order of the device's stream, this comes after the copy.
        values += 0.5
        assert seconds < 0.2
        assert logger.flush()
    assert written(logger, kind) == [0.0, 0.5]


@pytest.mark.parametrize("kind", ["scalars", "histogram", "image"])
def test_logged_values_do_not_change(kind):
    """A tensor that changes after it was logged keeps its logged value."""
    with Memory() as logger:
        values = torch.zeros(3, 4, 4)
        log(logger, kind, values)
        values += 0.5
        log(logger, kind, values)
        values += 0.5
    assert written(logger, kind) == [0.0, 0.5]


def log(logger, kind, values):
    """Log values as scalars, histogram or image."""
    if kind == "scalars":
        logger.log_scalars({"x": values[0, 0, 0]}, 1)
    else:
        getattr(logger, f"log_{kind}")("x", values, 1)


def written(logger, kind):
    """Return the values that were written, as numbers."""
    if kind == "scalars":
        return [value for _, value in logger.scalars["x"]]
    if kind == "histogram":
        return [histogram.maximum for _, histogram in logger.histograms["x"]]
    return [round(float(np.mean(image)) / 255, 1) for _, image in logger.images["x"]]
