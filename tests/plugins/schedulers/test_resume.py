"""Runs that are stopped at any iteration and resumed in new objects."""

import io

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader

from glowplug import Engine, Events
from glowplug_schedulers import (
    BatchSizeScheduler,
    ConcatScheduler,
    CosineAnnealingScheduler,
    ExpStateScheduler,
    LinearCyclicalScheduler,
    LRScheduler,
    MultiStepStateScheduler,
    ParamGroupScheduler,
    PiecewiseLinear,
    ReduceLROnPlateauScheduler,
    create_lr_scheduler_with_warmup,
)

EPOCHS, LENGTH = 3, 4


class Training:
    """A trainer with a model, an optimizer and a scheduler; each step records the values that were scheduled."""

    def __init__(self, attach):
        torch.manual_seed(0)
        self.model = nn.Linear(2, 1)
        self.optimizer = torch.optim.SGD(
            [{"params": [self.model.weight]}, {"params": [self.model.bias], "lr": 0.2}], lr=0.1, momentum=0.9
        )
        self.data = DataLoader([torch.tensor([i / 8, 1.0]) for i in range(8)], batch_size=2)
        self.trainer = Engine(self.step)
        self.seen = []
        attach(self)

    def step(self, engine, batch):
        """Make a step of the optimizer."""
        self.optimizer.zero_grad()
        self.model(batch).square().sum().backward()
        self.optimizer.step()
        rates = [group["lr"] for group in self.optimizer.param_groups]
        temperature = getattr(engine.state, "temperature", None)
        self.seen.append((engine.state.iteration, rates, batch.tolist(), temperature))

    def run(self, until=None):
        """Run all epochs, or stop after an iteration and return what a checkpoint would contain."""
        if until is not None:
            self.trainer.add_event_handler(
                Events.ITERATION_COMPLETED(once=until), self.trainer.terminate, skip_completed=True
            )
        self.trainer.run(self.data, max_epochs=EPOCHS)
        return {name: each.state_dict() for name, each in self.objects.items()}

    @property
    def objects(self):
        """What a checkpoint contains."""
        return {"trainer": self.trainer, "model": self.model, "optimizer": self.optimizer}

    def load(self, states):
        """Load a checkpoint."""
        for name, each in self.objects.items():
            each.load_state_dict(states[name])


def stored(states):
    """Return states after they were saved to a file and loaded safely."""
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def plateau(training):
    """Attach a scheduler whose metric stops improving."""
    training.trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(loss=1.0)
    )
    scheduler = ReduceLROnPlateauScheduler(training.optimizer, "loss", patience=0, factor=0.5)
    return scheduler.attach(training.trainer, Events.EPOCH_COMPLETED)


def groups(optimizer):
    """Return a scheduler with another schedule in each group."""
    return ParamGroupScheduler(
        [
            LinearCyclicalScheduler(optimizer, "lr", 0.1, 0.01, 3, start_value_mult=0.5, param_group_index=0),
            CosineAnnealingScheduler(optimizer, "lr", 0.2, 0.02, 5, param_group_index=1),
        ],
        save_history=True,
    )


def concat(optimizer):
    """Return two schedules in sequence."""
    first = PiecewiseLinear(optimizer, "lr", [(0, 0.0), (4, 0.1)])
    second = LinearCyclicalScheduler(optimizer, "lr", 0.1, 0.0, 4, cycle_mult=1.5)
    return ConcatScheduler([first, second], [4], save_history=True)


ATTACH = {
    "piecewise": lambda t: PiecewiseLinear(t.optimizer, "lr", [(0, 0.0), (9, 0.1)], True).attach(t.trainer),
    "groups": lambda t: groups(t.optimizer).attach(t.trainer),
    "concat": lambda t: concat(t.optimizer).attach(t.trainer),
    "torch": lambda t: LRScheduler(
        lr_scheduler.CosineAnnealingWarmRestarts(t.optimizer, 5), save_history=True
    ).attach(t.trainer),
    "legacy": lambda t: LRScheduler(
        lr_scheduler.ExponentialLR(t.optimizer, 0.9), use_legacy=True
    ).attach(t.trainer),
    "add_event_handler": lambda t: t.trainer.add_event_handler(
        Events.ITERATION_STARTED, LRScheduler(lr_scheduler.StepLR(t.optimizer, 2, 0.5), save_history=True)
    ),
    "epoch": lambda t: LRScheduler(lr_scheduler.ExponentialLR(t.optimizer, 0.5)).attach(
        t.trainer, Events.EPOCH_STARTED
    ),
    "warmup": lambda t: create_lr_scheduler_with_warmup(
        lr_scheduler.ExponentialLR(t.optimizer, 0.9), 0.0, 5, save_history=True
    ).attach(t.trainer),
    "plateau": plateau,
    "state": lambda t: ExpStateScheduler(1.0, 0.9, "temperature", True, create_new=True).attach(t.trainer),
    "state per epoch": lambda t: MultiStepStateScheduler(
        1.0, 0.5, [2], "temperature", create_new=True
    ).attach(t.trainer, Events.EPOCH_COMPLETED),
    "batch size": lambda t: BatchSizeScheduler(t.data, lambda event: event + 2, True).attach(t.trainer),
}  # fmt: skip


