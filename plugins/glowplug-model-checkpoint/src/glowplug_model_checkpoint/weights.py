"""Names of weights, independent of wrappers: ``torch.compile``, ``DistributedDataParallel`` and ``DataParallel``.

Such a wrapper has the model as a submodule, so the names of the weights get the prefix ``_orig_mod.`` or ``module.``. A
checkpoint contains the names without wrappers and loads into a model with any wrappers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from glowplug_model_checkpoint.sharding import distributed_like, local_part

__all__ = ["all_finite", "load_weights", "unwrapped", "weights"]

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COMPILED, _WRAPPED = "_orig_mod", "module"


def unwrapped(leaf: Any) -> Any:
    """Return the model inside all wrappers; other objects are returned unchanged.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> unwrapped(nn.DataParallel(model)) is model
        True
    """
    while isinstance(leaf, nn.Module) and (name := _wrapper_attribute(leaf)):
        leaf = getattr(leaf, name)
    return leaf


def weights(module: nn.Module) -> Mapping[str, Any]:
    """Return the state of a module with the names that it has without wrappers.

    Example:
        >>> list(weights(nn.Sequential(nn.DataParallel(nn.Linear(2, 1)))))
        ['0.weight', '0.bias']
    """
    state: Mapping[str, Any] = unwrapped(module).state_dict()
    prefixes = list(_wrapper_prefixes(unwrapped(module)))
    if not prefixes:
        return state
    plain = OrderedDict((_without_wrappers(name, prefixes), value) for name, value in state.items())
    # torch stores the versions of the modules in this attribute, by the names of the modules.
    versions = getattr(state, "_metadata", None)
    if versions is not None:
        plain._metadata = OrderedDict(  # type: ignore[attr-defined]  # noqa: SLF001 - torch reads this attribute
            (_without_wrappers(f"{name}.", prefixes)[:-1] if name else name, value)
            for name, value in versions.items()
        )
    return plain


def load_weights(module: nn.Module, state: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Load weights that were saved with or without wrappers into a module with or without wrappers.

    Args:
        module: The module.
        state: Weights by their names.
        options: Arguments of ``nn.Module.load_state_dict``, such as ``strict=False``.

    Raises:
        RuntimeError: If the weights do not fit the module.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> load_weights(nn.DataParallel(model), {"_orig_mod.weight": torch.ones(1, 2)}, {"strict": False})
        >>> model.weight.tolist()
        [[1.0, 1.0]]
    """
    target = unwrapped(module)
    target.load_state_dict(distributed_like(fitted(target, state), target.state_dict()), **options)


def fitted(module: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state with the names that the module has."""
    own = list(module.state_dict())
    if set(state) <= set(own):
        return state
    prefixes = list(_wrapper_prefixes(module))
    # The names of the module with its wrappers, by the names without wrappers.
    plain = {_without_wrappers(name, prefixes): name for name in own}
    names = _names_in(plain, list(state))
    renamed = OrderedDict((plain.get(names[name], name), value) for name, value in state.items())
    if hasattr(state, "_metadata") and not prefixes and all(name == names[name] for name in state):
        renamed._metadata = state._metadata  # type: ignore[attr-defined]  # noqa: SLF001 - torch reads this attribute
    return renamed


def all_finite(modules: Iterable[nn.Module]) -> bool:
    """Return whether no parameter of the modules, of a sharded one this rank's part, contains NaN or infinity.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> all_finite([model])
        True
        >>> _ = nn.init.constant_(model.bias, float("nan"))
        >>> all_finite([model])
        False
    """
    extremes: dict[torch.device, list[torch.Tensor]] = {}
    for module in modules:
        for parameter in module.parameters():
            values = local_part(parameter.detach())
            if values.is_floating_point() and values.numel() and not values.is_meta:
                # torch has no minimum for floats of 8 bits.
                values = values if values.element_size() > 1 else values.float()
                extremes.setdefault(values.device, []).extend(each.float() for each in torch.aminmax(values))
    # One transfer from each device.
    return all(bool(torch.isfinite(torch.stack(each)).all()) for each in extremes.values())


def _wrapper_attribute(module: nn.Module) -> str | None:
    """Return the name of the submodule that a module wraps; ``None`` if the module is not a wrapper."""
    if isinstance(module, _PARALLEL):
        return _WRAPPED
    # The class of compiled modules is not imported, because its import takes seconds.
    return _COMPILED if _COMPILED in module._modules else None  # noqa: SLF001 - a compiled module forwards other attributes


def _wrapper_prefixes(module: nn.Module) -> Iterator[str]:
    """Yield the prefix of the names of all weights within each wrapper in a module."""
    # With duplicates, because a module may have several names.
    for name, part in module.named_modules(remove_duplicate=False):
        if attribute := _wrapper_attribute(part):
            yield f"{name}.{attribute}." if name else f"{attribute}."


def _without_wrappers(name: str, prefixes: list[str]) -> str:
    """Return the name of a weight without the wrappers' parts; the longest prefix belongs to the innermost wrapper."""
    for prefix in sorted(prefixes, key=len, reverse=True):
        if name.startswith(prefix):
            head = prefix[:-1].rpartition(".")[0]
            name = f"{head}.{name[len(prefix) :]}" if head else name[len(prefix) :]
    return name


def _names_in(plain: Mapping[str, Any], names: list[str]) -> Mapping[str, str]:
    """Find the names of a module's weights that the names in a checkpoint stand for, whatever wrappers the checkpoint had.

    A wrapper of the whole model puts one prefix before all names. Only if this does not explain the names, parts in the middle of
    a name are taken as those of wrappers, because a model may have a submodule that is called ``module``.
    """
    candidates = [{name: name for name in names}]
    short = candidates[0]
    while short and (prefix := _common_wrapper(short.values())):
        short = {name: value[len(prefix) :] for name, value in short.items()}
        candidates.append(short)
    known = _by_core(plain)
    cores = _by_core(names)
    candidates.append(
        {name: known.get(_core(name), name) if _core(name) in cores else name for name in names}
    )
    return max(candidates, key=lambda found: sum(value in plain for value in found.values()))


def _common_wrapper(names: Any) -> str | None:
    for prefix in (f"{_COMPILED}.", f"{_WRAPPED}."):
        if all(name.startswith(prefix) for name in names):
            return prefix
    return None


def _core(name: str) -> str:
    """Return a name without all parts that may belong to a wrapper."""
    return ".".join(part for part in name.split(".") if part not in {_COMPILED, _WRAPPED})


def _by_core(names: Any) -> Mapping[str, str]:
    """Return the names by their cores, without the cores that several names have."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_core(name), []).append(name)
    return {core: each[0] for core, each in found.items() if len(each) == 1}
