"""A custom metric: pixel-wise intersection over union, for a network that finds the flower in a photograph.

    pip install glowplug scikit-learn pillow
    python docs/examples/iou_metric.py
    python docs/examples/iou_metric.py --picture found.png      also draw the result (needs matplotlib)

The input of the network is a grey version of the photograph. The target mask is computed from the colours, because the petals
are redder than everything around them. The network is trained on the left half and evaluated on the right half.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_sample_image
from torch import nn

from glowplug import (
    Engine,
    Events,
    Metric,
    NotComputableError,
    create_supervised_evaluator,
    create_supervised_trainer,
    reinit__is_reduced,
    sync_all_reduce,
)


class PixelIoU(Metric):
    """The intersection of prediction and target, divided by their union, both counted in pixels.

    The engine's output must be ``(y_pred, y)``: logits, and a mask of the same shape. A pixel belongs to the prediction if its
    probability is at least ``threshold``.
    """

    def __init__(self, threshold: float = 0.5, **options: Any) -> None:
        self.threshold = threshold
        super().__init__(**options)

    @reinit__is_reduced
    def reset(self) -> None:
        """Reset the counts."""
        self._intersection = torch.zeros((), dtype=torch.int64, device=self._device)
        self._union = torch.zeros((), dtype=torch.int64, device=self._device)

    @reinit__is_reduced
    def update(self, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Count the pixels of a batch."""
        y_pred, y = output
        found, wanted = y_pred.sigmoid() >= self.threshold, y > 0
        self._intersection += (found & wanted).sum().to(self._device)
        self._union += (found | wanted).sum().to(self._device)

    @sync_all_reduce("_intersection", "_union")
    def compute(self) -> float:
        """Return the intersection over union of all batches and processes."""
        if self._union == 0:
            raise NotComputableError(
                "PixelIoU is undefined: neither the targets nor the predictions contain a positive pixel"
            )
        return (self._intersection / self._union).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--picture", type=Path, help="file for a picture of the result")
    options = parser.parse_args()

    torch.manual_seed(0)
    grey, mask = load_photograph()
    middle = grey.shape[-1] // 2
    train_data = [(grey[..., :middle], mask[..., :middle])]
    test_data = [(grey[..., middle:], mask[..., middle:])]
    model = make_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.binary_cross_entropy_with_logits)
    thresholds = (0.2, 0.5, 0.8)
    evaluator = create_supervised_evaluator(
        model, {f"IoU at {threshold}": PixelIoU(threshold) for threshold in thresholds}
    )

    @trainer.on(Events.EPOCH_COMPLETED(every=10))
    def show(engine: Engine) -> None:
        results = evaluator.run(test_data).metrics
        line = ", ".join(f"{name} {value:.3f}" for name, value in results.items())
        print(f"epoch {engine.state.epoch:2}: loss {engine.state.output:.3f}, {line}")

    trainer.run(train_data, max_epochs=options.epochs)
    if options.picture:
        with torch.no_grad():
            draw(options.picture, grey, mask, model(grey).sigmoid())


def load_photograph() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the photograph in grey and the mask, both of shape (1, 1, 142, 213): a third of the original size."""
    colours = torch.tensor(load_sample_image("flower.jpg")[::3, ::3]).permute(2, 0, 1)[None] / 255
    red, green, _ = colours.unbind(1)
    grey = colours.mean(1, keepdim=True)
    return grey - grey.mean(), ((red - green) > 0.08).float()[:, None]  # noqa: PLR2004 - threshold for petals


def make_model() -> nn.Module:
    """Return a network with a receptive field of 31 x 31 pixels."""
    layers: list[nn.Module] = []
    for channels, dilation in ((1, 1), (12, 2), (12, 4), (12, 8)):
        layers += [nn.Conv2d(channels, 12, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(12, 1, 1))


def draw(path: Path, grey: torch.Tensor, mask: torch.Tensor, found: torch.Tensor) -> None:
    """Draw input, target and prediction."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(9, 2.3), layout="constrained")
    for axis, image, title in zip(axes, (grey, mask, found), ("seen", "wanted", "found"), strict=True):
        axis.imshow(image[0, 0].numpy(), cmap="gray")
        axis.axvline(grey.shape[-1] / 2, color="tab:orange", linewidth=1)
        axis.set_title(title)
        axis.axis("off")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main()
