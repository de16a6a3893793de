"""Padding: samples that a sampler repeats so that all ranks have equally many."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import BatchSampler

from glowplug.stash import StashKey
from glowplug.state import State
from glowplug.typing import EngineProtocol

PADDING_IS_SETTLED = StashKey[bool]()
"""Whether the outputs of an engine contain no padding, or a warning has reported the padding."""

LACKS_SAMPLES = StashKey[bool]()
"""Whether all samples of an engine's batch are padding, so that its output has no rows."""

_SAMPLER_ATTRIBUTES = ("dataset", "num_replicas", "rank", "total_size", "drop_last")


class PaddedShare(NamedTuple):
    """One rank's share of a padded data set; the sampler deals the samples out in turn, the repeated ones last."""

    sampler: str
    rank: int
    ranks: int
    samples: int
    """Number of samples in the data set."""
    length: int
    """Number of samples in the share, including repeated ones."""
    batch_size: int

    def rows(self, batch: int) -> tuple[int, int]:
        """Return the number of samples in a batch, and how many of them are not repeated.

        Args:
            batch: The number of the batch in this rank's pass over the data, counted from 0.
        """
        first = batch * self.batch_size
        size = min(self.batch_size, self.length - first)
        not_repeated = -((self.rank - self.samples) // self.ranks)
        return size, min(size, max(0, not_repeated - first))

    def repeated(self, batches: int) -> int:
        """Return the number of repeated samples in the first batches of all ranks."""
        dealt_out = min(batches * self.batch_size, self.length) * self.ranks
        return max(0, dealt_out - self.samples)


def padded_share(data: Any) -> PaddedShare | None:
    """Return this rank's share of the data if a ``DistributedSampler`` pads it, otherwise ``None``.

    Example:
        >>> from torch.utils.data import DataLoader, DistributedSampler
        >>> sampler = DistributedSampler(range(5), num_replicas=2, rank=1)
        >>> padded_share(DataLoader(range(5), batch_size=2, sampler=sampler)).rows(1)
        (1, 0)
    """
    batches = getattr(data, "batch_sampler", None)
    # Another class may use the samples in another order.
    if type(batches) is not BatchSampler:
        return None
    sampler: Any = batches.sampler
    if not all(hasattr(sampler, name) for name in _SAMPLER_ATTRIBUTES):
        return None
    samples, length = len(sampler.dataset), len(sampler)
    if not samples < sampler.total_size == length * sampler.num_replicas:
        return None
    return PaddedShare(
        type(sampler).__name__, sampler.rank, sampler.num_replicas, samples, length, batches.batch_size
    )


def without_padding(step: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a step whose outputs contain each sample once, even if a ``DistributedSampler`` repeats samples.

    Without ``drop_last=True``, ``torch.utils.data.DistributedSampler`` repeats some samples so that all ranks have equally many
    batches. Metrics would count these samples more than once. The returned step calls the model with the whole batch, so the
    ranks still have equally many batches, and then removes the repeated samples from the output. All handlers receive the
    shortened output. If nothing but repeated samples is in a batch, its output has 0 rows, and metrics are not updated.

    All tensors, arrays and lists in the output whose length is the size of the batch are shortened. Mappings and tuples are
    searched, and so is an output that is a list such as ``[y_pred, y]``. If nothing is repeated, for example in a single process,
    outputs are not changed.

    Args:
        step: The step of an engine, ``step(engine, batch)``. Its output must have one row for each sample. The data of the engine
            must be a ``DataLoader`` without a custom batch sampler; for other data, outputs are not changed.

    Raises:
        ValueError: The returned step raises this error if it would have to remove samples from an output in which nothing has one row
            for each sample, or if the epochs of the engine are not passes over the data.
        TypeError: The returned step raises this error if it would have to remove samples from a ``PackedSequence``.

    Example:
        >>> import torch
        >>> from torch.utils.data import DataLoader, DistributedSampler
        >>> from glowplug import Engine
        >>> data = torch.arange(5)
        >>> loader = DataLoader(
        ...     data, batch_size=2, sampler=DistributedSampler(data, num_replicas=2, rank=1, shuffle=False)
        ... )
        >>> [batch.tolist() for batch in loader]
        [[1, 3], [0]]
        >>> Engine(without_padding(lambda engine, batch: batch)).run(loader).output
        tensor([], dtype=torch.int64)
    """

    @functools.wraps(step)
    def shortened(engine: EngineProtocol, batch: Any) -> Any:
        output = step(engine, batch)
        share = padded_share(engine.state.dataloader)
        engine.stash[LACKS_SAMPLES] = False
        if share is None:
            return output
        engine.stash[PADDING_IS_SETTLED] = True
        size, kept = share.rows(_batch_of_pass(engine.state))
        if kept == size:
            return output
        engine.stash[LACKS_SAMPLES] = kept == 0
        return _first_rows(output, size, kept)

    return shortened


def _batch_of_pass(state: State) -> int:
    """Return the number of the current batch in its pass over the data, counted from 0."""
    batch, length = state.iteration - state.epoch_start - 1, len(state.dataloader)
    is_pass = state.epoch_length in (None, length)
    # The first epoch begins with a pass, whatever its length.
    if batch >= length or not (is_pass or state.epoch == 1):
        raise ValueError(
            f"without_padding: each epoch must be one pass over the data, but the data has {length} batches and epoch_length is "
            f"{state.epoch_length}; call run() without epoch_length"
        )
    return batch


def _first_rows(output: Any, size: int, kept: int) -> Any:
    """Return an output whose tensors, arrays and lists of ``size`` rows are shortened to ``kept`` rows."""
    found = False

    def shorten(value: Any) -> Any:
        nonlocal found
        if isinstance(value, PackedSequence):
            raise TypeError(
                "without_padding: cannot remove samples from a PackedSequence; return padded sequences from the step"
            )
        if isinstance(value, Mapping):
            return {key: shorten(part) for key, part in value.items()}
        if isinstance(value, tuple):
            parts = map(shorten, value)
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if not (isinstance(value, list) or getattr(value, "shape", None)) or len(value) != size:
            return value
        found = True
        return value[:kept]

    # A list of this kind has the role of a tuple.
    is_pair = isinstance(output, list) and any(
        isinstance(part, (list, tuple)) or hasattr(part, "shape") for part in output
    )
    result = list(map(shorten, output)) if is_pair else shorten(output)
    if not found:
        raise ValueError(
            f"without_padding: {size - kept} of {size} samples in the last batches are repeated, but no part of the step's output has "
            f"{size} rows. Return values for each sample, such as (y_pred, y), instead of a mean over the batch"
        )
    return result
