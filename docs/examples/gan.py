"""Train a small GAN on handwritten digits: two models and two optimizers in one step.

pip install glowplug glowplug-metrics scikit-learn
python docs/examples/gan.py
python docs/examples/gan.py --picture digits.png       also draw generated digits (needs matplotlib)
"""

from __future__ import annotations

import argparse
from operator import itemgetter
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from glowplug import Engine, Events
from glowplug_metrics import Accuracy, RunningAverage

NOISE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=120)
    parser.add_argument("--picture", type=Path, help="picture file for generated digits")
    options = parser.parse_args()

    torch.manual_seed(0)
    images = torch.tensor(load_digits().data, dtype=torch.float32) / 8 - 1
    loader = DataLoader(TensorDataset(images), batch_size=64, shuffle=True, drop_last=True)
    generator = nn.Sequential(
        nn.Linear(NOISE, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh()
    )
    critic = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Dropout(0.3), nn.Linear(128, 1))
    trainer = make_trainer(generator, critic)

    for name in ("critic_loss", "generator_loss"):
        RunningAverage(output_transform=itemgetter(name)).attach(trainer, name)
    # The keys in the step's output are not y_pred and y, so the transform selects predictions and labels.
    Accuracy(output_transform=lambda output: (output["judged"], output["real"])).attach(trainer, "accuracy")

    @trainer.on(Events.EPOCH_COMPLETED(every=20))
    def show(engine: Engine) -> None:
        line = ", ".join(f"{name} {value:.3f}" for name, value in engine.state.metrics.items())
        print(f"epoch {engine.state.epoch:3}: {line}")

    trainer.run(loader, max_epochs=options.epochs)
    if options.picture:
        with torch.no_grad():
            draw(options.picture, generator.eval()(torch.randn(40, NOISE)))


def make_trainer(generator: nn.Module, critic: nn.Module) -> Engine:
    """Return an engine. Its step trains the critic to recognize real images, and the generator to fool the critic."""
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
    critic_optimizer = torch.optim.Adam(critic.parameters(), lr=5e-4, betas=(0.5, 0.999))
    loss_fn = nn.BCEWithLogitsLoss()

    def step(_engine: Engine, batch: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        (real,) = batch
        made = generator(torch.randn(len(real), NOISE))
        is_real = torch.cat([torch.ones(len(real), 1), torch.zeros(len(made), 1)])

        logits = critic(torch.cat([real, made.detach()]))
        critic_loss = loss_fn(logits, is_real)
        critic_optimizer.zero_grad()
        critic_loss.backward()
        critic_optimizer.step()

        generator_loss = loss_fn(critic(made), torch.ones(len(made), 1))
        generator_optimizer.zero_grad()
        generator_loss.backward()
        generator_optimizer.step()
        return {
            "critic_loss": critic_loss.detach(),
            "generator_loss": generator_loss.detach(),
            "judged": (logits.detach() > 0).long(),
            "real": is_real.long(),
        }

    return Engine(step)


def draw(path: Path, digits: torch.Tensor) -> None:
    """Draw digits in rows of ten."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(4, 10, figsize=(6, 2.5), layout="constrained")
    for axis, digit in zip(axes.flat, digits, strict=True):
        axis.imshow(digit.reshape(8, 8).numpy(), cmap="gray_r", vmin=-1, vmax=1)
        axis.axis("off")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
