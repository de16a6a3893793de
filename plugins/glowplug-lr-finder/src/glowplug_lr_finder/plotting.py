"""The plot of the loss over the learning rate."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from glowplug.exceptions import GlowplugWarning


def plot_curve(
    rates: Sequence[Any], losses: Sequence[float], suggested: int | None, first: int, end: int, ax: Any
) -> None:
    """Draw the curve on axes of matplotlib.

    Args:
        rates: The learning rates, one or several for each loss.
        losses: The losses.
        suggested: Index of the suggested learning rate; ``None`` draws no mark.
        first: Index of the first point to draw.
        end: Index after the last point to draw.
        ax: The axes.

    Raises:
        ValueError: If there is no point to draw.
    """
    if first >= end:
        raise ValueError(
            f"FastaiLRFinder: there is nothing to plot: the search has {len(losses)} points; decrease skip_start or skip_end"
        )
    if suggested is not None and not first <= suggested < end:
        warnings.warn(
            "FastaiLRFinder: the suggested learning rate is not visible in the plot; decrease skip_start or skip_end",
            GlowplugWarning,
            stacklevel=3,
        )
    columns = [[each] if isinstance(each, float) else list(each) for each in rates]
    groups = len(columns[0])
    for group in range(groups):
        values = [column[group] for column in columns]
        ax.plot(values[first:end], losses[first:end], label=f"group {group}" if groups > 1 else None)
        if suggested is not None:
            ax.scatter(
                values[suggested],
                losses[suggested],
                s=75,
                color="red" if groups == 1 else None,
                zorder=3,
                label=f"suggested: {values[suggested]:.3g}",
            )
    if groups > 1 or suggested is not None:
        ax.legend()
    ax.set_xlim(min(columns[first]), max(columns[end - 1]))
    ax.set_xlabel("Learning rate")
    ax.set_ylabel("Loss")
