"""Metric: attaching, updating, publishing."""

import copy
import gc
import pickle
import weakref

import pytest
import torch

from glowplug import BatchFiltered, BatchWise, Engine, EpochWise, Events, Metric, Phase
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug.testing import FakeEngine


class Total(Metric):
    """The sum of all outputs."""

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
    """All that update() was given."""

    def reset(self):
        self.outputs = []

    def update(self, output):
        self.outputs.append(output)

    def compute(self):
        return self.outputs


class Constant(Metric):
    """Always one value."""

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
    """Run one iteration with that output, and return what update() got."""
    engine = Engine(lambda engine, batch: output)
    Seen(**kwargs).attach(engine, "seen")
    return engine.run([0]).metrics["seen"]


def test_constructor_resets_and_is_abstract():
    """A new metric is ready for use, and a class without its three methods cannot be made (M-001)."""
    assert Total().total is None
    with pytest.raises(TypeError, match="abstract"):
        Metric()


def test_arguments_are_checked():
    """Wrong arguments are named in the error (M-001)."""
    with pytest.raises(ValueError, match="'flatten', 'named' or 'both', got 'nested'"):
        Total(metrics_result_mode="nested")
    with pytest.raises(TypeError, match="got 3"):
        Total(output_transform=3)


def test_accumulators_are_wide_where_the_device_allows():
    """Sums have 64 bits, and 32 on MPS, which has no more (M-001)."""
    assert Total()._double_dtype is torch.float64
    assert Total(device="mps")._double_dtype is torch.float32
    assert Total(device="meta").device == torch.device("meta")


def test_handlers_are_public_methods():
    """started, iteration_completed and completed do the work, with any engine (M-002)."""
    fake, total = FakeEngine(), Total(output_transform=lambda output: 2 * output)
    fake.state.output = 5
    total.iteration_completed(fake)
    total.completed(fake, "total")
    assert fake.state.metrics == {"total": 10}
    total.started(fake)
    assert total.total is None


def test_updates_run_without_gradients():
    """Outputs that need gradients build no graph in the metric (M-002)."""
    weight = torch.ones(2, requires_grad=True)
    engine = Engine(lambda engine, batch: weight)
    engine.run([1])
    total = Total(output_transform=lambda output: output * 2)
    total.iteration_completed(engine)
    assert not total.total.requires_grad


def test_attach_works_on_a_fake_engine():
    """A metric needs nothing of an engine but the protocol."""
    fake = FakeEngine()
    handle = Total().attach(fake, "total")
    fake.fire(Events.EPOCH_STARTED, epoch=1)
    fake.fire(Events.ITERATION_COMPLETED, output=3).fire(Events.ITERATION_COMPLETED, output=4)
    fake.fire(Events.EPOCH_COMPLETED)
    assert fake.state.metrics == {"total": 7}
    handle.remove()
    fake.fire(Events.ITERATION_COMPLETED, output=100).fire(Events.EPOCH_COMPLETED)
    assert fake.state.metrics == {"total": 7}


def test_metrics_come_before_handlers_attached_earlier():
    """A user's handler at the same event sees the new value though it was added first."""
    engine, values = identity_engine(), []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: values.append(e.state.metrics["total"]))
    Total().attach(engine, "total")
    engine.run([1, 2], max_epochs=2)
    assert values == [3, 3]
    assert Total.phase is Phase.METRICS


def test_detach_and_is_attached_go_by_usage():
    """The usage given to attach is the one that finds the metric again (M-003)."""
    engine, total = identity_engine(), Total()
    total.attach(engine, "total", BatchWise())
    assert not total.is_attached(engine)
    assert total.is_attached(engine, "batch_wise")
    total.detach(engine)
    assert total.is_attached(engine, BatchWise())
    total.detach(engine, "batch_wise")
    assert not total.is_attached(engine, BatchWise())
    assert engine.run([1]).metrics == {}


def test_filters_tell_usages_apart():
    """BatchFiltered(every=2) is found by an equal one, not by one with another filter (M-003)."""
    engine, total = identity_engine(), Total()
    total.attach(engine, "total", BatchFiltered(every=2))
    assert total.is_attached(engine, BatchFiltered(every=2))
    assert not total.is_attached(engine, BatchFiltered(every=3))
    assert not total.is_attached(identity_engine(), BatchFiltered(every=2))


def test_two_names_share_the_updates():
    """Under two names each output counts once, and both names get the value (M-004)."""
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


def test_values_stay_after_detach():
    """What was published before detach() is kept (M-004)."""
    engine, total = identity_engine(), Total()
    total.attach(engine, "total")
    engine.run([1, 2])
    total.detach(engine)
    assert engine.state.metrics == {"total": 3}