@pytest.mark.parametrize("attach", ATTACH.values(), ids=ATTACH)
def test_exact(attach):
    """A run resumed after any iteration has the values, batches, weights and history of the whole run (C4, H-110)."""
    whole = Training(attach)
    whole.run()
    for stop in range(1, len(whole.seen)):
        first = Training(attach)
        states = stored(first.run(until=stop))
        resumed = Training(attach)
        resumed.load(states)
        resumed.run()
        assert first.seen + resumed.seen == whole.seen, f"stopped after {stop}"
        assert torch.equal(resumed.model.weight, whole.model.weight)
        histories = [getattr(each.trainer.state, "param_history", None) for each in (resumed, whole)]
        assert histories[0] == histories[1]


def test_two_schedulers_of_a_class():
    """Two schedulers of one class have different keys, also without a name (H-110)."""
    training = Training(
        lambda t: t.trainer.attach(
            PiecewiseLinear(t.optimizer, "lr", [(0, 1.0)]),
            PiecewiseLinear(t.optimizer, "momentum", [(0, 1.0)]),
            PiecewiseLinear(t.optimizer, "lr", [(0, 1.0)], param_group_index=1),
        )
    )
    assert list(training.trainer.state_dict()["handlers"]) == [
        "PiecewiseLinear:lr",
        "PiecewiseLinear:momentum",
        "PiecewiseLinear:lr#2",
    ]


def test_replay():
    """Loading an earlier state into the same objects repeats the same values (H-110, H-114)."""
    training = Training(ATTACH["torch"])
    scheduler = LRScheduler(lr_scheduler.ExponentialLR(training.optimizer, 0.5))
    start, values = scheduler.state_dict(), []
    for _ in range(2):
        scheduler.load_state_dict(start)
        for _ in range(3):
            scheduler(None)
            values.append(training.optimizer.param_groups[0]["lr"])
    assert values[:3] == values[3:] == [0.1, 0.05, 0.025]


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ([], TypeError, "the state must be a dict, got list"),
        ({"a": 1}, ValueError, "the state lacks 'event_index', .*; it has 'a'"),
    ],
)
def test_invalid_state(state, error, message):
    """A state that is not of a scheduler is refused, and nothing is loaded (H-110)."""
    scheduler = PiecewiseLinear(Training(ATTACH["epoch"]).optimizer, "lr", [(0, 1.0)])
    with pytest.raises(error, match=message):
        scheduler.load_state_dict(state)


def test_saved_durations():
    """A resumed sequence continues with the durations of the saved one (H-113)."""
    optimizer = Training(ATTACH["epoch"]).optimizer
    saved, resumed = concat(optimizer), concat(optimizer)
    saved.durations = [1]
    saved(None)
    resumed.load_state_dict(saved.state_dict())
    assert resumed.durations == [1]
    assert resumed.get_param() == 0.1


def test_state_of_other_schedulers():
    """The state of other schedulers is refused with their names (H-113)."""
    optimizer = Training(ATTACH["epoch"]).optimizer
    scheduler = concat(optimizer)
    other = ConcatScheduler([*scheduler.schedulers, PiecewiseLinear(optimizer, "lr", [(0, 1.0)])], [1, 2])
    with pytest.raises(
        ValueError, match=r"the state was saved with the schedulers \['PiecewiseLinear', .*but this"
    ):
        scheduler.load_state_dict(other.state_dict())
    named = ParamGroupScheduler(groups(optimizer).schedulers, names=["a", "b"])
    with pytest.raises(
        ValueError, match=r"with the schedulers \['lr', 'lr'\], but this one has \['a', 'b'\]"
    ):
        named.load_state_dict(groups(optimizer).state_dict())


@pytest.mark.parametrize("name", ["piecewise", "groups", "concat", "torch", "epoch", "warmup", "batch size"])
@pytest.mark.parametrize("is_loaded", [False, True])
def test_after_an_exception(name, is_loaded):
    """A run that continues after an exception in any step has the values of the whole run, also in new objects (C4, H-110)."""
    whole = Training(ATTACH[name])
    whole.run()
    for failing in range(1, len(whole.seen) + 1):
        training = Training(ATTACH[name])

        def fail(engine, failing=failing):
            if engine.state.iteration == failing:
                raise ZeroDivisionError

        handle = training.trainer.add_event_handler(Events.ITERATION_STARTED, fail)
        with handle, pytest.raises(ZeroDivisionError):
            training.run()
        continued = training
        if is_loaded:
            continued = Training(ATTACH[name])
            continued.load(stored({key: each.state_dict() for key, each in training.objects.items()}))
        continued.run()
        seen = training.seen + continued.seen if is_loaded else continued.seen
        assert seen == whole.seen, f"failed in {failing}"


def test_custom_event_in_a_resumed_run():
    """At a custom event that fires several times per iteration, each firing counts, also in a resumed run (C4, H-110)."""

    def attach(training):
        def fire(engine):
            for _ in range(2):
                engine.fire_event("part")

        training.trainer.register_events("part", event_to_attr={"part": "iteration"})
        training.trainer.add_event_handler(Events.ITERATION_STARTED, fire)
        PiecewiseLinear(training.optimizer, "lr", [(0, 0.0), (24, 0.1)]).attach(training.trainer, "part")

    whole = Training(attach)
    whole.run()
    first, resumed = Training(attach), Training(attach)
    resumed.load(stored(first.run(until=5)))
    resumed.run()
    assert first.seen + resumed.seen == whole.seen
