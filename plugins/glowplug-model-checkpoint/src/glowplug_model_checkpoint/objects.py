"""Trees of objects with a ``state_dict()``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from glowplug.distributed import is_initialized
from glowplug.engine import EngineReference, HandlerTable
from glowplug_model_checkpoint.filenames import check_part
from glowplug_model_checkpoint.per_rank import KEY, RankStates
from glowplug_model_checkpoint.sharding import (
    distributed_like,
    distributed_optimizer_state,
    has_tensors,
    is_optimizer,
)
from glowplug_model_checkpoint.weights import fitted, load_weights, unwrapped, weights

__all__ = ["Objects", "check_objects", "leaves", "load_states", "mapped", "modules_in", "path_of"]


# Maximum number of keys that an error message lists.
MAX_SHOWN = 5


class Objects:
    """Named objects to save; engines are held by weak references.

    Args:
        to_save: Mapping of names to objects with ``state_dict()``, or to nested mappings and lists of such objects. The mapping
            is copied.

    Raises:
        TypeError: If :func:`check_objects` raises a TypeError.
        ValueError: If :func:`check_objects` raises a ValueError.

    Example:
        >>> from glowplug import Engine
        >>> engine = Engine(lambda engine, batch: None)
        >>> objects = Objects({"trainer": engine})
        >>> objects.resolve()["trainer"] is engine
        True
        >>> del engine
        >>> objects.resolve()
        Traceback (most recent call last):
        ...
        RuntimeError: to_save['trainer'] is an engine that no longer exists; keep a reference to the engine while its checkpoint handler is in use
    """

    def __init__(self, to_save: object) -> None:
        self._tree: dict[str, Any] = mapped(check_objects(to_save), _without_engine)

    @property
    def names(self) -> list[str]:
        """The names of the objects."""
        return list(self._tree)

    def resolve(self) -> Mapping[str, Any]:
        """Return the objects in a read-only mapping.

        Raises:
            RuntimeError: If one of the objects is an engine that no longer exists.
        """
        return MappingProxyType(mapped(self._tree, _with_engine))


def check_objects(to_save: object) -> Mapping[str, Any]:
    """Check that ``to_save`` maps names to objects with a ``state_dict()``, and return ``to_save``.

    Args:
        to_save: Mapping of names to objects with ``state_dict()``; nested mappings, lists and tuples are allowed.

    Raises:
        TypeError: If ``to_save`` is not a mapping, a name is not a string, or an object has no ``state_dict()``.
        ValueError: If a name cannot be part of a file name.

    Example:
        >>> check_objects({"model": 3})
        Traceback (most recent call last):
        ...
        TypeError: to_save['model'] has no state_dict(): 3
    """
    if not isinstance(to_save, Mapping):
        raise TypeError(f"to_save must be a mapping such as {{'model': model}}; got {to_save!r}")
    for name in to_save:
        check_part("a key of to_save", name)
    if KEY in to_save:
        raise ValueError(
            f"the key {KEY!r} of to_save is reserved for the states of other ranks; rename the key"
        )
    for keys, leaf in leaves(to_save):
        if not callable(getattr(leaf, "state_dict", None)):
            raise TypeError(f"{path_of('to_save', keys)} has no state_dict(): {leaf!r}")
    return to_save


def modules_in(tree: Any) -> Iterator[torch.nn.Module]:
    """Yield the modules in a tree of objects.

    Example:
        >>> from torch import nn
        >>> list(modules_in({"models": [nn.Linear(2, 1)]}))
        [Linear(in_features=2, out_features=1, bias=True)]
    """
    return (leaf for _, leaf in leaves(tree) if isinstance(leaf, torch.nn.Module))


def load_states(
    to_load: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    module_kwargs: Mapping[str, Any],
    *,
    is_bare: bool | None = None,
) -> None:
    """Load the states of a checkpoint into objects, on each rank those of this rank.

    If the state of any object is missing from the checkpoint, no object is changed.

    Args:
        to_load: Objects to load, with the same names and nesting as in ``to_save``. Keys of the checkpoint that
            do not occur in ``to_load`` are ignored.
        checkpoint: Mapping of names to states. If ``to_load`` has only one object, ``checkpoint`` may also be the state of
            this object.
        module_kwargs: Arguments of ``nn.Module.load_state_dict``, such as ``strict=False``.
        is_bare: Whether ``checkpoint`` is the state of a single object; ``None`` if this is unknown.

    Raises:
        TypeError: If an object has no ``load_state_dict()``.
        ValueError: If the checkpoint lacks the state of an object.

    Example:
        >>> from torch import nn
        >>> saved = nn.Linear(2, 1).state_dict()
        >>> load_states({"model": nn.Linear(2, 1)}, saved, {})
    """
    for keys, leaf in leaves(to_load):
        if not callable(getattr(leaf, "load_state_dict", None)):
            raise TypeError(f"{path_of('to_load', keys)} has no load_state_dict(): {leaf!r}")
    ranks, checkpoint = _split(checkpoint)
    if len(to_load) == 1 and is_bare is not False and (is_bare or next(iter(to_load)) not in checkpoint):
        [(name, only)] = to_load.items()
        if _children(only) is not None or _fits(only, checkpoint):
            checkpoint = {name: checkpoint}
            ranks.put_under(name)
    matched = list(_matched(to_load, checkpoint))
    for keys, leaf, state in matched:
        if isinstance(leaf, torch.nn.Module) and not _fits(leaf, state):
            raise ValueError(
                f"{path_of('checkpoint', keys)} has no weight of the model to load: found {_some(state)}, and the model has "
                f"{_some(weights(leaf))}. Check the names in to_load"
            )
    for keys, leaf, state in matched:
        if isinstance(leaf, torch.nn.Module):
            load_weights(leaf, state, module_kwargs)
        else:
            own = ranks.own(path_of("to_load", keys), keys, leaf, state)
            leaf.load_state_dict(_distributed(leaf, own))
    ranks.report()


def _split(checkpoint: Mapping[str, Any]) -> tuple[RankStates, Mapping[str, Any]]:
    """Return the states of this rank, and the checkpoint without the states of other ranks."""
    # The state of a single object need not be a mapping.
    found: object = checkpoint
    if not isinstance(found, Mapping) or KEY not in found:
        return RankStates(None), checkpoint
    return RankStates(checkpoint[KEY]), {key: value for key, value in checkpoint.items() if key != KEY}


def _distributed(leaf: Any, state: Any) -> Any:
    """Return a state with its tensors distributed like those of an object that is not a module."""
    if is_optimizer(leaf):
        return distributed_optimizer_state(leaf, state)
    # Without a process group, nothing is sharded.
    if not is_initialized() or not has_tensors(state):
        return state
    try:
        own = leaf.state_dict()
    except Exception:  # noqa: BLE001 - an object may have no state before it has loaded one
        return state
    return distributed_like(state, own)


def _fits(leaf: Any, state: Any) -> bool:
    """Return whether an object and a state have a key in common, so that the state may be that of the object."""
    if not isinstance(state, Mapping):
        return not isinstance(leaf, torch.nn.Module)
    if isinstance(leaf, torch.nn.Module):
        inner = unwrapped(leaf)
        own, found = inner.state_dict(), fitted(inner, state)
    else:
        try:
            own, found = leaf.state_dict(), state
        except Exception:  # noqa: BLE001 - an object may have no state before it has loaded one
            return True
    return not isinstance(own, Mapping) or not own or not own.keys().isdisjoint(found)


def _some(state: Any) -> str:
    """Return the first keys of a state for an error message."""
    if not isinstance(state, Mapping):
        return type(state).__name__
    names = [repr(name) for name in state]
    return ", ".join(names[:MAX_SHOWN]) + (", ..." if len(names) > MAX_SHOWN else "") or "nothing"


def _matched(tree: Any, state: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """Yield each object with its keys and its state."""
    children = _children(tree)
    if children is None:
        yield keys, tree, state
        return
    known = dict(_children(state) or ())
    for key, value in children:
        if key not in known:
            raise ValueError(
                f"{path_of('checkpoint', (*keys, key))} is missing; found {list(known) or type(state).__name__}. Use the same names "
                "in to_load as in to_save"
            )
        yield from _matched(value, known[key], (*keys, key))


def mapped(tree: Any, function: Callable[[tuple[Any, ...], Any], Any], keys: tuple[Any, ...] = ()) -> Any:
    """Apply ``function(keys, leaf)`` to each leaf and return the results in equally nested dicts and lists.

    Example:
        >>> from torch import nn
        >>> mapped({"models": [nn.Linear(2, 1)]}, lambda keys, leaf: keys)
        {'models': [('models', 0)]}
    """
    children = _children(tree)
    if children is None:
        return function(keys, tree)
    values = {key: mapped(value, function, (*keys, key)) for key, value in children}
    return values if isinstance(tree, Mapping) else list(values.values())


def _without_engine(_keys: tuple[Any, ...], leaf: Any) -> Any:
    is_engine = isinstance(leaf, HandlerTable)
    return EngineReference(leaf) if is_engine else leaf


def _with_engine(keys: tuple[Any, ...], leaf: Any) -> Any:
    found = leaf() if isinstance(leaf, EngineReference) else leaf
    if found is None:
        raise RuntimeError(
            f"{path_of('to_save', keys)} is an engine that no longer exists; keep a reference to the engine while its checkpoint handler is in use"
        )
    return found


def leaves(tree: Any, keys: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield each object of a tree with its keys.

    Example:
        >>> from torch import nn
        >>> [keys for keys, _ in leaves({"models": [nn.Linear(2, 1)]})]
        [('models', 0)]
    """
    children = _children(tree)
    if children is None:
        yield keys, tree
        return
    for key, value in children:
        yield from leaves(value, (*keys, key))


def path_of(root: str, keys: tuple[Any, ...]) -> str:
    """Return the name of an object in a message.

    Example:
        >>> path_of("to_save", ("models", 0))
        "to_save['models'][0]"
    """
    return root + "".join(f"[{key!r}]" for key in keys)


def _children(tree: Any) -> list[tuple[Any, Any]] | None:
    """Return the items of a mapping or sequence, or ``None`` for a leaf."""
    if hasattr(tree, "state_dict"):
        return None
    if isinstance(tree, Mapping):
        return list(tree.items())
    if isinstance(tree, Sequence) and not isinstance(tree, (str, bytes)):
        return list(enumerate(tree))
    return None
