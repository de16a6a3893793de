"""EpochOutputStore, with the handler contract and with real engines."""

import io

import pytest
import torch

from glowplug import Engine, Events
from glowplug.testing import FakeEngine
from glowplug_metrics import EpochOutputStore
from glowplug_testing import HandlerCase, HandlerContract


class TestContract(HandlerContract):
    @pytest.fixture
    def case(self):
        """A handler that stores numbers."""
        return HandlerCase(make=EpochOutputStore, output=1.5, plugin="glowplug_metrics._plugin")


def test_events():
    """The list is new at the start of each epoch, grows at each iteration, and is published at the end (H-100)."""
    fake, store = FakeEngine(), EpochOutputStore(lambda output: 10 * output)
    handle = store.attach(fake, "tens")
    for epoch in (1, 2):
        fake.fire_event(Events.EPOCH_STARTED)
        for fake.state.output in (epoch, epoch + 1):
            fake.fire_event(Events.ITERATION_COMPLETED)
        fake.fire_event(Events.EPOCH_COMPLETED)
        assert fake.state.tens is store.data
        assert store.data == [10 * epoch, 10 * epoch + 10]
    handle.remove()
    fake.fire_event(Events.ITERATION_COMPLETED)
    assert len(store.data) == 2
    store.reset()
    assert store.data == []


def test_handlers():
    """The public methods are the handlers, so a script can find and remove them (H-100)."""
    engine, store = Engine(lambda engine, batch: batch), EpochOutputStore()
    store.attach(engine)
    assert engine.has_event_handler(store.reset, Events.EPOCH_STARTED)
    assert engine.has_event_handler(store.update, Events.ITERATION_COMPLETED)
    engine.remove_event_handler(store.reset, Events.EPOCH_STARTED)
    engine.run([1, 2], max_epochs=2)
    assert store.data == [1, 2, 1, 2]


def test_invalid_arguments():
    """A transform that cannot be called and a name that is no string are refused with their values."""
    with pytest.raises(TypeError, match=r"output_transform must be a function of the output, got 3"):
        EpochOutputStore(3)
    with pytest.raises(TypeError, match=r"name must be the name of an attribute of engine\.state, got 3"):
        EpochOutputStore().attach(FakeEngine(), 3)


def test_predictions_of_an_evaluator():
    """With a real evaluator, the list has the predictions and targets of all batches, in order (H-100)."""
    model = torch.nn.Linear(3, 2)
    data = [(torch.randn(n, 3), torch.arange(n)) for n in (4, 4, 2)]
    evaluator = Engine(lambda engine, batch: (model(batch[0]).detach(), batch[1]))
    EpochOutputStore().attach(evaluator, "outputs")
    outputs = evaluator.run(data).outputs
    assert [len(y) for _, y in outputs] == [4, 4, 2]
    assert torch.equal(torch.cat([y_pred for y_pred, _ in outputs]), model(torch.cat([x for x, _ in data])))


@pytest.mark.parametrize("iteration", [1, 2, 4, 5])
def test_exact_resume(iteration):
    """A run resumed within an epoch has all outputs of the epoch (C4)."""

    def make():
        engine, store = (
            Engine(lambda engine, batch: torch.tensor([batch, engine.state.epoch])),
            EpochOutputStore(),
        )
        store.attach(engine, "outputs")
        return engine, store

    engine, whole = make()
    saved = io.BytesIO()
    engine.add_event_handler(
        Events.ITERATION_COMPLETED(once=iteration), lambda: torch.save(engine.state_dict(), saved)
    )
    engine.run([1, 2, 3], max_epochs=2)
    resumed, store = make()
    saved.seek(0)
    resumed.load_state_dict(torch.load(saved, weights_only=True))
    resumed.run([1, 2, 3], max_epochs=2)
    assert [each.tolist() for each in store.data] == [each.tolist() for each in whole.data]
