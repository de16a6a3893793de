"""Exact resume beyond weights and batches: outputs, metrics, persistent workers, and generators of a dataset (C4)."""

import io
import random
import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning


def through_a_file(state):
    """Return a state as torch.load(weights_only=True) returns it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def saved_at(engine, event, data, **limits):
    """Run an engine, and return the state at an event."""
    states = []
    with engine.add_event_handler(event, lambda e: states.append(through_a_file(e.state_dict()))):
        engine.run(data, **limits)
    return states[0]


class Unsized:
    """Batches without a length."""

    def __iter__(self):
        return iter([1.0, 2.0, 3.0])


class TestOutputAndMetrics:
    @pytest.mark.parametrize("make_data", [lambda: [1.0, 2.0, 3.0], Unsized], ids=["sized", "unsized"])
    def test_last_iteration_of_an_epoch(self, make_data):
        """A state saved in the last iteration of an epoch resumes with the output and the metrics of that iteration (C4)."""

        def make():
            engine, seen = Engine(lambda engine, batch: torch.tensor(batch)), []

            @engine.on(Events.ITERATION_COMPLETED)
            def measure(engine):
                engine.state.metrics["running"] = float(engine.state.output) + engine.state.iteration

            @engine.on(Events.EPOCH_COMPLETED)
            def log(engine):
                seen.append((engine.state.epoch, float(engine.state.output), dict(engine.state.metrics)))

            return engine, seen

        whole, expected = make()
        whole.run(make_data(), max_epochs=3)
        for epoch in (1, 2, 3):
            engine, _ = make()
            state = saved_at(engine, Events.ITERATION_COMPLETED(once=3 * epoch), make_data(), max_epochs=3)
            resumed, seen = make()
            resumed.load_state_dict(state)
            resumed.run(make_data())
            assert seen == expected[epoch - 1 :]

    def test_metrics_of_the_last_epoch(self):
        """Metrics that were computed before the save can be read before the next computation (C4)."""
        engine = Engine(lambda engine, batch: batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(accuracy=0.5))
        state = saved_at(engine, Events.ITERATION_COMPLETED(once=5), [1, 2, 3], max_epochs=3)
        resumed, seen = Engine(lambda engine, batch: batch), []
        resumed.add_event_handler(Events.ITERATION_STARTED, lambda e: seen.append(dict(e.state.metrics)))
        resumed.load_state_dict(state)
        resumed.run([1, 2, 3])
        assert seen[0] == {"accuracy": 0.5}

    def test_new_run(self):
        """A new run after loading starts without the loaded output and metrics."""
        engine = Engine(lambda engine, batch: batch)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(accuracy=0.5))
        engine.run([1.0])
        other, seen = Engine(lambda engine, batch: batch), []
        other.load_state_dict(through_a_file(engine.state_dict()))
        assert (other.state.output, other.state.metrics) == (1.0, {"accuracy": 0.5})
        other.add_event_handler(
            Events.STARTED, lambda e: seen.append((e.state.output, dict(e.state.metrics)))
        )
        other.state.max_epochs = None
        other.run([2.0])
        assert seen == [(None, {})]

    @pytest.mark.parametrize(
        "output",
        [0.5, "text", None, True, {"loss": torch.tensor([1.0, 2.0]), "n": [1, (2, 3)]}, np.float32(0.25)],
        ids=repr,
    )
    def test_kinds_of_output(self, output):
        """Numbers, texts, tensors and containers of these are saved (C4)."""
        engine = Engine(lambda engine, batch: output)
        state = saved_at(engine, Events.ITERATION_COMPLETED(once=1), [1])
        resumed, seen = Engine(lambda engine, batch: None), []
        resumed.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(e.state.output))
        resumed.load_state_dict(state)
        resumed.run([1])
        assert repr(seen) == repr([output.item() if isinstance(output, np.generic) else output])

    @pytest.mark.parametrize(
        ("output", "reason"),
        [
            (torch.zeros(1_000_000), "takes 4000000 bytes"),
            ({"sample": object()}, "contains an object of type object"),
        ],
        ids=["large", "object"],
    )
    def test_output_that_is_not_saved(self, output, reason):
        """An output that is large or no plain value is not saved; if a handler could miss it, the resumed run says why (C4)."""
        engine = Engine(lambda engine, batch: output)
        engine.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: e.state.metrics.update(object=object())
        )
        state = saved_at(engine, Events.ITERATION_COMPLETED(once=2), [1, 2], max_epochs=2)
        resumed = Engine(lambda engine, batch: output)
        resumed.load_state_dict(state)
        with pytest.warns(GlowplugWarning, match=f"state.output is None .* {reason}"):
            resumed.run([1, 2])
        state = saved_at(engine, Events.ITERATION_COMPLETED(once=5), [1, 2], max_epochs=4)
        resumed = Engine(lambda engine, batch: output)
        resumed.load_state_dict(state)
        resumed.run([1, 2])


class Seen(Dataset):
    """Samples whose noise comes from a generator of the dataset."""

    def __init__(self, make_generator=None):
        self.generator = make_generator and make_generator()

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return index, float(draw(self.generator)) if self.generator is not None else 0.0


class InTransform(Dataset):
    """Samples whose noise comes from a generator of a transform, as in torchvision."""

    def __init__(self, make_generator):
        self.transforms = [Transform(make_generator())]

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return index, float(draw(self.transforms[0].rng))


class Transform:
    """Part of a dataset with a generator."""

    def __init__(self, rng):
        self.rng = rng


def draw(generator):
    """Draw a number from any kind of generator."""
    if isinstance(generator, torch.Generator):
        return torch.rand((), generator=generator)
    return generator.random()


def batches_of(data, resume_at=None, epochs=3):
    """Return the batches of a run; with ``resume_at``, of the part after a resume at that iteration with new data."""

    def run(data, state=None, event=None):
        seen = []
        engine = Engine(lambda engine, batch: seen.append([part.tolist() for part in batch]))
        if state is not None:
            engine.load_state_dict(state)
            engine.run(data)
            return seen
        if event is not None:
            return saved_at(engine, event, data, max_epochs=epochs)
        engine.run(data, max_epochs=epochs)
        return seen

    torch.manual_seed(4)
    if resume_at is None:
        return run(data())
    state = run(data(), event=resume_at)
    torch.manual_seed(99)
    return run(data(), state=state)


GENERATORS = {
    "torch": lambda: torch.Generator().manual_seed(5),
    "numpy": lambda: np.random.default_rng(5),
    "numpy-mt": lambda: np.random.Generator(np.random.MT19937(5)),
    "numpy-legacy": lambda: np.random.RandomState(5),
    "python": lambda: random.Random(5),
}


class TestGeneratorOfTheDataset:
    @pytest.mark.parametrize("kind", GENERATORS)
    @pytest.mark.parametrize(
        "make",
        [Seen, InTransform, lambda g: Subset(Seen(g), range(12))],
        ids=["dataset", "transform", "subset"],
    )
    def test_exact(self, make, kind):
        """A generator that belongs to the dataset continues where it was (C4)."""

        def data():
            return DataLoader(make(GENERATORS[kind]), batch_size=4, shuffle=True)

        whole = batches_of(data)
        for iteration in range(1, 10):
            assert batches_of(data, Events.ITERATION_COMPLETED(once=iteration)) == whole[iteration:]
        for epoch in (1, 2):
            assert batches_of(data, Events.EPOCH_COMPLETED(once=epoch)) == whole[3 * epoch :]

    def test_own_iterable(self):
        """A generator that belongs to an iterable of the user continues where it was (C4)."""

        class Stream:
            def __init__(self):
                self.rng = np.random.default_rng(3)

            def __iter__(self):
                for _ in range(3):
                    yield torch.tensor([self.rng.random()]), torch.tensor([0])

        whole = batches_of(Stream)
        for iteration in range(1, 10):
            assert batches_of(Stream, Events.ITERATION_COMPLETED(once=iteration)) == whole[iteration:]

    def test_attributes_are_read_only(self):
        """Looking for generators runs no code of the dataset, and skips modules and large containers."""

        class Guarded(Seen):
            def __init__(self):
                super().__init__()
                self.module, self.samples, self.lazy = np, [object()] * 100_000, Lazy()

        class Lazy:
            __slots__ = ()

            def __getattr__(self, name):
                raise RuntimeError("loads a file")

        engine = Engine(lambda engine, batch: None)
        engine.run(DataLoader(Guarded(), batch_size=4))
        state = saved_at(
            engine, Events.ITERATION_COMPLETED(once=5), DataLoader(Guarded(), batch_size=4), max_epochs=3
        )
        assert state["resume"]["data"]["generators"] == {}

    def test_with_workers(self):
        """With data workers, each worker has a copy of the generator, which is exact as well (C4)."""

        def data():
            return DataLoader(Seen(GENERATORS["torch"]), batch_size=4, shuffle=True, num_workers=2)

        whole = batches_of(data)
        assert batches_of(data, Events.ITERATION_COMPLETED(once=5)) == whole[5:]


@pytest.mark.filterwarnings("ignore:.* keeps its workers")
class TestPersistentWorkers:
    @pytest.mark.parametrize("options", [{}, {"own": True}], ids=["global", "own generator"])
    def test_order(self, options):
        """A loader with persistent workers continues with the same samples in the same order (C4)."""

        def data():
            own = {"generator": torch.Generator().manual_seed(8)} if options else {}
            return DataLoader(
                Seen(), batch_size=4, shuffle=True, num_workers=2, persistent_workers=True, **own
            )

        whole = batches_of(data)
        for iteration in (1, 3, 4, 5, 6, 8):
            assert batches_of(data, Events.ITERATION_COMPLETED(once=iteration)) == whole[iteration:]
        for epoch in (1, 2):
            assert batches_of(data, Events.EPOCH_COMPLETED(once=epoch)) == whole[3 * epoch :]


def test_persistent_workers_and_random_numbers():
    """The random numbers of persistent workers cannot be restored after the first pass, and a warning says so (C4)."""

    def data():
        return DataLoader(Seen(), batch_size=4, num_workers=1, persistent_workers=True)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches_of(data, Events.ITERATION_COMPLETED(once=2), epochs=1)
    with pytest.warns(GlowplugWarning, match=r"keeps its workers .*persistent_workers=False"):
        batches_of(data, Events.ITERATION_COMPLETED(once=5))


def test_persistent_workers_that_are_missing():
    """A pass of persistent workers is not continued with a loader without them, whose order would differ (C4)."""

    def loader(*, is_persistent):
        return DataLoader(Seen(), batch_size=4, shuffle=True, num_workers=1, persistent_workers=is_persistent)

    engine = Engine(lambda engine, batch: None)
    state = saved_at(engine, Events.ITERATION_COMPLETED(once=5), loader(is_persistent=True), max_epochs=3)
    resumed = Engine(lambda engine, batch: None)
    resumed.load_state_dict(state)
    with pytest.raises(ValueError, match="Call run\\(\\) with a DataLoader with persistent_workers=True"):
        resumed.run(loader(is_persistent=False))
