"""Saving and restoring the state of metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Number
from typing import Any

import torch

from glowplug.distributed import all_gather, rank, world_size
from glowplug.state import State
from glowplug.utils import map_leaves

STATE_KEY = "__metric_state_per_rank"


class StatefulMetric:
    """Base class of ``Metric`` that saves and restores the accumulators."""

    _state_dict_all_req_keys: tuple[str, ...] = ()
    """The attributes that form the state: numbers, strings, tensors, ``None``, metrics, and lists and dicts of these."""

    _device: torch.device
    # The epoch whose data the next start keeps, and the last iteration before this data was saved.
    _kept_for_epoch: int | None = None
    _saved_after: int | None = None

    @property
    def device(self) -> torch.device:
        """The device of the accumulators."""
        return self._device

    def state_dict(self) -> dict[str, Any]:
        """Return the accumulated state of all ranks.

        This method is a collective: all ranks must call it.

        Raises:
            NotImplementedError: If ``_state_dict_all_req_keys`` is empty or names an attribute that the metric lacks.
            TypeError: If a state attribute has a type that cannot be saved.
        """
        return {STATE_KEY: all_gather(_own_state(self))}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore this rank's part of a saved state.

        Args:
            state_dict: The result of :meth:`state_dict`.

        Raises:
            TypeError: If ``state_dict`` is not a mapping.
            ValueError: If the keys of the state are not the state attributes of this metric, or if the state was saved with
                another number of ranks.
        """
        names, kind = _state_names(self), type(self).__name__
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"the state of {kind} must be a mapping, got {type(state_dict).__name__}")
        if set(state_dict) != {STATE_KEY}:
            raise ValueError(
                f"the state of {kind} must have the key {STATE_KEY!r}, got the keys {list(state_dict)}"
            )
        of_ranks = state_dict[STATE_KEY]
        if len(of_ranks) != world_size():
            raise ValueError(
                f"the state of {kind} was saved by {len(of_ranks)} processes and cannot be loaded by {world_size()}; "
                f"start {len(of_ranks)} processes, or do not load this state"
            )
        own = of_ranks[rank()]
        if set(own) != set(names):
            raise ValueError(
                f"the state of {kind} must have the keys {', '.join(names)}; got {', '.join(own)}"
            )
        _restore_own(self, own)

    def keep_for_epoch(self, epoch: int | None, iteration: int | None = None) -> None:
        """Skip the reset at the next start if the engine then continues the given epoch.

        Args:
            epoch: The epoch in which the data was accumulated. ``None`` means that the next start always resets the metric.
            iteration: The number of the last iteration before the data was saved.
        """
        self._kept_for_epoch, self._saved_after = epoch, iteration


def has_state(metric: StatefulMetric) -> bool:
    """Return whether the metric and all its components declare their state attributes and have each of these attributes.

    If any attribute were not saved, a resumed run would compute a wrong metric value.
    """
    names = metric._state_dict_all_req_keys  # noqa: SLF001 - see _state_names
    parts = (part for name in names for _, part in _metrics_in(getattr(metric, name)))
    return bool(names) and not _missing(metric, names) and all(map(has_state, parts))


class RankState:
    """State of an attached metric, as it is saved with the engine's state.

    The state contains only this rank's data. Collecting the data of all ranks would hang if only one rank saved a
    checkpoint.

    Args:
        metric: The metric.
        run: The state of the engine; its epoch and iteration are saved too.
    """

    is_reset_by_run = True

    def __init__(self, metric: StatefulMetric, run: State) -> None:
        self._metric = metric
        self._run = run

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's state, with the epoch and iteration of the run."""
        return {
            "rank": rank(),
            "world_size": world_size(),
            "epoch": self._run.epoch,
            "iteration": self._run.iteration,
            "state": _own_state(self._metric),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state if it was saved by this rank and with the same number of processes."""
        # Loading the data of another rank would count it twice.
        if (state["rank"], state["world_size"]) == (rank(), world_size()):
            _restore_own(self._metric, state["state"], state["epoch"], state["iteration"])


def _state_names(metric: StatefulMetric) -> tuple[str, ...]:
    names = metric._state_dict_all_req_keys  # noqa: SLF001 - the name that ignite metrics use
    if not names:
        raise NotImplementedError(
            f"{type(metric).__name__} does not declare its state; in the class, list the attributes that reset() sets: "
            "_state_dict_all_req_keys = ('...',)"
        )
    if missing := _missing(metric, names):
        raise NotImplementedError(
            f"{type(metric).__name__} lacks attributes that the class declares as state: {', '.join(missing)}. In the class, "
            "name the attributes that reset() sets: _state_dict_all_req_keys = ('...',)"
        )
    return names


def _missing(metric: StatefulMetric, names: tuple[str, ...]) -> list[str]:
    """Return the declared state attributes that the metric lacks, for example because ``reset`` does not set them."""
    return [name for name in names if not hasattr(metric, name)]


def _own_state(metric: StatefulMetric) -> dict[str, Any]:
    kind = type(metric).__name__
    return {name: _saved(f"{kind}.{name}", getattr(metric, name)) for name in _state_names(metric)}


def _saved(where: str, value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        # Updates may change the tensor in place.
        return value.detach().clone()
    if isinstance(value, StatefulMetric):
        return _own_state(value)
    if isinstance(value, Mapping):
        return {key: _saved(f"{where}[{key!r}]", item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_saved(f"{where}[{index}]", item) for index, item in enumerate(value)]
    if value is None or isinstance(value, (Number, str)):
        return value
    raise TypeError(
        f"{where} cannot be saved, because its type is {type(value).__name__}; the state of a metric may contain only numbers, "
        "strings, tensors, None, metrics, and lists and dicts of these"
    )


def _restore_own(metric: StatefulMetric, own: Mapping[str, Any], *position: int) -> None:
    """Restore a state; ``position`` contains the epoch and iteration at which the state was saved, if they are known."""

    def copied(leaf: Any) -> Any:
        # Updates must not change the loaded state.
        return leaf.to(metric.device, copy=True) if isinstance(leaf, torch.Tensor) else leaf

    for name in _state_names(metric):
        parts = _metrics_in(getattr(metric, name))
        for key, part in parts:
            _restore_own(part, own[name] if key is None else own[name][key], *position)
        if not parts:
            setattr(metric, name, map_leaves(own[name], copied))
    if "_result" in vars(metric):
        # The cached result belongs to the previous data.
        vars(metric)["_result"] = None
    metric.keep_for_epoch(*position or (None,))


def _metrics_in(value: Any) -> list[tuple[Any, StatefulMetric]]:
    """Return the metrics in a value as pairs ``(key, metric)``; if the value itself is a metric, the key is ``None``."""
    if isinstance(value, StatefulMetric):
        return [(None, value)]
    items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, Mapping) else ()
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
    return [(key, item) for key, item in items if isinstance(item, StatefulMetric)]
