"""The state of a metric, as it is saved and taken back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Number
from typing import TYPE_CHECKING, Any

import torch

from glowplug.distributed import all_gather, rank, world_size

if TYPE_CHECKING:
    from glowplug.metrics._metric import Metric
    from glowplug.state import State

STATE_KEY = "__metric_state_per_rank"


def gather_state(metric: Metric) -> dict[str, Any]:
    """Return the state of all ranks."""
    return {STATE_KEY: all_gather(_own_state(metric))}


def restore_state(metric: Metric, state: Mapping[str, Any]) -> None:
    """Take this rank's part of the state of all ranks."""
    names, kind = _state_names(metric), type(metric).__name__
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
            "start as many as then, or leave the metric out"
        )
    own = of_ranks[rank()]
    if set(own) != set(names):
        raise ValueError(f"the state of a {kind} has {', '.join(names)}; this one has {', '.join(own)}")
    _restore_own(metric, own)


def has_state(metric: Metric) -> bool:
    """Return whether the class says what its state is, and so does each metric that belongs to it.

    What holds for a part of the numbers only would resume to a wrong value.
    """
    names = metric._state_dict_all_req_keys  # noqa: SLF001 - see _state_names
    parts = (part for name in names for _, part in _metrics_in(getattr(metric, name)))
    return bool(names) and all(map(has_state, parts))


class RankState:
    """The state of an attached metric within the state of its engine.

    It is this rank's alone: a collective would make a checkpoint that only one rank writes hang.

    Args:
        metric: The metric.
        run: The state of the engine's run, of which the epoch and the iteration are remembered.
    """

    def __init__(self, metric: Metric, run: State) -> None:
        self._metric = metric
        self._run = run

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's state, and whose it is."""
        own = _own_state(self._metric)
        place = {"epoch": self._run.epoch, "iteration": self._run.iteration}
        return {"rank": rank(), "world_size": world_size(), **place, "state": own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it, if it is this rank's: what another rank saw would count twice."""
        if (state["rank"], state["world_size"]) == (rank(), world_size()):
            _restore_own(self._metric, state["state"], state["epoch"], state["iteration"])


def _state_names(metric: Metric) -> tuple[str, ...]:
    names = metric._state_dict_all_req_keys  # noqa: SLF001 - the name that metrics written for ignite have
    if not names:
        raise NotImplementedError(
            f"{type(metric).__name__} does not say what its state is; list its attributes in the class: "
            "_state_dict_all_req_keys = ('...',)"
        )
    return names


def _own_state(metric: Metric) -> dict[str, Any]:
    kind = type(metric).__name__
    return {name: _saved(f"{kind}.{name}", getattr(metric, name)) for name in _state_names(metric)}


def _saved(where: str, value: Any) -> Any:
    from glowplug.metrics._metric import Metric

    if isinstance(value, torch.Tensor):
        return value.detach().clone()  # updates may change the tensor in place
    if isinstance(value, Metric):
        return _own_state(value)
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


def _restore_own(metric: Metric, own: Mapping[str, Any], *place: int) -> None:
    """Take a state; ``place`` is the epoch and the iteration where it was saved, if an engine did."""
    for name in _state_names(metric):
        parts = _metrics_in(getattr(metric, name))
        for key, part in parts:
            _restore_own(part, own[name] if key is None else own[name][key], *place)
        if not parts:
            setattr(metric, name, _copied(own[name], metric.device))
    if "_result" in vars(metric):
        vars(metric)["_result"] = None  # what compute() kept was the value of other data
    metric.keep_for_epoch(*place or (None,))


def _metrics_in(value: Any) -> list[tuple[Any, Metric]]:
    """Return the metrics in a list or dict, with their places; a metric itself has the place ``None``."""
    from glowplug.metrics._metric import Metric

    if isinstance(value, Metric):
        return [(None, value)]
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
    return [(key, item) for key, item in items if isinstance(item, Metric)]


def _copied(saved: Any, device: torch.device) -> Any:
    """Return a copy, so that updates do not change the state that was loaded."""
    if isinstance(saved, torch.Tensor):
        return saved.to(device, copy=True)
    if isinstance(saved, Mapping):
        return {key: _copied(item, device) for key, item in saved.items()}
    if isinstance(saved, (list, tuple)):
        return [_copied(item, device) for item in saved]
    return saved
