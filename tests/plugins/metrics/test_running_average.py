"""RunningAverage of outputs and of metrics."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings, strategies as st

from glowplug import BatchWise, Engine, EpochWise, Events, RunningBatchWise, RunningEpochWise
from glowplug.exceptions import GlowplugWarning, NotComputableError
from glowplug_metrics import Accuracy, Average, RunningAverage, VariableAccumulation
from glowplug_metrics.running_average import moved_average


def reference(values, alpha):
    """Return the expected average after each value."""
    averages = []
    for x in values:
        averages.append(x if not averages else alpha * averages[-1] + (1 - alpha) * x)
    return averages


def published(metric, outputs, usage=None, event=Events.ITERATION_COMPLETED, **run):
    """Return the value in state.metrics after each firing of the event."""
    engine, values = Engine(lambda engine, batch: batch), []
    metric.attach(engine, "average", usage)
    engine.add_event_handler(event, lambda e: values.append(e.state.metrics["average"]))
    engine.run(outputs, **run)
    return values


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=20),
    st.floats(0.01, 1.0),
    st.booleans(),
)
def test_recurrence(values, alpha, as_tensors):
    """The average of numbers or tensors follows the recurrence, starting with the first value (M-080)."""
    outputs = [torch.tensor(x) for x in values] if as_tensors else values
    got = published(RunningAverage(alpha=alpha, output_transform=lambda x: x), outputs)
    assert all(isinstance(x, float) for x in got)
    for x, expected in zip(got, reference(values, alpha), strict=True):
        assert math.isclose(x, expected, rel_tol=1e-9, abs_tol=1e-9)


def test_default_usage_resets_at_each_run():
    """The default usage resets at STARTED only (M-080)."""
    average = RunningAverage(alpha=0.5, output_transform=lambda x: x)
    assert published(average, [4.0, 2.0], max_epochs=2) == [4.0, 3.0, 3.5, 2.75]
    engine = Engine(lambda engine, batch: batch)
    average.attach(engine, "average")
    assert average.is_attached(engine)
    assert average.is_attached(engine, RunningBatchWise())
    assert engine.run([4.0, 2.0]).metrics == engine.run([4.0, 2.0]).metrics == {"average": 3.0}
    average.detach(engine)
    assert not average.is_attached(engine)


@pytest.mark.parametrize(
    ("epoch_bound", "expected"), [(True, [4.0, 3.0] * 2), (False, [4.0, 3.0, 3.5, 2.75])]
)
def test_epoch_bound(epoch_bound, expected):
    """The deprecated epoch_bound works and warns with its replacement (M-080)."""
    with pytest.warns(GlowplugWarning, match=r"usage=SingleEpochRunningBatchWise\(\)"):
        average = RunningAverage(None, 0.5, lambda x: x, epoch_bound)
    assert published(average, [4.0, 2.0], max_epochs=2) == expected


def test_source_without_state():
    """An average of a metric without state is omitted from the engine's state (M-071)."""

    class Plain(Average):
        _state_dict_all_req_keys = ()

    engine = Engine(lambda engine, batch: batch)
    RunningAverage(Plain()).attach(engine, "average")
    engine.run([1.0])
    assert "handlers" not in engine.state_dict()


def test_source_metric():
    """The value of each batch is averaged, and the source is reset in between (M-080)."""
    batches = [
        (torch.tensor([1, 1]), torch.tensor([1, 1])),
        (torch.tensor([1, 1]), torch.tensor([1, 0])),
        (torch.tensor([1]), torch.tensor([0])),
    ]
    assert published(RunningAverage(Accuracy(), alpha=0.5), batches) == [1.0, 0.75, 0.375]


def test_source_with_output_transform():
    """The source's output_transform and unrolling apply to the engine's output (M-080)."""
    source = Average(output_transform=lambda output: output["loss"])
    assert published(RunningAverage(source, alpha=0.5), [{"loss": 4.0}, {"loss": 2.0}]) == [4.0, 3.0]


def test_source_over_epochs():
    """With an epoch usage the average is updated once per epoch (M-080)."""
    got = published(
        RunningAverage(Average(), alpha=0.5),
        [1.0, 3.0],
        RunningEpochWise(),
        Events.EPOCH_COMPLETED,
        max_epochs=2,
    )
    assert got == [2.0, 2.0]
    outputs = iter([1.0, 3.0, 5.0, 7.0])
    got = published(
        RunningAverage(Average(output_transform=lambda _: next(outputs)), alpha=0.5),
        [0, 0],
        RunningEpochWise(),
        Events.EPOCH_COMPLETED,
        max_epochs=2,
    )
    assert got == [2.0, 4.0]


def test_source_of_arithmetic():
    """Arithmetic on metrics can be averaged (M-080)."""
    assert published(RunningAverage(2 * Average() + 1, alpha=0.5), [4.0, 2.0]) == [9.0, 7.0]


