"""Train on handwritten digits with bars of rich, and save a picture of the terminal as docs/images/progress.svg.

pip install glowplug glowplug-metrics glowplug-monitors glowplug-progress pyte scikit-learn
python docs/examples/pictures/progress.py
"""

import time
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from sklearn.datasets import load_digits
from terminal import Terminal, save_picture
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from glowplug import Events, create_supervised_evaluator, create_supervised_trainer
from glowplug_metrics import Accuracy, Loss, RunningAverage
from glowplug_monitors import LearningRate
from glowplug_progress import ProgressBar

PICTURE = Path(__file__).parents[2] / "images" / "progress.svg"
WIDTH = 118


def train(console: Console, terminal: Terminal) -> list[Text]:
    """Train for some epochs and return the rows of the terminal within the last validation."""
    torch.manual_seed(1)
    digits = load_digits()
    inputs = torch.tensor(digits.data, dtype=torch.float32) / 16
    data = TensorDataset(inputs, torch.tensor(digits.target))
    train_data, validation_data = random_split(data, [1437, 360])
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    loss_fn = nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, optimizer, loss_fn)
    evaluator = create_supervised_evaluator(model, metrics={"accuracy": Accuracy(), "loss": Loss(loss_fn)})
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    LearningRate(optimizer).attach(trainer)
    shown: list[Text] = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate() -> None:
        evaluator.run(DataLoader(validation_data, batch_size=20))
        schedule.step()

    bar = ProgressBar(style="rich", best="accuracy", console=console, mininterval=0)
    bar.attach(
        trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED, metric_names=[]
    )
    bar.attach(trainer, metric_names="all")
    bar.attach(evaluator, name="validation")

    @trainer.on(Events.ITERATION_COMPLETED)
    def slow_down() -> None:
        # A small network is too fast for a picture.
        time.sleep(0.01)

    @evaluator.on(Events.ITERATION_COMPLETED(once=12))
    def take_picture() -> None:
        if trainer.state.epoch == 5:  # noqa: PLR2004 - the second to last
            shown[:] = terminal.rows()

    trainer.run(DataLoader(train_data, batch_size=32, shuffle=True), max_epochs=6)
    return shown


def main() -> None:
    """Train and save the picture."""
    terminal = Terminal(WIDTH)
    console = Console(file=terminal, force_terminal=True, color_system="256", width=WIDTH)
    rows = train(console, terminal)
    save_picture(PICTURE, ["$ python train.py", *rows], title="glowplug-progress", width=WIDTH)
    print(f"saved {PICTURE}")


if __name__ == "__main__":
    main()
