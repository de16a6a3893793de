"""Conversion of batches to pairs of inputs and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

from glowplug.utils import convert_tensor

if TYPE_CHECKING:
    from glowplug.utils import Device


def prepare_pair(batch: Any, device: Device = None, non_blocking: bool = False) -> tuple[Any, Any]:
    """Return the pair ``(inputs, targets)`` with all tensors on the device.

    Raises:
        TypeError: If the batch is not a sequence such as a tuple or list. A tensor is rejected even if it has two rows, because
            its rows are examples, not inputs and targets.
        ValueError: If the batch does not have two parts.
    """
    if isinstance(batch, (str, bytes)) or not isinstance(batch, Sequence):
        raise TypeError(f"the batch must be a pair (x, y), got {_described(batch)}; {_remedy(batch)}")
    if len(batch) != 2:  # noqa: PLR2004 - a pair
        raise ValueError(
            f"the batch must be a pair (x, y), got a {type(batch).__name__} of length {len(batch)}; {_remedy(batch)}"
        )
    x, y = batch
    return convert_tensor(x, device, non_blocking), convert_tensor(y, device, non_blocking)


def prepare_batch_from_keys(x: str | Sequence[str], y: str | Sequence[str]) -> Callable[..., tuple[Any, Any]]:
    """Return a ``prepare_batch`` function for batches that are mappings.

    Args:
        x: The key of the inputs, or a sequence of keys. If you pass a sequence, the model receives a dict with these keys.
        y: The key of the targets, or a sequence of keys. If you pass a sequence, the targets are a dict with these keys.

    Returns:
        A function ``prepare_batch(batch, device=..., non_blocking=...)`` that returns ``(x, y)`` with all tensors on the device.
        The function raises a ``TypeError`` if the batch is not a mapping, and a ``KeyError`` if a key is missing.

    Example:
        >>> import torch
        >>> from glowplug import create_supervised_trainer
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> trainer = create_supervised_trainer(
        ...     model,
        ...     optimizer,
        ...     torch.nn.functional.mse_loss,
        ...     prepare_batch=prepare_batch_from_keys("image", "label"),
        ... )
        >>> trainer.run([{"image": torch.zeros(4, 2), "label": torch.ones(4, 1)}]).iteration
        1
    """
    return partial(_pair_of_keys, _checked_keys("x", x), _checked_keys("y", y))


def _pair_of_keys(
    x: str | tuple[str, ...],
    y: str | tuple[str, ...],
    batch: Any,
    device: Device = None,
    non_blocking: bool = False,
) -> tuple[Any, Any]:
    if not isinstance(batch, Mapping):
        raise TypeError(
            f"prepare_batch_from_keys({x!r}, {y!r}): the batch must be a mapping, got {_described(batch)}"
        )
    return prepare_pair((_entries(batch, x), _entries(batch, y)), device, non_blocking)


def _entries(batch: Mapping[str, Any], keys: str | tuple[str, ...]) -> Any:
    if isinstance(keys, str):
        return _entry(batch, keys)
    return {key: _entry(batch, key) for key in keys}


def _entry(batch: Mapping[str, Any], key: str) -> Any:
    if key in batch:
        return batch[key]
    hint = "".join(f" Did you mean {match!r}?" for match in get_close_matches(key, map(str, batch), n=1))
    raise KeyError(f"the batch has no key {key!r}, only the keys {list(batch)}.{hint}")


def _checked_keys(name: str, keys: object) -> str | tuple[str, ...]:
    if isinstance(keys, str):
        return keys
    if isinstance(keys, Sequence) and keys and all(isinstance(key, str) for key in keys):
        return tuple(keys)
    raise TypeError(f"prepare_batch_from_keys: {name} must be a key or a sequence of keys, got {keys!r}")


def _described(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return f"a {type(batch).__name__} with the keys {list(batch)}"
    shape = getattr(batch, "shape", None)
    return f"a {type(batch).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}")


def _remedy(batch: Any) -> str:
    if isinstance(batch, Mapping):
        return "pass prepare_batch=prepare_batch_from_keys('<key of x>', '<key of y>')"
    return "pass prepare_batch=f, where f(batch, device, non_blocking) returns (x, y)"
