"""Optimizer steps of the supervised trainers: their events, clipping, schedulers, scalers and closures."""

import copy

import pytest
import torch
from torch import nn

from glowplug import (
    Engine,
    Events,
    OptimizerEvents,
    OptimizerStep,
    create_supervised_trainer,
    supervised_training_step,
)

mse = nn.functional.mse_loss
NAMES = {
    OptimizerEvents.BACKWARD_COMPLETED: "backward",
    OptimizerEvents.OPTIMIZER_STEP_STARTED: "started",
    OptimizerEvents.OPTIMIZER_STEP_COMPLETED: "completed",
}


def make_model():
    """Return a model and its optimizer, always with the same weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def make_data(batches=5):
    """Return batches of inputs and targets."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(4, 3, generator=generator), 10 * torch.randn(4, 1, generator=generator))
        for _ in range(batches)
    ]


def weights(model):
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def gradients(model):
    """Return all gradients as one vector."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def recorded(trainer):
    """Return a list to which each event adds its name, the iteration and the number of the optimizer step."""
    found = []
    for event, name in NAMES.items():
        trainer.add_event_handler(
            event,
            lambda engine, name=name: found.append(
                (name, engine.state.iteration, engine.state.optimizer_step)
            ),
        )
    return found


def trained(data, epochs=2, after_backward=lambda model: None, after_step=lambda: None, make=make_model):
    """Train with a loop by hand, and return the weights."""
    model, optimizer = make()
    for x, y in data * epochs:
        optimizer.zero_grad()
        mse(model(x), y).backward()
        after_backward(model)
        optimizer.step()
        after_step()
    return weights(model)


class TestEvents:
    def test_order_in_windows(self):
        """Each iteration has a backward pass; the optimizer steps at the end of each window of 2, also across epochs."""
        trainer = create_supervised_trainer(*make_model(), mse, gradient_accumulation_steps=2)
        found = recorded(trainer)
        trainer.run(make_data(3), max_epochs=2)
        assert found == [
            ("backward", 1, 0),
            *(("backward", 2, 0), ("started", 2, 1), ("completed", 2, 1)),
            ("backward", 3, 1),
            *(("backward", 4, 1), ("started", 4, 2), ("completed", 4, 2)),
            ("backward", 5, 2),
            *(("backward", 6, 2), ("started", 6, 3), ("completed", 6, 3)),
        ]

    def test_filters_count_optimizer_steps(self):
        """Filters of the events of a step count optimizer steps, and those of the backward pass count iterations."""
        trainer = create_supervised_trainer(*make_model(), mse, gradient_accumulation_steps=2)
        steps, passes = [], []
        trainer.add_event_handler(
            OptimizerEvents.OPTIMIZER_STEP_COMPLETED(every=2),
            lambda engine: steps.append(engine.state.iteration),
        )
        trainer.add_event_handler(
            OptimizerEvents.BACKWARD_COMPLETED(every=3), lambda engine: passes.append(engine.state.iteration)
        )
        trainer.run(make_data(4), max_epochs=2)
        assert (steps, passes) == ([4, 8], [3, 6])

    def test_new_and_continued_runs(self):
        """A new run counts optimizer steps from 1, and a continued one goes on counting."""
        trainer = create_supervised_trainer(*make_model(), mse)
        counts = []
        trainer.add_event_handler(
            OptimizerEvents.OPTIMIZER_STEP_COMPLETED,
            lambda engine: counts.append(engine.state.optimizer_step),
        )
        trainer.run(make_data(2), max_epochs=1)
        trainer.run(make_data(2), max_epochs=2)
        assert counts == [1, 2, 3, 4]
        trainer.state.max_epochs = None
        trainer.run(make_data(2), max_epochs=1)
        assert counts == [1, 2, 3, 4, 1, 2]

    def test_step_for_an_engine(self):
        """Engine(step) attaches the step, and attaching it again changes nothing."""
        step = supervised_training_step(*make_model(), mse)
        trainer = Engine(step)
        handle = step.attach(trainer)
        assert handle is step.attach(trainer)
        found = recorded(trainer)
        trainer.run(make_data(1))
        assert found == [("backward", 1, 0), ("started", 1, 1), ("completed", 1, 1)]
        assert "OptimizerStep" in trainer.state_dict()["handlers"]
        handle.remove()
        assert "OptimizerStep" not in trainer.state_dict().get("handlers", {})
        assert step.attach(trainer) is not handle

    def test_two_optimizers(self):
        """A step may use two optimizer steps, and both numbers of steps are part of the state."""
        torch.manual_seed(0)
        first, second = nn.Linear(3, 1), nn.Linear(3, 1)
        updates = [OptimizerStep(torch.optim.SGD(model.parameters(), lr=0.1)) for model in (first, second)]

        def step(engine, batch):
            x, y = batch
            losses = [
                update(engine, lambda model=model: mse(model(x), y))
                for update, model in zip(updates, (first, second), strict=True)
            ]
            return [loss.item() for loss in losses]

        trainer = Engine(step)
        trainer.run(make_data(3))
        saved = trainer.state_dict()["handlers"]
        assert [saved["OptimizerStep"], saved["OptimizerStep#2"]] == [{"optimizer_step": 3}] * 2


class TestClipping:
    @pytest.mark.parametrize(
        ("options", "clip"),
        [
            ({"clip_norm": 0.5}, lambda model: nn.utils.clip_grad_norm_(model.parameters(), 0.5)),
            ({"clip_value": 0.01}, lambda model: nn.utils.clip_grad_value_(model.parameters(), 0.01)),
        ],
        ids=["norm", "value"],
    )
    def test_as_by_hand(self, options, clip):
        """The weights equal those of a loop that clips by hand, and differ from those without clipping."""
        model, optimizer = make_model()
        create_supervised_trainer(model, optimizer, mse, **options).run(make_data(), max_epochs=2)
        assert torch.equal(weights(model), trained(make_data(), after_backward=clip))
        assert not torch.equal(weights(model), trained(make_data()))

    def test_gradients_of_the_events(self):
        """At OPTIMIZER_STEP_STARTED the gradients of a window are complete, unscaled and not clipped, later they are clipped."""
        plain, _ = make_model()
        for x, y in make_data(2):
            (mse(plain(x), y) / 2).backward()
        model, optimizer = make_model()
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        trainer = create_supervised_trainer(
            model,
            optimizer,
            lambda y_pred, y: mse(y_pred.float(), y),
            amp_mode="amp",
            model_fn=lambda model, x: _without_autocast(model, x),
            scaler=scaler,
            gradient_accumulation_steps=2,
            clip_norm=0.5,
        )
        seen = {}
        for event, name in NAMES.items():
            trainer.add_event_handler(event, lambda name=name: seen.update({name: gradients(model)}))
        trainer.run(make_data(2))
        assert torch.allclose(seen["backward"], 1024 * gradients(plain))
        assert torch.allclose(seen["started"], gradients(plain))
        assert seen["started"].norm() > 0.6
        assert seen["completed"].norm().item() == pytest.approx(0.5, abs=1e-5)

    @pytest.mark.parametrize("name", ["clip_norm", "clip_value"])
    @pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1.0, ValueError), ("1", TypeError)])
    def test_invalid(self, name, value, error):
        """A limit that is not a positive number is refused with its name and value."""
        with pytest.raises(error, match=rf"{name} must be .*{value!r}"):
            create_supervised_trainer(*make_model(), mse, **{name: value})


def _without_autocast(model, x):
    with torch.autocast("cpu", enabled=False):
        return model(x)


def scaled_trainer(model, optimizer, **options):
    """Return a trainer with a gradient scaler."""
    return create_supervised_trainer(
        model,
        optimizer,
        lambda y_pred, y: mse(y_pred.float(), y),
        amp_mode="amp",
        scaler=torch.amp.GradScaler("cpu", init_scale=8.0),
        **options,
    )


class TestScaler:
    @pytest.mark.parametrize("fused", [False, True])
    def test_skipped_step(self, fused):
        """If the scaler or a fused optimizer skips a step, it is not completed or counted, and the scheduler does not step."""
        model, _ = make_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
        trainer = scaled_trainer(model, optimizer, lr_scheduler=scheduler)
        found = recorded(trainer)
        (x, y), *rest = make_data(3)
        trainer.run([(x, y), (x, y * float("inf")), *rest[:1]])
        assert found == [
            *(("backward", 1, 0), ("started", 1, 1), ("completed", 1, 1)),
            *(("backward", 2, 1), ("started", 2, 2)),
            *(("backward", 3, 1), ("started", 3, 2), ("completed", 3, 2)),
        ]
        assert optimizer.param_groups[0]["lr"] == 0.1 * 0.5**2

    def test_exception_before_the_step(self):
        """If a handler fails before the optimizer step, the next run() repeats the step with the scaler."""
        trainer = scaled_trainer(*make_model())

        @trainer.on(OptimizerEvents.OPTIMIZER_STEP_STARTED(once=2))
        def fail():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            trainer.run(make_data(3), max_epochs=2)
        trainer.run(make_data(3), max_epochs=2)
        assert trainer.state.optimizer_step == 6


class TestScheduler:
    @pytest.mark.parametrize(
        ("interval", "window", "expected"), [("step", 1, 6), ("step", 2, 3), ("epoch", 1, 2)]
    )
    def test_intervals(self, interval, window, expected):
        """The scheduler steps after each optimizer step or at the end of each epoch."""
        model, optimizer = make_model()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        trainer = create_supervised_trainer(
            model,
            optimizer,
            mse,
            gradient_accumulation_steps=window,
            lr_scheduler=scheduler,
            lr_scheduler_interval=interval,
        )
        trainer.run(make_data(3), max_epochs=2)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**expected)
        assert trainer.state_dict()["handlers"]["LRScheduler"] == scheduler.state_dict()

    def test_as_by_hand(self):
        """The weights equal those of a loop that steps a one-cycle scheduler after each optimizer step."""

        def make(kept):
            model, optimizer = make_model()
            kept.append(torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=10))
            return model, optimizer

        hand, schedulers = [], []
        expected = trained(make_data(), make=lambda: make(hand), after_step=lambda: hand[0].step())
        model, optimizer = make(schedulers)
        create_supervised_trainer(model, optimizer, mse, lr_scheduler=schedulers[0]).run(
            make_data(), max_epochs=2
        )
        assert torch.equal(weights(model), expected)

    def test_that_needs_a_metric(self):
        """A scheduler that needs a metric, an object without step and an unknown interval are refused at once."""
        model, optimizer = make_model()
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        with pytest.raises(TypeError, match=r"ReduceLROnPlateau\.step requires metrics"):
            create_supervised_trainer(model, optimizer, mse, lr_scheduler=plateau)
        with pytest.raises(TypeError, match=r"lr_scheduler must have a method step\(\)"):
            create_supervised_trainer(model, optimizer, mse, lr_scheduler=0.1)
        with pytest.raises(ValueError, match="lr_scheduler_interval must be 'step' or 'epoch', got 'batch'"):
            create_supervised_trainer(model, optimizer, mse, lr_scheduler_interval="batch")


class TestClosures:
    def test_lbfgs_as_by_hand(self):
        """LBFGS, which calls the loss several times per step, ends with the weights of a loop by hand."""
        hand, _ = make_model()
        optimizer = torch.optim.LBFGS(hand.parameters(), max_iter=4)
        losses = []
        for x, y in make_data() * 2:

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = mse(hand(x), y)
                loss.backward()
                return loss

            losses.append(optimizer.step(closure).item())
        model, _ = make_model()
        trainer = create_supervised_trainer(model, torch.optim.LBFGS(model.parameters(), max_iter=4), mse)
        outputs = []
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda engine: outputs.append(float(engine.state.output))
        )
        found = recorded(trainer)
        trainer.run(make_data(), max_epochs=2)
        assert torch.equal(weights(model), weights(hand))
        assert outputs == losses
        names = [name for name, iteration, _ in found if iteration == 1]
        assert (names[0], names[-1]) == ("started", "completed")
        assert names.count("backward") >= 2

    def test_clipping(self):
        """The gradients of each computation of the loss are clipped before the optimizer uses them."""
        model, _ = make_model()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
        trainer = create_supervised_trainer(model, optimizer, mse, clip_norm=0.1)
        norms = []
        trainer.add_event_handler(
            OptimizerEvents.OPTIMIZER_STEP_COMPLETED, lambda: norms.append(gradients(model).norm().item())
        )
        trainer.run(make_data())
        assert norms == [pytest.approx(0.1, abs=1e-5)] * 5

    @pytest.mark.parametrize(
        "options",
        [{"gradient_accumulation_steps": 2}, {"amp_mode": "amp", "scaler": torch.amp.GradScaler("cpu")}],
        ids=["window", "scaler"],
    )
    def test_what_cannot_be_combined(self, options):
        """A closure is refused together with an accumulation window or a scaler."""
        model, _ = make_model()
        with pytest.raises(ValueError, match=r"LBFGS\.step requires a closure, which cannot be combined"):
            create_supervised_trainer(model, torch.optim.LBFGS(model.parameters()), mse, **options)


class TestKeepEval:
    def test_batch_norm_does_not_move(self):
        """The statistics of a part in keep_eval stay as they are, and those of the other parts move."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        before = copy.deepcopy(model.state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = create_supervised_trainer(model, optimizer, mse, keep_eval=[model[0]])
        trainer.run(make_data())
        after = model.state_dict()
        assert torch.equal(after["0.running_mean"], before["0.running_mean"])
        assert not torch.equal(after["2.running_mean"], before["2.running_mean"])
        assert (model[0].training, model[2].training) == (False, True)

    def test_foreign_module(self):
        """A module that is not part of the model is refused; a single module needs no list."""
        model, optimizer = make_model()
        with pytest.raises(ValueError, match=r"keep_eval must contain modules of the model.*BatchNorm1d"):
            create_supervised_trainer(model, optimizer, mse, keep_eval=[nn.BatchNorm1d(3)])
        create_supervised_trainer(model, optimizer, mse, keep_eval=model[1]).run(make_data(1))
        assert not model[1].training


class TestAmpDtype:
    def test_dtype(self):
        """The model and the loss function run with the given dtype."""
        found = []

        def loss_fn(y_pred, y):
            found.append(y_pred.dtype)
            return mse(y_pred.float(), y)

        for dtype in (torch.bfloat16, torch.float16):
            create_supervised_trainer(*make_model(), loss_fn, amp_mode="amp", amp_dtype=dtype).run(
                make_data(1)
            )
        assert found == [torch.bfloat16, torch.float16]

    def test_invalid(self):
        """A dtype without amp_mode and a value that is no dtype are refused."""
        with pytest.raises(ValueError, match=r"amp_dtype=torch\.bfloat16 needs amp_mode='amp'"):
            create_supervised_trainer(*make_model(), mse, amp_dtype=torch.bfloat16)
        with pytest.raises(ValueError, match=r"amp_dtype must be a torch\.dtype .* got 'bfloat16'"):
            create_supervised_trainer(*make_model(), mse, amp_mode="amp", amp_dtype="bfloat16")
