"""What is as before when the with block ends."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from glowplug import Engine, Events, RunStart
from glowplug_lr_finder import FastaiLRFinder

pytestmark = pytest.mark.filterwarnings("ignore:FastaiLRFinder. the loss did not diverge")


@pytest.fixture(autouse=True)
def _print_whole_tensors():
    """Print tensors with all digits, because the tests compare texts."""
    torch.set_printoptions(precision=10, threshold=10**6)
    yield
    torch.set_printoptions(profile="default")


class Counter:
    """A handler with a state."""

    def __init__(self):
        self.calls = 0

    def __call__(self, engine):
        self.calls += 1

    def state_dict(self):
        return {"calls": self.calls}

    def load_state_dict(self, state):
        self.calls = state["calls"]


class Training:
    """A training with random numbers, batch normalization, momentum and a stateful handler."""

    def __init__(self, fails_at=None):
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 - the global generator must be restored
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9)
        self.data = DataLoader(torch.randn(40, 3), batch_size=4, shuffle=True)
        self.counter, self.losses, self.starts = Counter(), [], []
        self.fails_at = fails_at
        self.trainer = Engine(self.step)
        self.trainer.add_event_handler(Events.ITERATION_COMPLETED, self.counter)
        self.trainer.add_event_handler(
            Events.STARTED, lambda engine: self.starts.append(engine.state.run_start)
        )

    def step(self, engine, batch):
        if engine.state.iteration == self.fails_at:
            raise ZeroDivisionError
        self.model.train()
        self.optimizer.zero_grad()
        loss = (self.model(batch) - batch.sum(1, keepdim=True) - random.random()).square().mean()
        loss = loss * (1 + np.random.random() / 10)  # noqa: NPY002 - the global generator must be restored
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        return self.losses[-1]

    def state(self):
        """Return everything that a search must not change."""
        return copy.deepcopy(
            {
                "model": dict(self.model.state_dict()),
                "optimizer": self.optimizer.state_dict(),
                "gradients": [parameter.grad for parameter in self.model.parameters()],
                "modes": [module.training for module in self.model.modules()],
                "trainer": self.trainer.state_dict(),
                "values": [
                    getattr(self.trainer.state, name)
                    for name in ("output", "batch", "metrics", "times", "outcome")
                ],
                "registrations": [str(each.handler) for each in self.trainer.registrations()],
                "torch": torch.get_rng_state(),
                "python": random.getstate(),
                "numpy": np.random.get_state()[1],  # noqa: NPY002 - the global generator must be restored
            }
        )

    def search(self, **options):
        """Search a learning rate."""
        finder = FastaiLRFinder()
        to_save = {"model": self.model, "optimizer": self.optimizer}
        with finder.attach(self.trainer, to_save, diverge_th=float("inf"), **options):
            self.trainer.run(self.data)
        return finder


def assert_same(actual, expected):
    """Require that two nested states are equal."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


# assert_close compares numbers, tensors, sequences and mappings; other values are compared here.
def parts(state):
    """Split a state into the parts that assert_close can compare, and the others."""
    comparable = {name: state[name] for name in ("model", "torch")}
    return comparable, repr({name: value for name, value in state.items() if name not in comparable})


@pytest.mark.parametrize("before", [0, 1])
def test_everything(before):
    """After a search, all states are as before, in a new trainer and in one that has run before (H-103)."""
    training = Training()
    if before:
        training.trainer.run(training.data, max_epochs=1)
    else:
        training.model.eval()
    expected = training.state()
    finder = training.search(num_iter=25, end_lr=0.1)
    assert len(finder.get_results()["loss"]) == 25
    first, others = parts(training.state())
    wanted, other_wanted = parts(expected)
    assert_same(first, wanted)
    assert others == other_wanted


@pytest.mark.parametrize("error", ["step", "block", "interrupt"])
def test_after_an_exception(error):
    """After an exception in the step or in the block, all states are as before and no handler is left (H-104)."""
    training = Training(fails_at=7 if error == "step" else None)
    expected = parts(training.state())
    raised = {"step": ZeroDivisionError, "block": ValueError, "interrupt": KeyboardInterrupt}[error]
    finder = FastaiLRFinder()

    def fail():
        with finder.attach(training.trainer, {"model": training.model, "optimizer": training.optimizer}):
            training.trainer.run(training.data)
            raise raised

    with pytest.raises(raised):
        fail()
    actual = parts(training.state())
    assert_same(actual[0], expected[0])
    assert actual[1] == expected[1]
    training.fails_at = None
    assert training.search().get_results()["lr"]


def test_training_is_the_same():
    """A training after a search, from scratch or from a later epoch, is bit-identical to one without (H-103, C4)."""

    def losses(*, searches, epochs):
        training = Training()
        if epochs:
            training.trainer.add_event_handler(
                Events.EPOCH_COMPLETED(once=epochs), training.trainer.terminate
            )
            training.trainer.run(training.data, max_epochs=3)
        if searches:
            training.search(num_iter=15, end_lr=0.1)
            del training.losses[10 * epochs :]
        starts = len(training.starts)
        training.trainer.run(training.data, max_epochs=3)
        assert training.counter.calls == 30
        return training.losses, training.starts[starts:], dict(training.model.state_dict())

    for epochs in (0, 1):
        actual, expected = (losses(searches=searches, epochs=epochs) for searches in (True, False))
        assert actual[0] == expected[0]
        assert len(actual[0]) == 30
        assert_same(actual[2], expected[2])
        if not epochs:
            assert actual[1] == expected[1] == [RunStart.NEW]


def test_optimizer_alone():
    """The weights are restored even if the mapping contains only the optimizer (H-103)."""
    training = Training()
    weights = [parameter.detach().clone() for parameter in training.model.parameters()]
    finder = FastaiLRFinder()
    with finder.attach(training.trainer, {"optimizer": training.optimizer}):
        training.trainer.run(training.data)
    assert_same(list(map(torch.detach, training.model.parameters())), weights)


def test_without_with():
    """attach() changes nothing before the with block begins (H-103)."""
    training = Training()
    number = len(training.trainer.registrations())
    FastaiLRFinder().attach(training.trainer, {"optimizer": training.optimizer})
    assert len(training.trainer.registrations()) == number


def test_nested():
    """A second search of one finder within the first is refused, and the first continues (H-103)."""
    training, other = Training(), Training()
    finder = FastaiLRFinder()
    with finder.attach(training.trainer, {"optimizer": training.optimizer}, num_iter=3):
        second = finder.attach(other.trainer, {"optimizer": other.optimizer})
        with pytest.raises(RuntimeError, match="a search of this finder is in progress"), second:
            pass
        training.trainer.run(training.data)
    assert len(finder.get_results()["lr"]) == 3
