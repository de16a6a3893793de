"""Metrics composed of metrics."""

import operator
import pickle

import numpy as np
import pytest
import torch

from glowplug import BatchWise, Engine, Events, MetricsLambda
from glowplug.testing import FakeEngine

from .total import Total


def with_value(value):
    """Return a metric that was updated once."""
    metric = Total()
    metric.update(value)
    return metric


OPERATORS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.floordiv,
    operator.mod,
    operator.pow,
]


class TestOperators:
    @pytest.mark.parametrize("operation", OPERATORS)
    @pytest.mark.parametrize(("left", "right"), [(7, 2), (7, 2.5), (7.5, 2)])
    def test_metrics_and_constants(self, operation, left, right):
        """Operators on metrics and constants give the result of the same operators on numbers (M-040, M-041)."""
        expected = operation(left, right)
        for combined in (
            operation(with_value(left), with_value(right)),
            operation(with_value(left), right),
            operation(left, with_value(right)),
            operation(np.float64(left), with_value(right)),
        ):
            assert isinstance(combined, MetricsLambda)
            assert combined.compute() == expected

    @pytest.mark.parametrize("operation", OPERATORS)
    def test_tensor_on_the_left(self, operation):
        """A tensor on the left defers to the metric (M-040)."""
        left = torch.tensor([7.5, 3.0])
        combined = operation(left, with_value(2))
        assert isinstance(combined, MetricsLambda)
        assert combined.compute().tolist() == operation(left, 2).tolist()

    def test_matmul(self):
        """`@` works with metrics and tensors on either side (M-040)."""
        matrix, vector = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1.0, 10.0])
        for combined in (
            with_value(matrix) @ vector,
            matrix @ with_value(vector),
            with_value(matrix) @ with_value(vector),
        ):
            assert combined.compute().tolist() == [21.0, 43.0]

    @pytest.mark.parametrize("comparison", [operator.lt, operator.le, operator.gt, operator.ge])
    def test_comparison_is_refused(self, comparison):
        """Comparing a metric with a number raises an error; map() compares values (M-040)."""
        with pytest.raises(TypeError, match="not supported between instances of 'Total' and 'float'"):
            comparison(with_value(1.0), 0.9)
        assert with_value(1.0).map(comparison, 0.9).compute() is comparison(1.0, 0.9)

    def test_true_division(self):
        """An integer metric divided by a float metric is a float in state.metrics (M-041)."""
        engine = Engine(lambda engine, batch: batch)
        (2 / Total()).attach(engine, "inverse")
        assert engine.run([0.5, 0.75]).metrics == {"inverse": 1.6}

    def test_unary_operators(self):
        """Unary minus and abs() return metrics (M-040)."""
        assert (-with_value(3)).compute() == -3
        assert abs(with_value(-3)).compute() == 3

    def test_index(self):
        """Indexing selects part of the value, and a metric is not iterable (M-042)."""
        metric = with_value(torch.tensor([1.0, 2.0, 3.0]))
        assert metric[1].compute() == 2.0
        assert metric[1:].compute().tolist() == [2.0, 3.0]
        with pytest.raises(TypeError, match="not iterable"):
            iter(metric)


