"""Metric: construction, attaching, updates and published values."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from glowplug import BatchFiltered, BatchWise, Engine, EpochWise, Events, Metric, Phase
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug.metrics import MetricsLambda
from glowplug.testing import FakeEngine


class Total(Metric):
    """Metric that sums all outputs."""

    required_output_keys = None
    _state_dict_all_req_keys = ("total",)

    def reset(self):
        self.total = None

    def update(self, output):
        self.total = output if self.total is None else self.total + output

    def compute(self):
        if self.total is None:
            raise NotComputableError("no output since the last reset")
        return self.total


class Seen(Metric):
    """Metric that keeps all arguments of update()."""

    def reset(self):
        self.outputs = []

    def update(self, output):
        self.outputs.append(output)

    def compute(self):
        return self.outputs


ONES = torch.ones(3)


class Constant(Metric):
    """Metric with a constant value."""

    def __init__(self, value, **kwargs):
        self.value = value
        super().__init__(**kwargs)

    def reset(self):
        pass

    def update(self, output):
        pass

    def compute(self):
        return self.value


def identity_engine():
    """Return an engine whose output is the batch."""
    return Engine(lambda engine, batch: batch)


def seen(output, **kwargs):
    """Run one iteration with an output, and return the arguments of update()."""
    engine = Engine(lambda engine, batch: output)
    Seen(**kwargs).attach(engine, "seen")
    return engine.run([0]).metrics["seen"]


class TestHandlers:
    def test_public_methods(self):
        """started(), iteration_completed() and completed() work with any engine (M-002)."""
        fake, total = FakeEngine(), Total(output_transform=lambda output: 2 * output)
        fake.state.output = 5
        total.iteration_completed(fake)
        total.completed(fake, "total")
        assert fake.state.metrics == {"total": 10}
        total.started(fake)
        assert total.total is None

    def test_update_without_gradients(self):
        """Updates with outputs that require gradients build no graph (M-002)."""
        weight = torch.ones(2, requires_grad=True)
        engine = Engine(lambda engine, batch: weight)
        engine.run([1])
        total = Total(output_transform=lambda output: output * 2)
        total.iteration_completed(engine)
        assert not total.total.requires_grad

    def test_fake_engine(self):
        """A metric works with a FakeEngine."""
        fake = FakeEngine()
        handle = Total().attach(fake, "total")
        fake.fire(Events.EPOCH_STARTED, epoch=1)
        fake.fire(Events.ITERATION_COMPLETED, output=3).fire(Events.ITERATION_COMPLETED, output=4)
        fake.fire(Events.EPOCH_COMPLETED)
        assert fake.state.metrics == {"total": 7}
        handle.remove()
        fake.fire(Events.ITERATION_COMPLETED, output=100).fire(Events.EPOCH_COMPLETED)
        assert fake.state.metrics == {"total": 7}

    def test_runs_before_user_handlers(self):
        """A handler attached before the metric sees the new value at the same event."""
        engine, values = identity_engine(), []
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: values.append(e.state.metrics["total"]))
        Total().attach(engine, "total")
        engine.run([1, 2], max_epochs=2)
        assert values == [3, 3]
        assert Total.phase is Phase.METRICS


class TestPublish:
    def test_at_completed_only(self):
        """During an epoch state.metrics has the value of the previous epoch (M-006)."""
        engine, values = identity_engine(), []
        Total().attach(engine, "total")
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: values.append(e.state.metrics.get("total"))
        )
        engine.run([1, 2], max_epochs=2)
        assert values == [None, None, 3, 3]

    @pytest.mark.parametrize(
        ("value", "expected"), [(torch.tensor(3), 3), (torch.tensor(0.5), 0.5), ("text", "text"), (7, 7)]
    )
    def test_scalar_tensors(self, value, expected):
        """A tensor without dimensions is published as a Python number (M-007)."""
        engine = identity_engine()
        Constant(value).attach(engine, "value")
        published = engine.run([0]).metrics["value"]
        assert published == expected
        assert not isinstance(published, torch.Tensor)

    def test_other_tensors(self):
        """A tensor with dimensions is published as a tensor on the CPU (M-007)."""
        engine = identity_engine()
        Constant(torch.arange(3)).attach(engine, "value")
        assert engine.run([0]).metrics["value"].tolist() == [0, 1, 2]

    @pytest.mark.parametrize(("mode", "names"), [("flatten", "ab"), ("named", "m"), ("both", "abm")])
    def test_mapping(self, mode, names):
        """metrics_result_mode selects whether keys, name or both are published, with unchanged values (M-007)."""
        engine, value = identity_engine(), {"a": 1, "b": torch.tensor(2)}
        Constant(value, metrics_result_mode=mode).attach(engine, "m")
        metrics = engine.run([0]).metrics
        assert list(metrics) == list(names)
        if "m" in names:
            assert metrics["m"] is value
        if "b" in names:
            assert metrics["b"] is value["b"]

    @pytest.mark.parametrize("mode", ["named", "both"])
    def test_name_equals_a_key(self, mode):
        """A metric with the name of one of its keys is refused (M-007)."""
        engine = identity_engine()
        Constant({"m": 1}, metrics_result_mode=mode).attach(engine, "m")
        with pytest.raises(ValueError, match="attached as 'm', which is also a key"):
            engine.run([0])

    def test_name_equals_a_key_when_flattened(self):
        """A metric in mode 'flatten' may have the name of one of its keys (M-007)."""
        engine = identity_engine()
        Constant({"m": 1}, metrics_result_mode="flatten").attach(engine, "m")
        assert engine.run([0]).metrics == {"m": 1}


class TestOutputs:
    def test_required_keys(self):
        """update() receives the required keys of a mapping as a tuple (M-008)."""
        assert seen({"y": 2, "loss": 3, "y_pred": 1}) == [(1, 2)]

    def test_missing_key(self):
        """The error about a missing key names the key and the remedy (M-008)."""
        with pytest.raises(
            ValueError,
            match=r"needs the output keys y_pred, y, but the output has only \['y', 'loss'\]; add 'y_pred'.*output_transform",
        ):
            seen({"y": 2, "loss": 3})

    def test_mapping_without_required_keys(self):
        """A metric without required keys refuses mappings and suggests output_transform (M-008)."""
        engine = Engine(lambda engine, batch: {"loss": batch})
        with (
            Total().attach(engine, "total"),
            pytest.raises(TypeError, match=r"Total does not accept mappings.*\['loss'\]"),
        ):
            engine.run([1])
        Total(output_transform=lambda output: output["loss"]).attach(engine, "total")
        assert engine.run([1, 2]).metrics == {"total": 3}

    def test_lists_of_samples(self):
        """Two lists of equal length update the metric sample by sample (M-009)."""
        first, second = torch.ones(2), torch.ones(3)
        pairs = seen(([first, second], [torch.tensor(1), 2]))
        assert [(x.shape, y.tolist()) for x, y in pairs] == [((1, 2), [1]), ((1, 3), [2])]
        assert [(x.tolist(), y.tolist()) for x, y in seen({"y_pred": (1.5,), "y": [4]})] == [([1.5], [4])]

    def test_empty_lists(self):
        """([], []) does not update the metric (M-009)."""
        assert seen(([], [])) == []

    @pytest.mark.parametrize("output", [([1, 2], [3]), ([1], [2], [3]), ([torch.ones(1)],), ()])
    def test_lists_of_different_lengths(self, output):
        """Lists of different lengths or other numbers of lists are refused with the remedy (M-009)."""
        with pytest.raises(ValueError, match=r"two lists of equal length.*skip_unrolling=True"):
            seen(output)

    @pytest.mark.parametrize(
        "output",
        [
            (ONES,) * 2,
            ((ONES, ONES), [ONES, ONES]),
            ([ONES], (ONES,)),
            (1, 2),
            "text",
            ("ab", "c"),
            ([1, "a"], [2, 3]),
            ([[1]], [[2]]),
            torch.ones(2, 2),
        ],
    )
    def test_other_outputs(self, output):
        """Outputs other than lists of tensors or numbers, such as tuples of tensors, are passed to update() unchanged (M-009)."""
        assert seen(output)[0] is output

    def test_skip_unrolling(self):
        """skip_unrolling=True passes lists to update() unchanged (M-009)."""
        assert seen(([1, 2], [3]), skip_unrolling=True) == [([1, 2], [3])]


class TestWithoutData:
    def test_name_is_removed(self):
        """In an epoch without data the name is removed, with one warning that gives the reason (M-010)."""
        engine = identity_engine()
        Total().attach(engine, "total", BatchFiltered(event_filter=lambda engine, i: engine.state.epoch == 1))
        names = []
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: names.append(list(e.state.metrics)))
        with pytest.warns(
            GlowplugWarning, match=r"'total' \(Total\) has no value .* no output since"
        ) as caught:
            engine.run([1, 2], max_epochs=3)
        assert names == [["total"], [], []]
        assert len(caught) == 1

    def test_flattened_names_are_removed(self):
        """In an epoch without data the flattened names of a mapping are removed as well (M-010)."""

        class Pair(Total):
            def compute(self):
                return {"sum": super().compute(), "half": super().compute() / 2}

        engine = identity_engine()
        usage = BatchFiltered(event_filter=lambda engine, i: engine.state.epoch == 1)
        Pair(metrics_result_mode="flatten").attach(engine, "pair", usage)
        engine.state.metrics["kept"] = 0
        with pytest.warns(GlowplugWarning, match="pair"):
            assert engine.run([1], max_epochs=2).metrics == {}

    def test_compute_raises(self):
        """compute() without data raises an error (M-010)."""
        with pytest.raises(NotComputableError):
            Total().compute()

    def test_other_errors_end_the_run(self):
        """Other errors of compute() end the run (M-010)."""

        class Broken(Total):
            def compute(self):
                raise RuntimeError("broken")

        engine = identity_engine()
        Broken().attach(engine, "broken")
        with pytest.raises(RuntimeError, match="broken"):
            engine.run([1])

    def test_terminated_epoch(self):
        """A terminated epoch publishes no value (M-011)."""
        engine = identity_engine()
        Total().attach(engine, "total")
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate())
        assert engine.run([1, 2]).metrics == {}


class TestConstruction:
    def test_resets_and_is_abstract(self):
        """The constructor resets the metric, and a class without the three methods is abstract (M-001)."""
        assert Total().total is None
        with pytest.raises(TypeError, match="abstract"):
            Metric()

    def test_arguments_are_checked(self):
        """Errors about invalid arguments name the argument (M-001)."""
        with pytest.raises(ValueError, match="'flatten', 'named' or 'both', got 'nested'"):
            Total(metrics_result_mode="nested")
        with pytest.raises(TypeError, match="got 3"):
            Total(output_transform=3)

    def test_accumulators_are_64_bits_wide(self):
        """Accumulators have 64 bits, and 32 on MPS (M-001)."""
        assert Total()._double_dtype is torch.float64
        assert Total(device="mps")._double_dtype is torch.float32
        assert Total(device="meta").device == torch.device("meta")

    def test_pickle_and_copy(self):
        """A copy keeps the data and is attached to no engine (M-012)."""
        engine, total = identity_engine(), Total()
        total.attach(engine, "total")
        engine.run([1, 2])
        for other in (pickle.loads(pickle.dumps(total)), copy.deepcopy(total)):
            assert other.compute() == 3
            assert not other.is_attached(engine)
            other.update(10)
            other.attach(identity_engine(), "total", BatchWise())
        assert total.compute() == 3

    def test_unknown_attribute(self):
        """hasattr() is False for an unknown attribute, and its error suggests map() (M-043)."""
        total = Total()
        assert not hasattr(total, "transpose")
        with pytest.raises(
            AttributeError,
            match=r"Total has no attribute 'transpose'.*metric.map\(lambda value: value.transpose\)",
        ):
            total.transpose()


class TestAttach:
    def test_detach_by_usage(self):
        """detach() and is_attached() find the metric by the usage given to attach() (M-003)."""
        engine, total = identity_engine(), Total()
        total.attach(engine, "total", BatchWise())
        assert not total.is_attached(engine)
        assert total.is_attached(engine, "batch_wise")
        total.detach(engine)
        assert total.is_attached(engine, BatchWise())
        total.detach(engine, "batch_wise")
        assert not total.is_attached(engine, BatchWise())
        assert engine.run([1]).metrics == {}

    def test_usages_with_different_filters(self):
        """BatchFiltered usages are equal only if their filters are (M-003)."""
        engine, total = identity_engine(), Total()
        total.attach(engine, "total", BatchFiltered(every=2))
        assert total.is_attached(engine, BatchFiltered(every=2))
        assert not total.is_attached(engine, BatchFiltered(every=3))
        assert not total.is_attached(identity_engine(), BatchFiltered(every=2))

    def test_two_names(self):
        """Under two names each output is counted once, and both names get the value (M-004)."""
        engine, total = identity_engine(), Total()
        first = total.attach(engine, "first")
        total.attach(engine, "second")
        assert engine.run([1, 2]).metrics == {"first": 3, "second": 3}
        first.remove()
        first.remove()
        assert engine.run([1, 2]).metrics == {"second": 3}
        total.detach(engine)
        assert engine.run([1, 2]).metrics == {}
        assert not engine.has_event_handler(total.iteration_completed)

    def test_values_remain_after_detach(self):
        """Published values remain after detach() (M-004)."""
        engine, total = identity_engine(), Total()
        total.attach(engine, "total")
        engine.run([1, 2])
        total.detach(engine)
        assert engine.state.metrics == {"total": 3}

    def test_second_usage_is_refused(self):
        """A metric with a second usage is refused, and the message names the remedy (M-005)."""
        engine, total = identity_engine(), Total()
        total.attach(engine, "total")
        with pytest.raises(
            ValueError, match=r"Total is already in use as EpochWise\(\).*BatchWise\(\).*copy.deepcopy"
        ):
            total.attach(engine, "batch", BatchWise())
        with pytest.raises(ValueError, match="Total is already in use"):
            total.attach(identity_engine(), "batch", BatchWise())
        assert engine.run([1, 2]).metrics == {"total": 3}
        copy.deepcopy(total).attach(engine, "batch", BatchWise())
        assert engine.run([1, 2]).metrics == {"total": 3, "batch": 2}
        total.detach(engine)
        total.attach(engine, "again", BatchWise())

    def test_several_engines(self):
        """One metric with one usage can be attached to several engines (M-005)."""
        total = Total()
        engines = [identity_engine(), identity_engine()]
        for engine in engines:
            total.attach(engine, "total")
        assert [engine.run([1, number]).metrics["total"] for number, engine in enumerate(engines)] == [1, 2]

    def test_attach_keeps_no_engine_alive(self):
        """A metric does not keep the engines alive to which it was attached."""
        total, engine = Total(), identity_engine()
        handle = total.attach(engine, "total")
        engine.run([1])
        gone = weakref.ref(engine)
        del engine
        gc.collect()
        assert gone() is None
        handle.remove()
        total.attach(identity_engine(), "total", BatchWise())

    def test_failed_attach(self):
        """A failed attach() adds no handler."""
        engine, total = identity_engine(), Total()
        with pytest.raises(ValueError, match=r"usage must be one of epoch_wise.*, got 'weekly'"):
            total.attach(engine, "total", "weekly")
        assert not engine.has_event_handler(total.iteration_completed)
        total.attach(engine, "total", EpochWise())
        assert engine.run([1]).metrics == {"total": 1}


class TestAsyncFunctions:
    @pytest.mark.parametrize("method", ["reset", "update", "compute"])
    def test_async_method(self, method):
        """A metric with an async method is refused when it is created, since nothing would run the coroutine."""

        async def deferred(self, *_):
            raise AssertionError("never runs")

        deferred.__name__ = method
        cls = type("Deferred", (Total,), {method: deferred})
        with pytest.raises(TypeError, match=rf"Deferred\.{method} is an async"):
            cls()

    def test_value_that_is_a_coroutine(self):
        """A coroutine is not published as the value of a metric."""

        async def double(value):
            return 2 * value

        engine = Engine(lambda engine, batch: batch)
        MetricsLambda(double, Total()).attach(engine, "doubled")
        with pytest.raises(TypeError, match=r"MetricsLambda\.compute returned a coroutine"):
            engine.run([1.0, 2.0])
        assert "doubled" not in engine.state.metrics
