"""Log handlers for the weights and gradients of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from glowplug.events import CallableEventWithFilter
from glowplug.loggers._flatten import Flattened, shortened
from glowplug.loggers._step import default_step
from glowplug.typing import EngineProtocol

if TYPE_CHECKING:
    from torch import Tensor, nn


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
        self._chosen = [
            name for name, parameter in model.named_parameters() if _is_chosen(name, parameter, whitelist)
        ]
        if whitelist is not None and not self._chosen:
            raise ValueError(
                f"{type(self).__name__}: the whitelist matches none of the parameters "
                f"{', '.join(name for name, _ in model.named_parameters())}"
            )

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Log the selected parameters."""
        step = default_step(engine, event_name)
        prefix = f"{self.tag}/" if self.tag else ""
        self._write(
            logger, ((prefix, name.replace(".", "/"), value) for name, value in self._tensors()), step
        )

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        parameters = dict(self.model.named_parameters())
        return ((name, parameters[name].detach()) for name in self._chosen if name in parameters)

    @abstractmethod
    def _write(self, logger: Any, tensors: Iterator[tuple[str, str, Tensor]], step: int) -> None: ...


class _Gradients(_ModelHandler):
    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        parameters = dict(self.model.named_parameters())
        gradients = ((name, parameters[name].grad) for name in self._chosen if name in parameters)
        return ((name, gradient.detach()) for name, gradient in gradients if gradient is not None)


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
        >>> handler = WeightsScalarHandler(torch.nn.Linear(2, 1), whitelist=["weight"])
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
    """

    _what = "grads"


def _is_chosen(
    name: str, parameter: Tensor, whitelist: Sequence[str] | Callable[[str, Tensor], bool] | None
) -> bool:
    if whitelist is None:
        return True
    if callable(whitelist):
        return whitelist(name, parameter)
    return any(name.startswith(prefix) for prefix in whitelist)
