"""The state of a metric, as it is saved and taken back."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

import torch

from glowplug.distributed import all_gather, rank, world_size
from glowplug.typing import Stateful

if TYPE_CHECKING:
    from glowplug.metric import Metric

STATE_KEY = "__metric_state_per_rank"


def gather_state(metric: Metric, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the named attributes of all ranks."""
    _check_names(metric, names)
    own = {name: _saved(f"{type(metric).__name__}.{name}", getattr(metric, name)) for name in names}
    return {STATE_KEY: all_gather(own)}


def restore_state(metric: Metric, names: tuple[str, ...], state: Mapping[str, Any]) -> None:
    """Set the named attributes to this rank's part of a state."""
    _check_names(metric, names)
    kind = type(metric).__name__
    if not isinstance(state, Mapping):
        raise TypeError(f"the state of a {kind} is a mapping, got {type(state).__name__}")
    if set(state) != {STATE_KEY}:
        raise ValueError(
            f"this is no state of a metric: it has the keys {list(state)} instead of {STATE_KEY!r}"
        )
    of_ranks = state[STATE_KEY]
    if len(of_ranks) != world_size():
        raise ValueError(
            f"the state of this {kind} was saved by {len(of_ranks)} processes and cannot be shared out to {world_size()}; "
            f"start as many as then, or leave the metric out"
        )
    own = of_ranks[rank()]
    if set(own) != set(names):
        raise ValueError(f"the state of a {kind} has {', '.join(names)}; this one has {', '.join(own)}")
    for name in names:
        current = getattr(metric, name)
        restored = _restored(metric, current, own[name])
        if restored is not current:
            setattr(metric, name, restored)


def _check_names(metric: Metric, names: tuple[str, ...]) -> None:
    if not names:
        raise NotImplementedError(
            f"{type(metric).__name__} does not say what its state is; list its attributes in the class: "
            "_state_dict_all_req_keys = ('...',)"
        )


def _saved(where: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()  # updates may change the tensor in place
    if isinstance(value, Stateful):
        return value.state_dict()
    if isinstance(value, Mapping):
        return {key: _saved(f"{where}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_saved(f"{where}[{index}]", item) for index, item in enumerate(value)]
    if value is None or isinstance(value, (Number, str)):
        return value
    raise TypeError(
        f"{where} cannot be saved: state is numbers, strings, tensors, None, metrics, and lists and dicts of these, not "
        f"{type(value).__name__}"
    )


def _restored(metric: Metric, current: Any, saved: Any) -> Any:
    """Return what the attribute becomes; metrics among it take their state themselves."""
    if isinstance(current, Stateful):
        current.load_state_dict(saved)
        return current
    if isinstance(current, (list, tuple)) and any(isinstance(item, Stateful) for item in current):
        for item, its_own in zip(current, saved, strict=True):
            item.load_state_dict(its_own)
        return current
    if isinstance(current, Mapping) and any(isinstance(item, Stateful) for item in current.values()):
        for key, item in current.items():
            item.load_state_dict(saved[key])
        return current
    return _copied(saved, metric.device)


def _copied(saved: Any, device: torch.device) -> Any:
    """Return a copy, so that updates do not change the state that was loaded."""
    if isinstance(saved, torch.Tensor):
        return saved.to(device, copy=True)
    if isinstance(saved, Mapping):
        return {key: _copied(item, device) for key, item in saved.items()}
    if isinstance(saved, (list, tuple)):
        return [_copied(item, device) for item in saved]
    return saved
