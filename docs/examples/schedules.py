"""Run four learning rate schedules, and print and draw the learning rates.

pip install glowplug glowplug-schedulers
python docs/examples/schedules.py
python docs/examples/schedules.py --picture schedules.png     also draw the schedules (needs matplotlib)
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.optim import SGD

from glowplug import Engine
from glowplug_schedulers import (
    ConcatScheduler,
    CosineAnnealingScheduler,
    LinearCyclicalScheduler,
    ParamScheduler,
    PiecewiseLinear,
    create_lr_scheduler_with_warmup,
)

ITERATIONS = 100


def warmup_and_cosine(optimizer: SGD) -> ParamScheduler:
    """Rise for 20 iterations, then fall along half a cosine wave."""
    cosine = CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.0, cycle_size=ITERATIONS - 20)
    return create_lr_scheduler_with_warmup(cosine, warmup_start_value=0.0, warmup_duration=21)


def warm_restarts(optimizer: SGD) -> ParamScheduler:
    """Fall along half a cosine wave, again and again, each time from a lower value."""
    return CosineAnnealingScheduler(optimizer, "lr", 1.0, 0.1, cycle_size=40, start_value_mult=0.7)


def piecewise_linear(optimizer: SGD) -> ParamScheduler:
    """Move linearly from milestone to milestone."""
    return PiecewiseLinear(optimizer, "lr", [(0, 0.0), (10, 1.0), (50, 1.0), (80, 0.1)])


def triangles_then_ramp(optimizer: SGD) -> ParamScheduler:
    """Rise and fall for 60 iterations, then fall to zero."""
    triangles = LinearCyclicalScheduler(optimizer, "lr", 0.2, 1.0, cycle_size=30)
    ramp = PiecewiseLinear(optimizer, "lr", [(0, 0.2), (40, 0.0)])
    return ConcatScheduler([triangles, ramp], durations=[60])


SCHEDULES = {
    "warm-up, then cosine": warmup_and_cosine,
    "cosine with warm restarts": warm_restarts,
    "PiecewiseLinear": piecewise_linear,
    "ConcatScheduler": triangles_then_ramp,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--picture", type=Path, help="file for a picture of the schedules")
    options = parser.parse_args()

    rates = {}
    for name, make_scheduler in SCHEDULES.items():
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        rates[name] = run(optimizer, make_scheduler(optimizer))

    shown = range(0, ITERATIONS, 20)
    print(f"{'iteration':25}", *(f"{number + 1:5}" for number in shown))
    for name, values in rates.items():
        print(f"{name:25}", *(f"{values[number]:5.2f}" for number in shown))
    if options.picture:
        draw(options.picture, rates)


def run(optimizer: SGD, scheduler: ParamScheduler) -> list[float]:
    """Return the learning rate of each iteration of a run."""
    rates: list[float] = []

    def step(_engine: Engine, _batch: object) -> None:
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])

    trainer = Engine(step)
    scheduler.attach(trainer)
    trainer.run(range(ITERATIONS))
    return rates


def draw(path: Path, rates: dict[str, list[float]]) -> None:
    """Draw a plot for each schedule."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 2, figsize=(8, 4.2), layout="constrained", sharex=True, sharey=True)
    for axis, (name, values) in zip(axes.flat, rates.items(), strict=True):
        axis.plot(range(1, len(values) + 1), values)
        axis.set_title(name, fontsize=11)
        axis.grid(alpha=0.4)
    for axis in axes[1]:
        axis.set_xlabel("iteration")
    for axis in axes[:, 0]:
        axis.set_ylabel("learning rate")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