class TestFunctions:
    def test_map(self):
        """map() applies functions to the value (M-043)."""
        metric = with_value(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        assert metric.map(torch.diag).compute().tolist() == [1.0, 4.0]
        assert metric.map(torch.sum, dim=0).compute().tolist() == [4.0, 6.0]
        assert with_value(2).map(max, with_value(5)).compute() == 5

    @pytest.mark.parametrize(
        ("formula", "expected"),
        [
            (lambda m: m.mean(), 2.5),
            (lambda m: m.mean(dim=0), [2.0, 3.0]),
            (lambda m: m.sum(), 10.0),
            (lambda m: m.sum(1), [3.0, 7.0]),
            (lambda m: m.min(), 1.0),
            (lambda m: m.max(), 4.0),
            (lambda m: m.sum(0).std(), 2.0**0.5),
            (lambda m: m.clamp(max=2.0), [[1.0, 2.0], [2.0, 2.0]]),
            (lambda m: m.clamp(min=m.mean()), [[2.5, 2.5], [3.0, 4.0]]),
            (lambda m: m.diag(), [1.0, 4.0]),
            (lambda m: m.diag(1), [2.0]),
            (lambda m: m.trace(), 5.0),
            (lambda m: m.sqrt()[1][1], 2.0),
            (lambda m: (m + m).pow(2).mean(), 30.0),
            (lambda m: m.exp().log(), [[1.0, 2.0], [3.0, 4.0]]),
            (lambda m: m.diag().sum() / (m.sum(dim=1) + 1), [5 / 4, 5 / 8]),
        ],
    )
    def test_tensor_methods(self, formula, expected):
        """The tensor methods of common formulas accept their arguments and return metrics (M-043)."""
        matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        value = formula(with_value(matrix)).compute()
        torch.testing.assert_close(value, torch.tensor(expected))

    def test_item_and_tolist(self):
        """item() and tolist() return Python values, and such a formula can be pickled (M-043)."""
        assert with_value(torch.tensor([3])).item().compute() == 3
        rows = with_value(torch.tensor([[1, 2], [3, 4]])).tolist()
        assert pickle.loads(pickle.dumps(rows)).compute() == [[1, 2], [3, 4]]
        assert repr(rows.function) == "method tolist"
        # A Python float is converted to float64, which keeps its value.
        assert with_value(0.1).mean().compute() == 0.1

    def test_keyword_arguments(self):
        """Keyword arguments are passed on, with metrics replaced by their values (M-044)."""
        combined = MetricsLambda(lambda a, b, *, c, d: (a, b, c, d), 1, with_value(2), c=with_value(3), d="x")
        assert combined.compute() == (1, 2, 3, "x")
        assert len(combined.leaves) == 2
        with pytest.raises(TypeError, match="f must be callable, got 3"):
            MetricsLambda(3)

    def test_foreign_metrics_are_refused(self):
        """Metrics of other libraries are refused as arguments (M-044)."""

        class Foreign:
            def compute(self):
                return 1.0

        for combine in (
            lambda: Total() / Foreign(),
            lambda: Foreign() * Total(),
            lambda: Total().map(max, key=Foreign()),
        ):
            with pytest.raises(TypeError, match=r"Foreign is not a glowplug metric.*TorchMetric\(metric\)"):
                combine()


class TestParts:
    def test_composition_does_not_reset(self):
        """Composing metrics does not reset them."""
        metric = with_value(3)
        assert (metric + 1).compute() == 4

    def test_attach(self):
        """Only the composed metric is published, and each part is updated once per output (M-045)."""
        engine, total = Engine(lambda engine, batch: batch), Total()
        doubled, squared = 2 * total, total * total
        doubled.attach(engine, "doubled")
        (doubled + squared).attach(engine, "sum")
        assert engine.run([1, 2], max_epochs=2).metrics == {"doubled": 6, "sum": 15}
        total.attach(engine, "total")
        assert engine.run([1, 2]).metrics == {"doubled": 6, "sum": 15, "total": 3}

    def test_manual_update(self):
        """A manual update updates each part once, and manual data does not mix with an engine's (M-045)."""
        total, engine = Total(), FakeEngine()
        combined = (total + 1) * (total - 1)
        combined.update(3)
        assert combined.compute() == 8
        with pytest.raises(ValueError, match=r"data from direct calls to update.*reset"):
            combined.attach(engine, "combined")
        combined.reset()
        assert total.compute() == 0
        handle = combined.attach(engine, "combined")
        with pytest.raises(ValueError, match=r"attached.*detach this MetricsLambda before"):
            combined.update(3)
        handle.remove()
        combined.update(3)

    def test_detach(self):
        """detach() also removes the handlers of the parts (M-046)."""
        engine, total = Engine(lambda engine, batch: batch), Total()
        combined = total + 1
        combined.attach(engine, "combined")
        assert combined.is_attached(engine)
        assert engine.has_event_handler(total.iteration_completed)
        combined.detach(engine)
        assert not combined.is_attached(engine)
        assert not engine.has_event_handler(total.iteration_completed)
        assert not engine.has_event_handler(total.started)
        assert engine.run([1]).metrics == {}

    def test_shared_parts(self):
        """A shared part is updated until its last user is detached (M-046)."""
        engine, total = Engine(lambda engine, batch: batch), Total()
        first, second = total + 1, total + 2
        first.attach(engine, "first")
        handle = second.attach(engine, "second")
        total.attach(engine, "total")
        first.detach(engine)
        assert engine.run([1, 2]).metrics == {"second": 5, "total": 3}
        total.detach(engine)
        assert engine.run([1, 2]).metrics == {"second": 5}
        handle.remove()
        assert not engine.has_event_handler(total.iteration_completed)

    def test_part_with_another_usage(self):
        """A part with another usage is refused, and no handler is added (M-005)."""
        engine, first, second = Engine(lambda engine, batch: batch), Total(), Total()
        second.attach(engine, "second", BatchWise())
        with pytest.raises(ValueError, match=r"in use as BatchWise\(\)"):
            (first + second).attach(engine, "sum")
        assert not engine.has_event_handler(first.iteration_completed, Events.ITERATION_COMPLETED)
        (first + second).attach(engine, "sum", BatchWise())
        assert engine.run([1, 2]).metrics == {"second": 2, "sum": 4}

    def test_state(self):
        """A composed metric resumes from its saved state, and can be pickled (M-070)."""
        combined = (with_value(3) + with_value(4)) / 2
        state = combined.state_dict()
        fresh = (Total() + Total()) / 2
        fresh.load_state_dict(state)
        assert fresh.compute() == 3.5
        assert pickle.loads(pickle.dumps(2 - combined)).compute() == -1.5
