"""Checks of a metric: its value depends only on the data since the last reset."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from glowplug.exceptions import NotComputableError
from glowplug.testing import FakeEngine
from glowplug_testing.cases import MetricCase
from glowplug_testing.checks import CheckFailed, CheckSkipped, require
from glowplug_testing.engine_play import equal, play, registered
from glowplug_testing.handler_state_checks import through_file
from glowplug_testing.ranks import on_two_ranks
from glowplug_testing.surroundings import unchanged_process

RANDOM_TRIALS = 20
"""Number of random data sets on which a metric is compared with the reference."""


def make(case: MetricCase) -> Any:
    """Return a new metric."""
    if importlib.util.find_spec("torch") is None:
        raise CheckSkipped("metrics need torch")
    from glowplug import Metric

    metric = case.make()
    require(
        isinstance(metric, Metric),
        f"MetricCase.make() must return a glowplug.Metric, got {metric!r}; derive your class from Metric",
    )
    return metric


def updated(case: MetricCase, outputs: Sequence[Any], metric: Any = None) -> Any:
    """Update the given metric, or a new one, with copies of these outputs and return the metric."""
    metric = make(case) if metric is None else metric
    for output in outputs:
        metric.update(copy.deepcopy(output))
    return metric


def require_value(case: MetricCase, value: Any, when: str, advice: str = "") -> None:
    """Require that the value equals the expected value of the case."""
    require(
        close(value, case.expected, case.tolerance),
        f"{when}, the value is {value!r} instead of {case.expected!r}. {advice}".rstrip(),
    )


def close(first: Any, second: Any, tolerance: float) -> bool:
    """Return whether two values are equal within a relative and absolute tolerance."""
    import torch

    if isinstance(first, Mapping) or isinstance(second, Mapping):
        keys = set(first) == set(second)
        return keys and all(close(first[key], second[key], tolerance) for key in first)
    if isinstance(first, (str, type(None))):
        return bool(first == second)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(
            close(a, b, tolerance) for a, b in zip(first, second, strict=True)
        )
    a, b = (torch.as_tensor(value).detach().to("cpu", torch.float64) for value in (first, second))
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)


def value_covers_all_data(case: MetricCase) -> None:
    """After update() with each output, compute() returns the expected value."""
    require(len(case.outputs) >= 3, "MetricCase(outputs=...) needs at least three outputs of different sizes")
    require_value(case, updated(case, case.outputs).compute(), "after an update with each output")


def random_data_gives_the_reference(case: MetricCase) -> None:
    """On random data, the metric and the reference implementation return the same value."""
    metric = make(case)
    if case.reference is None or case.random_output is None:
        raise CheckSkipped("this check needs MetricCase(reference=..., random_output=...)")
    import torch

    for seed in range(RANDOM_TRIALS):
        generator = torch.Generator().manual_seed(seed)
        outputs = [case.random_output(generator) for _ in range(1 + seed % 5)]
        expected = case.reference(_joined(copy.deepcopy(outputs)))
        metric.reset()
        value = updated(case, outputs, metric).compute()
        require(
            close(value, expected, case.tolerance),
            f"on random data (seed {seed}), the value is {value!r} but the reference is {expected!r}; the outputs "
            f"are {outputs!r}",
        )


def no_data_is_not_computable(case: MetricCase) -> None:
    """If the metric has no data, because it is new or was reset, compute() raises NotComputableError."""
    for when, metric in (("in a new metric", make(case)), ("after reset()", updated(case, case.outputs))):
        metric.reset()
        try:
            value = metric.compute()
        except NotComputableError:
            continue
        except Exception as error:
            raise CheckFailed(
                f"compute() without data ({when}) raised {error!r}; raise glowplug.exceptions.NotComputableError instead, so "
                "that an attached metric omits its value and warns"
            ) from error
        raise CheckFailed(
            f"compute() without data ({when}) returned {value!r}; raise glowplug.exceptions.NotComputableError instead"
        )


def reset_clears_all_data(case: MetricCase) -> None:
    """After reset(), the metric's value depends only on later data, even if compute() was called before reset()."""
    metric = updated(case, case.outputs[::-1])
    metric.compute()
    metric.reset()
    updated(case, case.outputs, metric)
    require_value(
        case,
        metric.compute(),
        "after data, compute() and reset()",
        "Reset all attributes that update() changes",
    )


def order_does_not_matter(case: MetricCase) -> None:
    """The metric's value does not depend on the order of the outputs."""
    value = updated(case, case.outputs[::-1]).compute()
    require_value(
        case,
        value,
        "with the outputs in reverse order",
        'If the order matters, set expected_failures = {"order_does_not_matter": "the reason"}',
    )