def test_one_object_has_one_usage():
    """A second usage, whose resets would destroy the first one's value, is refused with what to do (M-005)."""
    engine, total = identity_engine(), Total()
    total.attach(engine, "total")
    with pytest.raises(ValueError, match=r"Total is in use as EpochWise\(\).*BatchWise\(\).*copy.deepcopy"):
        total.attach(engine, "batch", BatchWise())
    with pytest.raises(ValueError, match="Total is in use"):
        total.attach(identity_engine(), "batch", BatchWise())
    assert engine.run([1, 2]).metrics == {"total": 3}
    copy.deepcopy(total).attach(engine, "batch", BatchWise())
    assert engine.run([1, 2]).metrics == {"total": 3, "batch": 2}
    total.detach(engine)
    total.attach(engine, "again", BatchWise())


def test_a_usage_may_serve_several_engines():
    """One object at two engines is fine with one usage: the engines run one after the other (M-005)."""
    total = Total()
    engines = [identity_engine(), identity_engine()]
    for engine in engines:
        total.attach(engine, "total")
    assert [engine.run([1, number]).metrics["total"] for number, engine in enumerate(engines)] == [1, 2]


def test_values_appear_at_completed_only():
    """During an epoch the value of the last one is there (M-006)."""
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
def test_scalars_become_numbers(value, expected):
    """A tensor without dimensions is published as a Python number (M-007)."""
    engine = identity_engine()
    Constant(value).attach(engine, "value")
    published = engine.run([0]).metrics["value"]
    assert published == expected
    assert not isinstance(published, torch.Tensor)


def test_tensors_stay_tensors():
    """A tensor with dimensions comes as it is, on the CPU (M-007)."""
    engine = identity_engine()
    Constant(torch.arange(3)).attach(engine, "value")
    assert engine.run([0]).metrics["value"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(("mode", "names"), [("flatten", "ab"), ("named", "m"), ("both", "abm")])
def test_mappings_by_mode(mode, names):
    """metrics_result_mode says whether the keys, the name or both are published; values in it stay as they are (M-007)."""
    engine, value = identity_engine(), {"a": 1, "b": torch.tensor(2)}
    Constant(value, metrics_result_mode=mode).attach(engine, "m")
    metrics = engine.run([0]).metrics
    assert list(metrics) == list(names)
    if "m" in names:
        assert metrics["m"] is value
    if "b" in names:
        assert metrics["b"] is value["b"]


@pytest.mark.parametrize("mode", ["named", "both"])
def test_name_among_the_keys(mode):
    """A metric named like one of its value's keys is refused, since one would hide the other (M-007)."""
    engine = identity_engine()
    Constant({"m": 1}, metrics_result_mode=mode).attach(engine, "m")
    with pytest.raises(ValueError, match="attached as 'm', which is also a key"):
        engine.run([0])


def test_name_among_the_keys_is_fine_when_flat():
    """With 'flatten' the name is not used at all (M-007)."""
    engine = identity_engine()
    Constant({"m": 1}, metrics_result_mode="flatten").attach(engine, "m")
    assert engine.run([0]).metrics == {"m": 1}


def test_mappings_are_reduced_to_the_required_keys():
    """update() gets a tuple of y_pred and y, whatever else the output has, in whatever order (M-008)."""
    assert seen({"y": 2, "loss": 3, "y_pred": 1}) == [(1, 2)]


def test_missing_keys():
    """A missing key is named, and what to do (M-008)."""
    with pytest.raises(
        ValueError,
        match=r"needs the keys y_pred, y .* has \['y', 'loss'\]: y_pred is missing.*output_transform",
    ):
        seen({"y": 2, "loss": 3})


def test_metrics_without_required_keys_take_no_mappings():
    """required_output_keys = None refuses mappings, and an output_transform helps (M-008)."""
    engine = Engine(lambda engine, batch: {"loss": batch})
    with (
        Total().attach(engine, "total"),
        pytest.raises(TypeError, match=r"Total takes no mappings.*\['loss'\]"),
    ):
        engine.run([1])
    Total(output_transform=lambda output: output["loss"]).attach(engine, "total")
    assert engine.run([1, 2]).metrics == {"total": 3}


def test_lists_are_taken_sample_by_sample():
    """Two lists of equal length are updates with batches of one (M-009)."""
    first, second = torch.ones(2), torch.ones(3)
    pairs = seen(([first, second], [torch.tensor(1), 2]))
    assert [(x.shape, y.tolist()) for x, y in pairs] == [((1, 2), [1]), ((1, 3), [2])]
    assert [(x.tolist(), y.tolist()) for x, y in seen({"y_pred": (1.5,), "y": [4]})] == [([1.5], [4])]


def test_empty_lists_are_no_update():
    """([], []) is a batch without samples (M-009)."""
    assert seen(([], [])) == []


@pytest.mark.parametrize("output", [([1, 2], [3]), ([1], [2], [3]), ([torch.ones(1)],), ()])
def test_lists_that_do_not_pair_up(output):
    """Lists of other numbers or lengths are refused with what to do (M-009)."""
    with pytest.raises(ValueError, match=r"two lists of equal length.*skip_unrolling=True"):
        seen(output)


@pytest.mark.parametrize(
    "output", [(1, 2), "text", ("ab", "c"), ([1, "a"], [2, 3]), ([[1]], [[2]]), torch.ones(2, 2)]
)
def test_other_outputs_are_passed_on(output):
    """Only lists of lists of tensors or numbers are taken apart (M-009)."""
    assert seen(output)[0] is output


def test_skip_unrolling():
    """skip_unrolling=True gives lists to update() as they are (M-009)."""
    assert seen(([1, 2], [3]), skip_unrolling=True) == [([1, 2], [3])]


def test_an_epoch_without_data_has_no_value():
    """The run goes on, the name is missing rather than stale, and one warning names the metric and the reason (M-010)."""
    engine = identity_engine()
    Total().attach(engine, "total", BatchFiltered(event_filter=lambda engine, i: engine.state.epoch == 1))
    names = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: names.append(list(e.state.metrics)))
    with pytest.warns(GlowplugWarning, match=r"'total' \(Total\) has no value .* no output since") as caught:
        engine.run([1, 2], max_epochs=3)
    assert names == [["total"], [], []]
    assert len(caught) == 1