def test_without_engine():
    """update() and compute() work without an engine, with and without src."""
    average = RunningAverage(Average(), alpha=0.5)
    average.update(4.0)
    average.update(2.0)
    assert average.compute() == 3.0
    average.reset()
    with pytest.raises(NotComputableError, match="RunningAverage has received no values"):
        average.compute()


def test_rows_and_first_integers():
    """The rows of a tensor are averaged elementwise, and integers become floats (M-080)."""
    average = RunningAverage(alpha=0.98, output_transform=lambda x: x)
    average.update(torch.tensor([[1.0, 2.0]]))
    average.update(torch.tensor([[2.0, 3.0], [2.0, 1.0]]))
    assert average.compute().tolist() == pytest.approx([1.02, 2.0], rel=1e-12)
    average.reset()
    average.update(3)
    assert isinstance(average.compute(), float)


def test_published_values_do_not_change():
    """Later iterations change neither a published tensor nor the output."""
    outputs = [torch.tensor([[x]], dtype=torch.float64) for x in (4.0, 2.0)]
    got = published(RunningAverage(alpha=0.5, output_transform=lambda x: x), outputs)
    assert [x.item() for x in got] == [4.0, 3.0]
    assert [x.item() for x in outputs] == [4.0, 2.0]


def test_accelerator_tensors_are_published_unread():
    """A tensor on an accelerator is published without reading its value."""
    average = RunningAverage(output_transform=lambda x: x)
    output = torch.tensor(1.0, device="meta")  # a device whose values cannot be read
    assert published(average, [output, output])[-1].device.type == "meta"


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((4, 1), [2.5, 1.75]), ((4, 2), [2.5, 2.0]), ((1, 4), [1.0, 1.75]), ((4, 0), [2.5, 2.5])],
)
@pytest.mark.parametrize("is_source", [False, True], ids=["output", "src"])
def test_batches_of_any_size(sizes, expected, is_source):
    """The value of a vector is its mean, whatever the sizes of the batches; an empty batch changes nothing (M-080)."""
    batches = [torch.arange(1.0, n + 1) for n in sizes]
    average = RunningAverage(Average() if is_source else None, 0.5, None if is_source else lambda x: x)
    assert published(average, batches) == expected


def test_changed_shape():
    """Values of another shape are refused with both shapes instead of being broadcast (M-080)."""
    average = RunningAverage(output_transform=lambda x: x)
    average.update(torch.ones(2, 3))
    for other in (torch.ones(2, 1), torch.ones(2), 1.0):
        with pytest.raises(ValueError, match=r"changed from \(3,\) to \((1,)?\).*output_transform or src"):
            average.update(other)
    sizes = VariableAccumulation(lambda total, x: x)
    of_source = RunningAverage(src=sizes.map(lambda value: value[0]), alpha=0.5)
    of_source.update(torch.ones(4))
    with pytest.raises(ValueError, match=r"changed from \(4,\) to \(1,\)"):
        of_source.update(torch.ones(1))


class TestNotFinite:
    """A value that is infinite or NaN."""

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("convert", [float, torch.tensor, lambda x: torch.tensor([x, 1.0])])
    def test_average_continues(self, value, convert):
        """It changes nothing, and the first one is reported with its value (M-080)."""
        average = RunningAverage(alpha=0.5, output_transform=convert)
        with pytest.warns(
            GlowplugWarning, match="not finite .*(nan|inf).*such values do not change a finite average"
        ) as caught:
            got = published(average, [4.0, value, value, 2.0])
        assert len(caught) == 1
        first = published(RunningAverage(alpha=0.5, output_transform=convert), [4.0, 2.0])
        assert got == [first[0]] * 3 + [first[1]]

    @pytest.mark.parametrize("convert", [float, torch.tensor, lambda x: torch.tensor([x, 1.0])])
    def test_first_value(self, convert):
        """As the first value it is published, and the first finite value replaces it (M-080)."""
        average = RunningAverage(alpha=0.5, output_transform=convert)
        with pytest.warns(GlowplugWarning, match="not finite"):
            got = published(average, [math.nan, 4.0, 2.0])
        assert math.isnan(got[0])
        assert got[1:] == published(RunningAverage(alpha=0.5, output_transform=convert), [4.0, 2.0])

    def test_elements_and_sources(self):
        """Each element of a tensor and the value of a metric are treated in the same way (M-080)."""
        average = RunningAverage(Average(), alpha=0.5)
        with pytest.warns(GlowplugWarning, match="not finite"):
            got = published(average, [torch.tensor([[4.0, 4.0]]), torch.tensor([[math.nan, 2.0]])])
        assert got[-1].tolist() == [4.0, 3.0]

    def test_on_an_accelerator(self):
        """On an accelerator the value is not read, so there is no warning (M-080)."""
        average = RunningAverage(output_transform=lambda x: x)
        average.update(torch.ones(4, device="meta"))
        average.update(torch.full((2,), math.nan, device="meta"))
        assert average.compute().shape == ()

    def test_each_run_warns(self):
        """Each run reports its first such value (M-080)."""
        engine = Engine(lambda engine, batch: batch)
        RunningAverage(alpha=0.5, output_transform=lambda x: x).attach(engine, "average")
        for _ in range(2):
            with pytest.warns(GlowplugWarning, match="not finite"):
                engine.run([1.0, math.nan])