def batches_do_not_matter(case: MetricCase) -> None:
    """The metric's value does not depend on how the data is split into batches."""
    joined = _joined(case.outputs) if case.joined is None else case.joined
    for when, outputs in (("in one batch", [joined]), (f"in {len(case.outputs)} batches", case.outputs)):
        require_value(
            case,
            updated(case, outputs).compute(),
            f"with the data {when}",
            "Accumulate sums and counts in update(), and divide in compute(); a mean of batch means gives small batches too much "
            "weight",
        )


def _joined(outputs: Sequence[Any]) -> Any:
    import torch

    first = outputs[0]
    if isinstance(first, torch.Tensor) and first.ndim:
        return torch.cat(list(outputs))
    if isinstance(first, Mapping):
        return {key: _joined([output[key] for output in outputs]) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(parts) for parts in zip(*outputs, strict=True))
    if isinstance(first, list):
        return [item for output in outputs for item in output]
    raise CheckSkipped(
        "this check needs all outputs joined into one output, but cannot join outputs of this type; pass the joined data of "
        "MetricCase.outputs as MetricCase(joined=...)"
    )


def update_does_not_change_its_input(case: MetricCase) -> None:
    """update() does not change its argument."""
    metric = make(case)
    for output in case.outputs:
        given = copy.deepcopy(output)
        metric.update(given)
        require(
            equal(given, output),
            f"update() changed its argument from {output!r} to {given!r}; avoid in-place methods such as mul_()",
        )


def later_changes_do_not_matter(case: MetricCase) -> None:
    """Overwriting a batch after it was passed to update() does not change the metric's value."""
    metric, given = make(case), copy.deepcopy(list(case.outputs))
    for output in given:
        metric.update(output)
        _overwrite(output)
    require_value(
        case,
        metric.compute(),
        "with batches that were overwritten after their update",
        "Store clones, not the batches",
    )


def _overwrite(value: Any) -> None:
    import torch

    if isinstance(value, torch.Tensor):
        value.detach().zero_()
    elif isinstance(value, (Mapping, list, tuple)):
        for item in list(value.values()) if isinstance(value, Mapping) else value:
            _overwrite(item)


def compute_changes_nothing(case: MetricCase) -> None:
    """compute() can be called repeatedly, even between updates, without changing the metric's value."""
    metric = make(case)
    for output in case.outputs:
        updated(case, [output], metric)
        metric.compute()
    first, second = metric.compute(), metric.compute()
    require_value(
        case,
        first,
        "with a compute() after each update",
        "Do not change the sums in compute(); clear a cached value in update()",
    )
    require(
        close(first, second, case.tolerance),
        f"compute() returned {first!r}, then {second!r} when called again",
    )


def keeps_no_graph(case: MetricCase) -> None:
    """The metric detaches outputs that require gradients, so that memory does not grow with each batch."""
    import torch

    metric = make(case)
    for output in case.outputs:
        metric.update(_with_gradient(copy.deepcopy(output)))
    kept = [
        name
        for name, value in vars(metric).items()
        if isinstance(value, torch.Tensor) and value.requires_grad
    ]
    kept += [
        name
        for name, value in vars(metric).items()
        if isinstance(value, (list, tuple))
        and any(isinstance(item, torch.Tensor) and item.requires_grad for item in value)
    ]
    require(
        not kept,
        f"{', '.join(kept)} holds tensors that require gradients, which keeps each batch in memory; detach() them in update()",
    )


def _with_gradient(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return value.requires_grad_() * 1.0 if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: _with_gradient(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_gradient, value))
    return value


def ranks_agree_on_the_value(case: MetricCase) -> None:
    """Two ranks with different numbers of batches both return the value over all data, even if compute() is called again."""
    _skip_without_torch(case)

    def compute_on(rank: int) -> list[Any]:
        own = case.outputs[:1] if rank == 0 else case.outputs[1:]
        metric = updated(case, own)
        return [metric.compute(), metric.compute()]

    for rank, values in enumerate(on_two_ranks(compute_on)):
        for value in values:
            require_value(
                case,
                value,
                f"on rank {rank} of two, where rank 0 has one batch and rank 1 the others",
                "Decorate compute with @sync_all_reduce('_sum', '_count'), or call glowplug.distributed.all_reduce in "
                "compute() without changing the metric's attributes",
            )


