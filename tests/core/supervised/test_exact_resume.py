"""Exact resume of the trainers that the factories create (C4)."""

import io

import pytest
import torch
from torch import nn

from glowplug import Engine, Events, create_supervised_trainer, supervised_training_step

EPOCHS, BATCHES = 2, 5


def data():
    """Return five batches."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(4, 3, generator=generator), torch.randn(4, 1, generator=generator))
        for _ in range(BATCHES)
    ]


class Job:
    """A model with dropout and momentum, trained by a factory's trainer."""

    def __init__(self, seed=0, is_bare=False, make_scheduler=None, **options):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.5)
        loss_fn = nn.functional.mse_loss
        if make_scheduler is not None:
            options["lr_scheduler"] = make_scheduler(self.optimizer)
        if is_bare:
            self.trainer = Engine(supervised_training_step(self.model, self.optimizer, loss_fn, **options))
        else:
            self.trainer = create_supervised_trainer(self.model, self.optimizer, loss_fn, **options)
        self.losses = []
        self.trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: self.losses.append(float(e.state.output))
        )

    def parts(self):
        """Return what a checkpoint contains."""
        return {"model": self.model, "optimizer": self.optimizer, "trainer": self.trainer}

    def save(self):
        """Return a checkpoint."""
        file = io.BytesIO()
        torch.save({name: part.state_dict() for name, part in self.parts().items()}, file)
        return file.getvalue()

    def load(self, saved):
        """Load a checkpoint."""
        for name, state in torch.load(io.BytesIO(saved), weights_only=True).items():
            self.parts()[name].load_state_dict(state)

    def run(self):
        """Train, and return the job."""
        self.trainer.run(data(), max_epochs=EPOCHS)
        return self


def assert_exact(event, iteration, **options):
    """Assert that a run saved at an event of an iteration, and resumed, equals the uninterrupted run."""
    whole = Job(**options).run()
    job, saved = Job(**options), []
    job.trainer.add_event_handler(event(once=iteration), lambda: saved.append(job.save()))
    job.run()
    resumed = Job(seed=99, **options)
    resumed.load(saved[0])
    resumed.run()
    assert whole.losses[-len(resumed.losses) :] == resumed.losses
    for expected, actual in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("is_bare", [False, True], ids=["factory", "step"])
@pytest.mark.parametrize("iteration", range(1, EPOCHS * BATCHES))
def test_accumulation_window(iteration, is_bare):
    """A run saved within a window of gradient accumulation continues with the gradients of the window (C4)."""
    assert_exact(Events.ITERATION_COMPLETED, iteration, gradient_accumulation_steps=3, is_bare=is_bare)


@pytest.mark.parametrize("event", [Events.ITERATION_STARTED, Events.GET_BATCH_STARTED], ids=str)
def test_accumulation_window_before_a_step(event):
    """The same holds for a state saved before the step of an iteration (C4)."""
    assert_exact(event, 5, gradient_accumulation_steps=3)


def test_two_resumes_within_a_window():
    """Gradients that were loaded but not used yet are saved again (C4)."""
    options = {"gradient_accumulation_steps": 4}
    whole, job, saved = Job(**options).run(), Job(**options), []
    job.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: saved.append(job.save()))
    job.run()
    between = Job(seed=98, **options)
    between.load(saved[0])
    again = between.save()
    resumed = Job(seed=99, **options)
    resumed.load(again)
    resumed.run()
    for expected, actual in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(expected, actual)


@pytest.mark.parametrize("is_bare", [False, True], ids=["factory", "step"])
@pytest.mark.parametrize("iteration", range(1, EPOCHS * BATCHES))
def test_scheduler_and_optimizer_steps(iteration, is_bare):
    """The scheduler of a trainer and its number of optimizer steps continue from any iteration, also within a window (C4)."""
    for interval in ("step", "epoch"):
        found = []
        for at in (None, iteration):
            job, saved = scheduled(interval, is_bare), []
            if at is not None:
                job.trainer.add_event_handler(
                    Events.ITERATION_COMPLETED(once=at), lambda job=job, saved=saved: saved.append(job.save())
                )
            job.run()
            if at is not None:
                job = scheduled(interval, is_bare, seed=99)
                job.load(saved[0])
                job.run()
            found.append(
                (
                    job.trainer.state.optimizer_step,
                    job.optimizer.param_groups[0]["lr"],
                    [parameter.tolist() for parameter in job.model.parameters()],
                )
            )
        assert found[0] == found[1]
        assert found[0][0] == EPOCHS * BATCHES // 2


def scheduled(interval, is_bare, seed=0):
    """Return a job with windows of two iterations and a scheduler."""
    return Job(
        seed,
        is_bare,
        make_scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        gradient_accumulation_steps=2,
        lr_scheduler_interval=interval,
    )


def test_end_of_a_window():
    """At the end of a window, no gradients are saved, so a checkpoint is no larger than without accumulation."""
    job, saved = Job(gradient_accumulation_steps=3), []
    job.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: saved.append(job.trainer.state_dict()))
    job.run()
    states = [state["handlers"]["GradientAccumulation"]["gradients"] for state in saved]
    assert [state is None for state in states] == [iteration % 3 == 0 for iteration in range(1, 11)]


def test_gradients_of_another_optimizer():
    """Gradients that do not fit to the parameters are refused, with their numbers."""
    job, saved = Job(gradient_accumulation_steps=3), []
    job.trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda: saved.append(job.save()))
    job.run()
    model = nn.Linear(3, 1)
    other = create_supervised_trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        nn.functional.mse_loss,
        gradient_accumulation_steps=3,
    )
    state = torch.load(io.BytesIO(saved[0]), weights_only=True)["trainer"]
    with pytest.raises(ValueError, match="gradients of 4 parameters, but this optimizer has 2"):
        other.load_state_dict(state)


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("iteration", range(1, EPOCHS * BATCHES))
def test_grad_scaler(iteration, window):
    """The scaler of a factory continues with its scale and its count of steps (C4)."""
    scaler = {"amp_mode": "amp", "gradient_accumulation_steps": window}
    whole_scales = []
    for at in (None, iteration):
        used = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)
        job, saved = Job(scaler=used, **scaler), []
        if at is None:
            job.run()
            whole_scales = [used.get_scale(), *(p.clone() for p in job.model.parameters())]
            continue
        job.trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=iteration), lambda job=job, saved=saved: saved.append(job.save())
        )
        job.run()
        fresh = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=2)
        resumed = Job(seed=99, scaler=fresh, **scaler)
        resumed.load(saved[0])
        resumed.run()
        assert fresh.get_scale() == whole_scales[0]
        for expected, actual in zip(whole_scales[1:], resumed.model.parameters(), strict=True):
            assert torch.equal(expected, actual)
