"""Train a convolutional network with mixed precision, gradient accumulation, clipping, warm-up and averaged weights.

pip install glowplug glowplug-ema glowplug-schedulers glowplug-metrics glowplug-model-checkpoint glowplug-early-stopping \
    glowplug-terminate-on-nan glowplug-progress glowplug-jsonl scikit-learn
python docs/examples/cnn.py     starts a run, or resumes the run that was interrupted
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader, TensorDataset

from glowplug import OptimizerEvents, create_supervised_evaluator, create_supervised_trainer, setup_training
from glowplug.handlers import CsvLogger, EMAHandler, create_lr_scheduler_with_warmup
from glowplug.metrics import Accuracy

FOLDER = "runs/cnn"
EPOCHS = 8
ACCUMULATION_STEPS = 2


def main() -> None:
    torch.manual_seed(0)
    training_data, validation_data = load_data()
    model = make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    trainer = create_supervised_trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(label_smoothing=0.1),
        amp_mode="amp",
        amp_dtype=torch.bfloat16,
        gradient_accumulation_steps=ACCUMULATION_STEPS,
        clip_norm=1.0,
    )
    cosine = CosineAnnealingLR(optimizer, T_max=EPOCHS * len(training_data) // ACCUMULATION_STEPS)
    schedule = create_lr_scheduler_with_warmup(cosine, warmup_start_value=1e-4, warmup_duration=20)
    schedule.attach(trainer, event_name=OptimizerEvents.OPTIMIZER_STEP_STARTED)
    ema = EMAHandler(model, momentum=0.02)
    ema.attach(trainer, event_name=OptimizerEvents.OPTIMIZER_STEP_COMPLETED)
    evaluator = create_supervised_evaluator(ema.ema_model, {"accuracy": Accuracy()})

    with CsvLogger(f"{FOLDER}/log.csv") as logger:
        setup_training(
            trainer,
            {"model": model, "optimizer": optimizer},
            FOLDER,
            evaluator,
            validation_data,
            best="accuracy",
            to_save_best={"model": ema.ema_model},
            patience=5,
            loggers=[logger],
        )
        trainer.run(training_data, max_epochs=EPOCHS)


def make_model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def load_data() -> tuple[DataLoader[Any], DataLoader[Any]]:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    data = TensorDataset(images, torch.tensor(digits.target))
    training, validation = torch.utils.data.random_split(data, [0.8, 0.2], torch.Generator().manual_seed(0))
    return DataLoader(training, batch_size=32, shuffle=True), DataLoader(validation, batch_size=256)


if __name__ == "__main__":
    main()