def state_restores_into_a_new_metric(case: MetricCase) -> None:
    """After loading a state saved in the middle of an epoch, a new metric returns the expected value at the end of the epoch."""
    half = len(case.outputs) // 2
    metric = updated(case, case.outputs[:half])
    try:
        state = through_file(metric.state_dict())
    except NotImplementedError as error:
        raise CheckFailed(
            f"state_dict() of the metric is not implemented: {error}; in _state_dict_all_req_keys, list the names of the "
            "attributes that update() changes"
        ) from None
    # The saved state must not change with the metric.
    updated(case, case.outputs[half:], metric)
    other = make(case)
    other.load_state_dict(state)
    updated(case, case.outputs[half:], other)
    require_value(
        case,
        other.compute(),
        "after loading the state of the first outputs and updating with the others",
        "Name all attributes that update() changes: _state_dict_all_req_keys = ('_sum', '_count')",
    )


def copies_are_independent(case: MetricCase) -> None:
    """A deep copy and a pickled copy of a metric are independent of the original metric."""
    ways: list[Callable[[Any], Any]] = [copy.deepcopy]
    metric = make(case)
    if "<locals>" not in type(metric).__qualname__:
        ways.append(lambda value: pickle.loads(pickle.dumps(value)))  # noqa: S301 - data of this test
    for way in ways:
        metric = updated(case, case.outputs[:1])
        other = way(metric)
        updated(case, case.outputs[1:], other)
        require_value(case, other.compute(), "after a copy was updated with the other outputs")
        updated(case, case.outputs[1:], metric)
        require_value(
            case,
            metric.compute(),
            "after the metric and its copy were updated with the other outputs",
            "Create tensors and lists in reset()",
        )


def is_published_under_its_name(case: MetricCase) -> None:
    """At the end of each epoch, an attached metric writes its value to engine.state.metrics under the metric's name."""
    from glowplug import Engine

    metric = make(case)
    engine, fake = Engine(lambda _, batch: copy.deepcopy(batch)), FakeEngine()
    for each in (engine, fake):
        metric = make(case)
        metric.attach(each, "checked")
        if each is engine:
            engine.run(case.outputs, max_epochs=2)
        else:
            play(fake, list(case.outputs), {})
        metrics = each.state.metrics
        value = metrics.get("checked", metrics if isinstance(case.expected, Mapping) else None)
        require(
            value is not None,
            f"after two epochs of {type(each).__name__}, engine.state.metrics lacks 'checked' and contains {list(metrics)}; do "
            "not override attach()",
        )
        require_value(
            case,
            value,
            f"after two epochs of {type(each).__name__}",
            "Pass the output of the engine's step to update()",
        )


def detach_removes_all(case: MetricCase) -> None:
    """detach() and handle.remove() each remove all registrations of the metric."""
    for by_handle in (True, False):
        metric, fake = make(case), FakeEngine()
        handle = metric.attach(fake, "checked")
        require(
            metric.is_attached(fake),
            "is_attached() must be True after attach(); do not override these methods",
        )
        play(fake, list(case.outputs), {})
        if by_handle:
            handle.remove()
        else:
            metric.detach(fake)
        left = registered(fake)
        require(
            not left,
            f"after {'remove()' if by_handle else 'detach()'}, {', '.join(left)} is still registered; do not override attach()",
        )
        require(
            not metric.is_attached(fake),
            "is_attached() must be False after detach(); do not override these methods",
        )


def accelerator_gives_the_same_value(case: MetricCase) -> None:
    """The metric's value is the same if the data is on an accelerator."""
    _skip_without_torch(case)
    import torch

    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        raise CheckSkipped("no accelerator is available")
    metric = make(case)
    for output in case.outputs:
        metric.update(_moved(output, accelerator))
    require_value(
        case,
        metric.compute(),
        f"with data on {accelerator}",
        "Move the sums to the device of the data, or the data to the device of the sums",
    )


def _moved(value: Any, device: Any) -> Any:
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(item, device) for item in value)
    return value


def process_is_unchanged(case: MetricCase) -> None:
    """update() and compute() print nothing and do not change global state, such as random generators and torch defaults."""
    with unchanged_process():
        updated(case, case.outputs).compute()


def _skip_without_torch(case: MetricCase) -> None:
    make(case)


METRIC_CHECK_FUNCTIONS = (
    value_covers_all_data,
    random_data_gives_the_reference,
    no_data_is_not_computable,
    reset_clears_all_data,
    order_does_not_matter,
    batches_do_not_matter,
    update_does_not_change_its_input,
    later_changes_do_not_matter,
    compute_changes_nothing,
    keeps_no_graph,
    ranks_agree_on_the_value,
    state_restores_into_a_new_metric,
    copies_are_independent,
    is_published_under_its_name,
    detach_removes_all,
    accelerator_gives_the_same_value,
    process_is_unchanged,
)
