"""Log handlers for the weights and gradients of a model."""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from glowplug.events import CallableEventWithFilter
from glowplug.exceptions import GlowplugWarning
from glowplug.loggers._flatten import Flattened, shortened
from glowplug.loggers._snapshot import is_a
from glowplug.loggers._step import default_step
from glowplug.typing import EngineProtocol

if TYPE_CHECKING:
    from torch import Tensor, nn


# Names of the submodules in which torch.compile, FSDP and activation checkpointing keep the original module.
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


class _ModelHandler(ABC):
    """Base class of log handlers for weights and gradients.

    Args:
        model: The model.
        tag: Prefix of the logged names. Defaults to no prefix.
        whitelist: The parameters to log, as a list of name prefixes or a function ``f(name, parameter) -> bool``. Defaults
            to all parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        tag: str | None = None,
        whitelist: Sequence[str] | Callable[[str, Tensor], bool] | None = None,
    ) -> None:
        if not callable(getattr(model, "named_parameters", None)):
            raise TypeError(f"{type(self).__name__} needs a torch.nn.Module, got {model!r}")
        if isinstance(whitelist, str):
            raise TypeError(
                f"{type(self).__name__}: whitelist must be a list of prefixes or a function; write [{whitelist!r}]"
            )
        self.model = model
        self.tag = tag
        parameters = dict(_parameters(model))
        self._chosen = [name for name, value in parameters.items() if _is_chosen(name, value, whitelist)]
        if whitelist is not None and not self._chosen:
            raise ValueError(
                f"{type(self).__name__}: the whitelist matches no parameter; the parameters of the model are "
                f"{', '.join(parameters)}"
            )
        self._reported: set[str] = set()

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Log the selected parameters."""
        if any(
            is_a(module, "torch.distributed.fsdp", "FullyShardedDataParallel")
            for module in self.model.modules()
        ):
            self._warn_once("the model is not logged", "FullyShardedDataParallel shards it over ranks")
            return
        step = default_step(engine, event_name)
        prefix = f"{self.tag}/" if self.tag else ""
        parameters = dict(_parameters(self.model))
        tensors = ((name, self._tensor(parameters[name])) for name in self._chosen if name in parameters)
        readable = ((name, self._readable(name, tensor)) for name, tensor in tensors if tensor is not None)
        self._write(
            logger,
            ((prefix, name.replace(".", "/"), value) for name, value in readable if value is not None),
            step,
        )

    def _tensor(self, parameter: Tensor) -> Tensor | None:
        return parameter.detach()

    def _readable(self, name: str, tensor: Tensor) -> Tensor | None:
        """Return the tensor to log; if its values cannot be logged, warn once and return ``None``."""
        # To gather a sharded tensor is a collective, but log handlers run on one rank.
        if is_a(tensor, "torch.distributed.tensor", "DTensor"):
            readable, why = None, "it is sharded over ranks"
        elif tensor.layout != sys.modules["torch"].strided:
            readable, why = self._values(tensor), f"its layout is {tensor.layout}"
        elif not _is_floating_point(tensor):
            readable, why = None, f"its dtype is {tensor.dtype}"
        else:
            return tensor
        if readable is None:
            self._warn_once(f"{name} is not logged", why)
        return readable

    def _warn_once(self, what: str, why: str) -> None:
        # A large model has hundreds of parameters that cannot be logged for the same reason.
        if why not in self._reported:
            self._reported.add(why)
            warnings.warn(
                f"{type(self).__name__}: {what}: {why}; this is reported once for all such parameters",
                GlowplugWarning,
                stacklevel=2,
            )

    def _values(self, tensor: Tensor) -> Tensor | None:
        """Return the tensor to log in place of a sparse tensor, or ``None`` if the handler cannot log sparse tensors."""
        return None

    @abstractmethod
    def _write(self, logger: Any, tensors: Iterator[tuple[str, str, Tensor]], step: int) -> None: ...


class _Gradients(_ModelHandler):
    def _tensor(self, parameter: Tensor) -> Tensor | None:
        return None if parameter.grad is None else parameter.grad.detach()


class WeightsScalarHandler(_ModelHandler):
    """Log one number for each parameter of a model, by default the parameter's norm.

    Names have the form ``weights_norm/layer/weight``.

    Args:
        model: The model.
        reduction: Function ``f(tensor) -> number``. Defaults to the norm.
        tag: Prefix of the logged names. Defaults to no prefix.
        whitelist: The parameters to log, as a list of name prefixes or a function ``f(name, parameter) -> bool``. Defaults
            to all parameters.

    Raises:
        TypeError: If ``model`` is not a module, if ``whitelist`` is a string, or if ``reduction`` returns a tensor that does not
            have exactly one element.
        ValueError: If the whitelist matches no parameter.

    Example:
        >>> import torch
        >>> from glowplug import Events
        >>> from glowplug.loggers import Logger
        >>> from glowplug.testing import FakeEngine
        >>> class Printer(Logger):
        ...     uses_spool = False
        ...
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> engine, model = FakeEngine(), torch.nn.Linear(2, 1)
        >>> _ = torch.nn.init.constant_(model.weight, 1.5)
        >>> with Printer() as printer:
        ...     handler = WeightsScalarHandler(model, reduction=torch.max, whitelist=["weight"])
        ...     handle = printer.attach(engine, Events.EPOCH_COMPLETED, handler)
        ...     engine = engine.fire(Events.EPOCH_COMPLETED, epoch=3)
        3 {'weights_max/weight': 1.5}
    """

    method = "log_scalars"
    _what = "weights"

    def __init__(
        self,
        model: nn.Module,
        reduction: Callable[[Tensor], Any] | None = None,
        tag: str | None = None,
        whitelist: Sequence[str] | Callable[[str, Tensor], bool] | None = None,
    ) -> None:
        super().__init__(model, tag, whitelist)
        import torch

        self.reduction: Callable[[Tensor], Any] = torch.linalg.vector_norm if reduction is None else reduction
        self._name = "norm" if reduction is None else getattr(reduction, "__name__", type(reduction).__name__)
        trial = self.reduction(torch.ones(4, 2))
        if isinstance(trial, torch.Tensor) and trial.numel() != 1:
            raise TypeError(
                f"{type(self).__name__}: reduction= must return one number; {self._name} returned {shortened(trial)} for a "
                "tensor of shape (4, 2)"
            )

    def _values(self, tensor: Tensor) -> Tensor | None:
        # Zeros do not change a norm.
        is_norm = self.reduction is sys.modules["torch"].linalg.vector_norm
        return tensor.coalesce().values() if is_norm and tensor.is_sparse else None

    def _write(self, logger: Any, tensors: Iterator[tuple[str, str, Tensor]], step: int) -> None:
        flat = Flattened()
        for prefix, name, tensor in tensors:
            flat.add(f"{prefix}{self._what}_{self._name}/{name}", self.reduction(tensor))
        if flat.scalars:
            logger.log_scalars(flat.scalars, step)


