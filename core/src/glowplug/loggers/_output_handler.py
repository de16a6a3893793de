"""The log handlers: each reads an engine and calls one method of a logger, whichever logger it is."""

from __future__ import annotations

import reprlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from glowplug.events import CallableEventWithFilter
from glowplug.loggers._snapshot import Flattened, checked_step
from glowplug.loggers._step import GlobalStep, default_step
from glowplug.typing import EngineProtocol

if TYPE_CHECKING:
    from torch import Tensor, nn


class OutputHandler:
    """Logs metrics, the step's output and attributes of the state (L-020 to L-026).

    Args:
        tag: what all names begin with, as in ``training/loss``.
        metric_names: which of ``engine.state.metrics``; ``"all"`` for those that there are at the time.
        output_transform: ``f(engine.state.output)``, giving a dict of names and values, or one value named ``output``.
        global_step_transform: ``f(engine, event_name) -> int``. By default the event's counter, or that of the engine
            in whose handler this one runs, so an evaluator logs at its trainer's step.
        state_attributes: names of attributes of ``engine.state``.

    Raises:
        ValueError: none of the three sources is given.
        TypeError: ``metric_names`` is a string other than ``"all"``.

    Example:
        >>> OutputHandler("validation", metric_names=["accuracy"])
        OutputHandler('validation')
    """

    sink = "log_scalars"

    def __init__(
        self,
        tag: str,
        metric_names: Sequence[str] | Literal["all"] | None = None,
        output_transform: Callable[[Any], Any] | None = None,
        global_step_transform: GlobalStep | None = None,
        state_attributes: Sequence[str] | None = None,
    ) -> None:
        if metric_names is None and output_transform is None and state_attributes is None:
            raise ValueError(
                "OutputHandler needs something to log: give metric_names=, output_transform= or state_attributes="
            )
        for name, given in (("metric_names", metric_names), ("state_attributes", state_attributes)):
            listed = isinstance(given, Sequence) and not isinstance(given, str)
            if given is not None and not listed and (name, given) != ("metric_names", "all"):
                raise TypeError(
                    f"{name} must be a list of names"
                    + (' or "all"' if name == "metric_names" else "")
                    + f", got {given!r}"
                )
        for name, function in (
            ("output_transform", output_transform),
            ("global_step_transform", global_step_transform),
        ):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, got {function!r}")
        self.tag = tag
        self.metric_names = metric_names
        self.output_transform = output_transform
        self.global_step_transform = global_step_transform
        self.state_attributes = state_attributes
        self._warned: set[str] = set()

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Make one record of all there is."""
        flat = Flattened()
        scalars, prefix = flat.scalars, f"{self.tag}/" if self.tag else ""
        for name, value in self._values(engine).items():
            if value.__class__ is float:  # nearly all there is, and this runs at every iteration
                scalars[f"{prefix}{name}"] = value
            else:
                flat.add(f"{prefix}{name}", value)
        step = self._step(engine, event_name)
        if flat.scalars:
            logger.log_scalars(flat.scalars, step)
        if flat.texts and logger.takes("log_text"):
            for name, text in flat.texts.items():
                logger.log_text(name, text, step)
        elif flat.texts:
            flat.unknown.update(flat.texts)
        for name, value in flat.unknown.items():
            self._warn_once(
                name, f"{name} is {_shortened(value)}, which {type(logger).__name__} cannot log; left out"
            )

    def _values(self, engine: EngineProtocol) -> dict[str, Any]:
        metrics = engine.state.metrics
        if self.metric_names == "all":
            values = dict(metrics)
        else:
            values = {}
            for name in self.metric_names or ():
                if name in metrics:
                    values[name] = metrics[name]
                else:
                    self._warn_once(
                        name, f"there is no metric {name!r} to log; there are {', '.join(metrics) or 'none'}"
                    )
        if self.output_transform is not None:
            output = self.output_transform(engine.state.output)
            values.update(output if isinstance(output, Mapping) else {"output": output})
        for name in self.state_attributes or ():
            if hasattr(engine.state, name):
                values[name] = getattr(engine.state, name)
            else:
                self._warn_once(name, f"engine.state has no attribute {name!r} to log")
        return values

    def _step(self, engine: EngineProtocol, event_name: CallableEventWithFilter | str) -> int:
        if self.global_step_transform is None:
            return default_step(engine, event_name)
        return checked_step(self.global_step_transform(engine, event_name), "global_step_transform")

    def _warn_once(self, name: str, message: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warnings.warn(f"OutputHandler({self.tag!r}): {message}", UserWarning, stacklevel=2)

    def __repr__(self) -> str:
        return f"OutputHandler({self.tag!r})"


class OptimizerParamsHandler:
    """Logs a parameter of an optimizer, one number per parameter group, as ``[tag/]lr/group_0`` (L-030).

    Args:
        optimizer: anything with a list ``param_groups``.
        param_name: the key in the groups.
        tag: what the names begin with.

    Raises:
        TypeError: no ``param_groups``.

    Example:
        >>> import torch
        >>> OptimizerParamsHandler(torch.optim.SGD([torch.zeros(1)], lr=0.1)).param_name
        'lr'
    """

    sink = "log_scalars"

    def __init__(self, optimizer: Any, param_name: str = "lr", tag: str | None = None) -> None:
        if not isinstance(getattr(optimizer, "param_groups", None), Sequence):
            raise TypeError(f"OptimizerParamsHandler needs an optimizer with param_groups, got {optimizer!r}")
        self.optimizer = optimizer
        self.param_name = param_name
        self.tag = tag

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Make one record of all groups."""
        flat = Flattened()
        prefix = f"{self.tag}/" if self.tag else ""
        for index, group in enumerate(self.optimizer.param_groups):
            if self.param_name not in group:
                raise KeyError(
                    f"OptimizerParamsHandler: group {index} of {type(self.optimizer).__name__} has no "
                    f"{self.param_name!r}; it has {', '.join(group)}"
                )
            flat.add(f"{prefix}{self.param_name}/group_{index}", group[self.param_name])
        logger.log_scalars(flat.scalars, default_step(engine, event_name))