def test_no_gradients_are_kept():
    """The average has no gradients."""
    average = RunningAverage(output_transform=lambda x: x)
    average.update(torch.ones((), requires_grad=True) * 2)
    average.update(torch.ones((), requires_grad=True) * 2)
    assert not average.compute().requires_grad


def test_source_cannot_be_attached_separately():
    """A source that is attached separately or averaged twice is refused (M-005)."""
    engine, accuracy = Engine(lambda engine, batch: batch), Accuracy()
    accuracy.attach(engine, "accuracy", RunningBatchWise())
    with pytest.raises(
        ValueError, match=r"Accuracy is already in use as RunningBatchWise.*source of a RunningAverage"
    ):
        RunningAverage(accuracy).attach(engine, "average")
    accuracy.detach(engine, RunningBatchWise())
    average = RunningAverage(accuracy)
    average.attach(engine, "average")
    average.attach(engine, "second name")
    for other in (RunningAverage(accuracy), accuracy):
        with pytest.raises(ValueError, match="in use as the source of a RunningAverage"):
            other.attach(engine, "other")
    average.detach(engine)
    assert not engine.has_event_handler(accuracy.iteration_completed)
    accuracy.attach(engine, "accuracy", EpochWise())


def test_other_usages():
    """With BatchWise each value is the average of one batch."""
    average = RunningAverage(alpha=0.5, output_transform=lambda x: x)
    assert published(average, [4.0, 2.0], BatchWise()) == [4.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "RunningAverage needs either src"),
        ({"src": Average(), "output_transform": abs}, ValueError, "needs either"),
        ({"src": Average(), "device": "cpu"}, ValueError, "device='cpu' cannot be combined with src"),
        ({"src": abs}, TypeError, "src must be a metric, got <built-in function abs>"),
        ({"output_transform": abs, "alpha": 0}, ValueError, "above 0 and at most 1, got 0"),
        ({"output_transform": abs, "alpha": 1.5}, ValueError, "got 1.5"),
        ({"output_transform": abs, "alpha": float("nan")}, ValueError, "got nan"),
    ],
)
def test_invalid_arguments(arguments, error, message):
    """Invalid arguments are refused with their values (M-080)."""
    with pytest.raises(error, match=message):
        RunningAverage(**arguments)


def test_invalid_outputs():
    """Mappings and strings are refused by type (M-080)."""
    average = RunningAverage(output_transform=lambda x: x)
    with pytest.raises(TypeError, match="RunningAverage accepts numbers and tensors, got dict"):
        average.update({"loss": 1})
    with pytest.raises(TypeError, match="does not accept mappings"):
        published(average, [{"loss": 1}])


def test_moved_average():
    """moved_average() computes one step of the recurrence."""
    assert moved_average(None, 3, 0.5) == 3.0
    assert moved_average(1.0, torch.tensor(2.0), 0.75) == 1.25
    assert moved_average(torch.tensor(1.0), 2.0, 0.75) == 1.25


def test_state_and_pickle():
    """Saved, loaded and copied averages continue with the data of their source."""
    average, fresh = (RunningAverage(Average(), alpha=0.5) for _ in range(2))
    average.update(4.0)
    fresh.load_state_dict(average.state_dict())
    for other in (fresh, pickle.loads(pickle.dumps(average))):
        other.update(2.0)
        assert other.compute() == 3.0


def test_two_ranks(run_ranks):
    """Over two ranks the average of numbers, tensors and metrics is the mean of both (M-080)."""

    def check(rank):
        import torch

        from glowplug import Engine
        from glowplug_metrics import Accuracy, RunningAverage

        engine = Engine(lambda engine, batch: batch)
        RunningAverage(alpha=0.5, output_transform=lambda out: out[2]).attach(engine, "number")
        RunningAverage(alpha=0.5, output_transform=lambda out: torch.tensor(out[2])).attach(engine, "tensor")
        RunningAverage(Accuracy(output_transform=lambda out: out[:2]), alpha=0.5).attach(engine, "accuracy")
        zero, one = torch.tensor([0]), torch.tensor([1])
        batches = [(one, one, 4.0 + rank), (zero, one if rank else zero, 2.0 + rank)]
        return engine.run(batches).metrics

    results = run_ranks(check)
    assert results == [{"number": 3.5, "tensor": 3.5, "accuracy": 0.75}] * 2