class GradsScalarHandler(_Gradients, WeightsScalarHandler):
    """Log one number for each gradient of a model, by default the gradient's norm.

    Names have the form ``grads_norm/layer/weight``. Parameters without a gradient are omitted. The arguments and errors are
    the same as for :class:`WeightsScalarHandler`.

    Example:
        >>> import torch
        >>> from glowplug import Events
        >>> from glowplug.loggers import Logger
        >>> from glowplug.testing import FakeEngine
        >>> class Printer(Logger):
        ...     uses_spool = False
        ...
        ...     def write_scalars(self, scalars, step, timestamp):
        ...         print(step, scalars)
        >>> engine, model = FakeEngine(), torch.nn.Linear(1, 1)
        >>> model(torch.tensor([2.0])).backward()
        >>> with Printer() as printer:
        ...     handle = printer.attach(engine, Events.EPOCH_COMPLETED, GradsScalarHandler(model))
        ...     engine = engine.fire(Events.EPOCH_COMPLETED, epoch=3)
        3 {'grads_norm/weight': 2.0, 'grads_norm/bias': 1.0}
    """

    _what = "grads"


class WeightsHistHandler(_ModelHandler):
    """Log the distribution of each parameter's values under a name such as ``weights/layer/weight``.

    Args:
        model: The model.
        tag: Prefix of the logged names. Defaults to no prefix.
        whitelist: The parameters to log, as a list of name prefixes or a function ``f(name, parameter) -> bool``. Defaults
            to all parameters.

    Raises:
        TypeError: If ``model`` is not a module, or if ``whitelist`` is a string.
        ValueError: If the whitelist matches no parameter.

    Example:
        >>> import torch
        >>> handler = WeightsHistHandler(torch.nn.Linear(2, 1), tag="model")
    """

    method = "log_histogram"
    _what = "weights"

    def _write(self, logger: Any, tensors: Iterator[tuple[str, str, Tensor]], step: int) -> None:
        for prefix, name, tensor in tensors:
            logger.log_histogram(f"{prefix}{self._what}/{name}", tensor, step)


class GradsHistHandler(_Gradients, WeightsHistHandler):
    """Log the distribution of each gradient's values under a name such as ``grads/layer/weight``.

    Parameters without a gradient are omitted. The arguments and errors are the same as for :class:`WeightsHistHandler`.

    Example:
        >>> import torch
        >>> from glowplug import Events
        >>> from glowplug.loggers import Logger
        >>> from glowplug.testing import FakeEngine
        >>> class Printer(Logger):
        ...     uses_spool = False
        ...
        ...     def write_scalars(self, scalars, step, timestamp): ...
        ...
        ...     def write_histogram(self, name, histogram, step, timestamp):
        ...         print(step, name, sum(histogram.counts))
        >>> engine, model = FakeEngine(), torch.nn.Linear(2, 1)
        >>> model(torch.ones(2)).backward()
        >>> with Printer() as printer:
        ...     handle = printer.attach(engine, Events.EPOCH_COMPLETED, GradsHistHandler(model))
        ...     engine = engine.fire(Events.EPOCH_COMPLETED, epoch=3)
        3 grads/weight 2
        3 grads/bias 1
    """

    _what = "grads"


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, without the prefixes that DistributedDataParallel and ``torch.compile`` add to their names."""
    inner = getattr(model, "_orig_mod", model)
    is_parallel = any(
        is_a(inner, "torch.nn.parallel", name) for name in ("DistributedDataParallel", "DataParallel")
    )
    for name, parameter in model.named_parameters():
        parts = [part for part in name.split(".") if part not in _WRAPPERS]
        yield ".".join(parts[is_parallel:]), parameter


def _is_floating_point(tensor: Tensor) -> bool:
    # The codes of a quantized model are integers or, like float8, have one byte; torch computes no norms of them.
    dtype = tensor.dtype
    return (dtype.is_floating_point or dtype.is_complex) and dtype.itemsize > 1


def _is_chosen(
    name: str, parameter: Tensor, whitelist: Sequence[str] | Callable[[str, Tensor], bool] | None
) -> bool:
    if whitelist is None:
        return True
    if callable(whitelist):
        return whitelist(name, parameter)
    return any(name.startswith(prefix) for prefix in whitelist)