class _ModelHandler(ABC):
    """What the handlers of weights and gradients have in common (L-031).

    Args:
        model: whose named parameters.
        tag: what the names begin with.
        whitelist: prefixes of parameter names, or ``f(name, parameter) -> bool``; all parameters by default.
    """

    def __init__(
        self,
        model: nn.Module,
        tag: str | None = None,
        whitelist: Sequence[str] | Callable[[str, Tensor], bool] | None = None,
    ) -> None:
        if not callable(getattr(model, "named_parameters", None)):
            raise TypeError(f"{type(self).__name__} needs a torch.nn.Module, got {model!r}")
        self.model = model
        self.tag = tag
        self._chosen = [
            name for name, parameter in model.named_parameters() if _is_chosen(name, parameter, whitelist)
        ]
        if whitelist is not None and not self._chosen:
            raise ValueError(
                f"{type(self).__name__}: the whitelist chooses none of the parameters "
                f"{', '.join(name for name, _ in model.named_parameters())}"
            )

    def __call__(
        self, engine: EngineProtocol, logger: Any, event_name: CallableEventWithFilter | str
    ) -> None:
        """Make the records of all chosen parameters."""
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
    """Logs one number for each parameter of a model, its norm by default, as ``weights_norm/layer/weight``.

    Args:
        model: whose named parameters.
        reduction: ``f(tensor) -> number``; ``torch.norm`` by default.
        tag: what the names begin with.
        whitelist: prefixes of parameter names, or ``f(name, parameter) -> bool``; all parameters by default.

    Raises:
        TypeError: ``reduction`` is no function of a tensor that returns one number.
        ValueError: the whitelist chooses nothing.

    Example:
        >>> import torch
        >>> handler = WeightsScalarHandler(torch.nn.Linear(2, 1), whitelist=["weight"])
    """

    sink = "log_scalars"
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
                f"{type(self).__name__}: reduction= must turn a tensor into one number; {self._name} made "
                f"{_shortened(trial)} of one of shape (4, 2)"
            )

    def _write(self, logger: Any, tensors: Iterator[tuple[str, str, Tensor]], step: int) -> None:
        flat = Flattened()
        for prefix, name, tensor in tensors:
            flat.add(f"{prefix}{self._what}_{self._name}/{name}", self.reduction(tensor))
        if flat.scalars:
            logger.log_scalars(flat.scalars, step)


class GradsScalarHandler(_Gradients, WeightsScalarHandler):
    """Logs one number for each gradient, its norm by default, as ``grads_norm/layer/weight``.

    Arguments and errors are those of :class:`WeightsScalarHandler`; parameters without a gradient are left out.
    """

    _what = "grads"


class WeightsHistHandler(_ModelHandler):
    """Logs the distribution of each parameter's values, as ``weights/layer/weight``.

    Args:
        model: whose named parameters.
        tag: what the names begin with.
        whitelist: prefixes of parameter names, or ``f(name, parameter) -> bool``; all parameters by default.

    Raises:
        ValueError: the whitelist chooses nothing.

    Example:
        >>> import torch
        >>> handler = WeightsHistHandler(torch.nn.Linear(2, 1), tag="model")
    """

    sink = "log_histogram"
    _what = "weights"

    def _write(self, logger: Any, tensors: Iterator[tuple[str, str, Tensor]], step: int) -> None:
        for prefix, name, tensor in tensors:
            logger.log_histogram(f"{prefix}{self._what}/{name}", tensor, step)


class GradsHistHandler(_Gradients, WeightsHistHandler):
    """Logs the distribution of each gradient's values, as ``grads/layer/weight``.

    Arguments and errors are those of :class:`WeightsHistHandler`; parameters without a gradient are left out.
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


def _shortened(value: Any) -> str:
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"a {type(value).__name__} of shape {tuple(shape)}"
    return f"{reprlib.repr(value)} of {type(value).__name__}"