def test_flattened_names_go_too():
    """The keys that a mapping was published under disappear with its value (M-010)."""

    class Pair(Total):
        def compute(self):
            return {"sum": super().compute(), "half": super().compute() / 2}

    engine = identity_engine()
    usage = BatchFiltered(event_filter=lambda engine, i: engine.state.epoch == 1)
    Pair(metrics_result_mode="flatten").attach(engine, "pair", usage)
    engine.state.metrics["kept"] = 0
    with pytest.warns(GlowplugWarning, match="pair"):
        assert engine.run([1], max_epochs=2).metrics == {}


def test_by_hand_it_is_an_error():
    """compute() without data raises, where the caller can handle it (M-010)."""
    with pytest.raises(NotComputableError):
        Total().compute()


def test_other_errors_of_compute_end_the_run():
    """Only the lack of data is forgiven (M-010)."""

    class Broken(Total):
        def compute(self):
            raise RuntimeError("broken")

    engine = identity_engine()
    Broken().attach(engine, "broken")
    with pytest.raises(RuntimeError, match="broken"):
        engine.run([1])


def test_terminated_epochs_have_no_value():
    """terminate() in mid-epoch fires no EPOCH_COMPLETED, so there is no epoch-wise value (M-011)."""
    engine = identity_engine()
    Total().attach(engine, "total")
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: e.terminate())
    assert engine.run([1, 2]).metrics == {}


def test_metrics_can_be_pickled_and_copied():
    """A copy has the data, and belongs to no engine (M-012)."""
    engine, total = identity_engine(), Total()
    total.attach(engine, "total")
    engine.run([1, 2])
    for other in (pickle.loads(pickle.dumps(total)), copy.deepcopy(total)):
        assert other.compute() == 3
        assert not other.is_attached(engine)
        other.update(10)
        other.attach(identity_engine(), "total", BatchWise())
    assert total.compute() == 3


def test_unknown_attributes_are_errors():
    """A question with hasattr is answered truly, and the error says how to apply a function to the value (M-043)."""
    total = Total()
    assert not hasattr(total, "transpose")
    with pytest.raises(
        AttributeError,
        match=r"Total has no attribute 'transpose'.*metric.map\(lambda value: value.transpose\)",
    ):
        total.transpose()


def test_attaching_keeps_no_engine_alive():
    """A metric at module level does not hold the engines that it was attached to."""
    total, engine = Total(), identity_engine()
    handle = total.attach(engine, "total")
    engine.run([1])
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    handle.remove()
    total.attach(identity_engine(), "total", BatchWise())


def test_failed_attach_leaves_nothing_behind():
    """An attach that cannot be done adds no handler."""
    engine, total = identity_engine(), Total()
    with pytest.raises(ValueError, match="usage must be one of epoch_wise.*, got 'weekly'"):
        total.attach(engine, "total", "weekly")
    assert not engine.has_event_handler(total.iteration_completed)
    total.attach(engine, "total", EpochWise())
    assert engine.run([1]).metrics == {"total": 1}
