"""EMAHandler: values, warm-up, buffers, options, attaching."""

import copy
import pickle

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug.testing import FakeEngine
from glowplug_ema import EMAHandler

WARM_UP = {"momentum": 0.2, "momentum_warmup": 0.1, "warmup_iters": 5}


def linear(weight=1.0):
    """Return a model with one weight."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model


def training(ema):
    """Return a trainer that adds 1 to the weight of the handler's model in each iteration."""

    def step(engine, batch):
        with torch.no_grad():
            ema.model.weight.add_(1)

    return Engine(step)


def momenta_of(ema, iterations=8, **options):
    """Return the momentum of each iteration."""
    trainer, found = training(ema), []
    ema.attach(trainer, **options)
    name = options.get("name", "ema_momentum")
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: found.append(getattr(engine.state, name))
    )
    trainer.run(range(iterations))
    return found


class TestAverage:
    def test_formula(self):
        """Each update computes (1 - momentum) * average + momentum * weights, from the weights at the start on (H-101)."""
        ema = EMAHandler(linear(), momentum=0.3)
        trainer = training(ema)
        ema.attach(trainer)
        trainer.run(range(5), max_epochs=2)
        expected = 1.0
        for weight in range(2, 12):
            expected = 0.7 * expected + 0.3 * weight
        assert ema.ema_model.weight.item() == pytest.approx(expected)
        assert (ema.model.weight.item(), ema.num_updates) == (11.0, 10)

    def test_event(self):
        """The average is updated only at the event that was given, also under ignite's name of the argument (H-101)."""
        for option in ("event_name", "event"):
            ema = EMAHandler(linear(), momentum=0.5)
            trainer = training(ema)
            ema.attach(trainer, **{option: Events.ITERATION_COMPLETED(every=2)})
            trainer.run(range(4))
            assert (ema.num_updates, ema.ema_model.weight.item()) == (2, 3.5)

    def test_real_training(self):
        """The average of a network that an optimizer trains equals the one computed by hand (H-101)."""
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).double()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        by_hand = [parameter.detach().clone() for parameter in model.parameters()]

        def step(engine, batch):
            optimizer.zero_grad()
            (model(batch) - batch.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()
            for average, parameter in zip(by_hand, model.parameters(), strict=True):
                average.mul_(0.95).add_(parameter.detach(), alpha=0.05)

        trainer, ema = Engine(step), EMAHandler(model, momentum=0.05)
        trainer.attach(ema)
        trainer.run(torch.randn(10, 16, 4, dtype=torch.double), max_epochs=3)
        for average, expected in zip(ema.ema_model.parameters(), by_hand, strict=True):
            torch.testing.assert_close(average, expected)
            assert not average.requires_grad

    def test_shared_weights(self):
        """Weights that two layers share are averaged once, and stay shared (H-101)."""
        first, second = linear(), linear()
        second.weight = first.weight
        ema = EMAHandler(nn.Sequential(first, second), momentum=0.5)
        nn.init.constant_(first.weight, 3.0)
        ema(FakeEngine())
        assert ema.ema_model[0].weight is ema.ema_model[1].weight
        assert ema.ema_model[0].weight.item() == 2.0

    def test_types(self):
        """Weights of several types are averaged, each in its own type (H-101)."""
        model = nn.ModuleList([linear(), linear().double(), linear().half()])
        model.append(nn.ParameterList([torch.tensor(1 + 0j)]))
        ema = EMAHandler(model, momentum=0.5)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(3.0)
        ema(FakeEngine())
        assert [parameter.item() for parameter in ema.ema_model.parameters()] == [2.0] * 4
        assert len({parameter.dtype for parameter in ema.ema_model.parameters()}) == 4

    def test_new_run(self):
        """A new run continues the average (H-102)."""
        ema = EMAHandler(linear(), **WARM_UP)
        trainer = training(ema)
        ema.attach(trainer)
        trainer.run(range(2))
        trainer.state.max_epochs = None
        trainer.run(range(2))
        assert (ema.num_updates, trainer.state.ema_momentum) == (4, pytest.approx(0.175))


class TestMomentum:
    @pytest.mark.parametrize("name", ["ema_momentum", "teacher"])
    def test_warm_up(self, name):
        """The momentum rises linearly in the warm-up, whatever the name of its attribute (H-102)."""
        expected = [0.1, 0.125, 0.15, 0.175, 0.2, 0.2, 0.2, 0.2]
        assert momenta_of(EMAHandler(linear(), **WARM_UP), name=name) == pytest.approx(expected)

    def test_falling(self):
        """The momentum may fall in the warm-up (H-102)."""
        ema = EMAHandler(linear(), momentum=0.1, momentum_warmup=0.5, warmup_iters=3)
        assert momenta_of(ema, 4) == pytest.approx([0.5, 0.3, 0.1, 0.1])

    def test_one_update(self):
        """A warm-up of one update uses its momentum once (H-102)."""
        ema = EMAHandler(linear(), momentum=0.1, momentum_warmup=0.5, warmup_iters=1)
        assert momenta_of(ema, 3) == [0.5, 0.1, 0.1]

    @pytest.mark.parametrize("options", [{}, {"momentum_warmup": 0.5}, {"warmup_iters": 3}])
    def test_no_warm_up(self, options):
        """Without both options, the momentum is constant (H-102)."""
        assert momenta_of(EMAHandler(linear(), momentum=0.1, **options), 3) == [0.1] * 3

    def test_set_by_another_handler(self):
        """Another handler can set the momentum in engine.state (H-101)."""
        ema = EMAHandler(linear(), momentum=0.5)
        trainer = training(ema)
        ema.attach(trainer, "teacher")

        @trainer.on(Events.ITERATION_STARTED)
        def change(engine):
            engine.state.teacher = 0.25 if engine.state.iteration == 1 else 1.0

        trainer.run(range(1))
        assert ema.ema_model.weight.item() == 1.25
        trainer.run(range(1), max_epochs=2)
        assert ema.ema_model.weight.item() == 3.0

    @pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
    def test_invalid_in_state(self, value):
        """A momentum in engine.state that is out of range raises an error that names the attribute, before any change."""
        ema, fake = EMAHandler(linear()), FakeEngine()
        ema.attach(fake, "teacher")
        fake.state.teacher = value
        nn.init.constant_(ema.model.weight, 5.0)
        with pytest.raises(
            ValueError, match=r"EMAHandler: the momentum engine.state.teacher must be from 0 to"
        ):
            fake.fire(Events.ITERATION_COMPLETED)
        assert (ema.ema_model.weight.item(), ema.num_updates) == (1.0, 0)


class TestBuffers:
    def updated(self, handle_buffers):
        """Return the handler of a model after one batch, and the model's statistics before the batch."""
        model = nn.BatchNorm1d(1)
        nn.init.constant_(model.running_mean, 1.0)
        ema = EMAHandler(model, momentum=0.5, handle_buffers=handle_buffers)
        model(torch.tensor([[10.0], [20.0]]))
        ema(FakeEngine())
        return ema

    def test_copy(self):
        """With "copy", the averaged model has the values of the model's buffers, but not the same tensors (H-101)."""
        ema = self.updated("copy")
        assert not ema.ema_model.training
        assert torch.equal(ema.ema_model.running_mean, ema.model.running_mean)
        assert ema.ema_model.num_batches_tracked == 1
        ema.model.running_mean.zero_()
        assert ema.ema_model.running_mean.item() == pytest.approx(2.4)

    def test_update(self):
        """With "update", buffers are averaged, and buffers of integers are copied (H-101)."""
        ema = self.updated("update")
        assert not ema.ema_model.training
        assert ema.model.running_mean.item() == pytest.approx(2.4)
        assert ema.ema_model.running_mean.item() == pytest.approx(1.7)
        assert ema.ema_model.num_batches_tracked == 1

    def test_ema_train(self):
        """With "ema_train", the averaged model is in training mode and updates its own buffers (H-101)."""
        ema = self.updated("ema_train")
        assert ema.ema_model.training
        assert ema.ema_model.running_mean.item() == 1.0
        ema.ema_model(torch.tensor([[0.0], [2.0]]))
        assert ema.ema_model.num_batches_tracked == 1


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            *(({"momentum": value}, "Invalid momentum") for value in (-1, 0, 1, 2, float("nan"))),
            *(({"momentum_warmup": value}, "Invalid momentum_warmup") for value in (-1, 2)),
            *(({"warmup_iters": value}, "warmup_iters must be an integer") for value in (0, 2.5)),
            ({"handle_buffers": "average"}, "must be one of 'copy', 'update', 'ema_train', got 'average'"),
            ({"model": "resnet"}, "model should be an instance of nn.Module, got 'resnet'"),
        ],
    )
    def test_invalid(self, options, message):
        """Invalid options raise a ValueError that names the option (H-101, H-102)."""
        with pytest.raises(ValueError, match=message):
            EMAHandler(**{"model": linear(), **options})

    def test_attributes(self):
        """The options have the attributes of ignite's class (H-101)."""
        model = linear()
        ema = EMAHandler(model, 0.1, 0.2, 3, "update")
        assert (ema.model, ema.momentum, ema.handle_buffers) == (model, 0.1, "update")

    def test_copies(self):
        """A handler can be copied and pickled, also together with its trainer."""
        ema = EMAHandler(linear(), momentum=0.5)
        trainer = Engine(print)
        ema.attach(trainer)
        copied, copied_trainer = copy.deepcopy((ema, trainer))
        copied.load_state_dict({**copied.state_dict(), "momentum": 0.25})
        assert (trainer.state.ema_momentum, copied_trainer.state.ema_momentum) == (0.5, 0.25)
        assert pickle.loads(pickle.dumps(EMAHandler(linear(7.0)))).ema_model.weight.item() == 7.0


class TestAttach:
    def test_name(self):
        """The attribute exists from attach() until the handler is detached (H-101)."""
        ema, fake = EMAHandler(linear(), momentum=0.1), FakeEngine()
        with ema.attach(fake, "teacher"):
            assert fake.state.teacher == 0.1
        assert not hasattr(fake.state, "teacher")

    def test_existing(self):
        """An attribute that exists already is used, and causes a warning unless warn_if_exists is False (H-101)."""
        fake = FakeEngine()
        fake.state.teacher = 0.5
        for warns in (True, False):
            ema = EMAHandler(linear(), momentum=0.1)
            if warns:
                with pytest.warns(
                    GlowplugWarning, match=r"Attribute 'teacher' already exists.*pass another name"
                ):
                    handle = ema.attach(fake, "teacher")
            else:
                handle = ema.attach(fake, "teacher", warn_if_exists=False)
            nn.init.constant_(ema.model.weight, 3.0)
            fake.fire(Events.ITERATION_COMPLETED)
            assert ema.ema_model.weight.item() == 2.0
            handle.remove()
            assert fake.state.teacher == 0.5

    def test_warning_as_error(self):
        """If the warning is an error, nothing is attached."""
        ema, fake = EMAHandler(linear()), FakeEngine()
        fake.state.ema_momentum = 0.5
        with pytest.raises(GlowplugWarning):
            ema.attach(fake)
        assert not fake.registrations()

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"name": Events.EPOCH_COMPLETED}, TypeError, "pass an event as event_name="),
            (
                {"name": "ema momentum"},
                ValueError,
                "must be a valid name of an attribute, got 'ema momentum'",
            ),
            (
                {"event_name": Events.EPOCH_COMPLETED, "event": Events.EPOCH_COMPLETED},
                ValueError,
                "event is another name of event_name",
            ),
            ({"event_name": "epoch_complete"}, ValueError, "Did you mean"),
        ],
    )
    def test_invalid(self, arguments, error, message):
        """Invalid arguments raise an error, and nothing is attached."""
        fake = FakeEngine()
        with pytest.raises(error, match=message):
            EMAHandler(linear()).attach(fake, **arguments)
        assert not fake.registrations()
        assert not hasattr(fake.state, "ema_momentum")

    def test_two_handlers(self):
        """Two handlers of one engine have their own names, events and momenta (H-101)."""
        fake = FakeEngine()
        generator = EMAHandler(linear(), momentum=0.5)
        critic = EMAHandler(linear(), momentum=0.1, momentum_warmup=0.25, warmup_iters=2)
        generator.attach(fake, "generator_momentum")
        critic.attach(fake, "critic_momentum", event_name=Events.EPOCH_COMPLETED)
        for ema in (generator, critic):
            nn.init.constant_(ema.model.weight, 5.0)
        fake.fire(Events.ITERATION_COMPLETED).fire(Events.EPOCH_COMPLETED)
        assert (fake.state.generator_momentum, fake.state.critic_momentum) == (0.5, 0.25)
        assert (generator.ema_model.weight.item(), critic.ema_model.weight.item()) == (3.0, 2.0)

    def test_add_event_handler(self):
        """A handler added with add_event_handler works too, with or without a name."""
        for arguments in ((), ("teacher",)):
            ema, fake = EMAHandler(linear(), momentum=0.5), FakeEngine()
            fake.add_event_handler(Events.ITERATION_COMPLETED, ema, *arguments)
            nn.init.constant_(ema.model.weight, 3.0)
            fake.fire(Events.ITERATION_COMPLETED)
            assert ema.ema_model.weight.item() == 2.0
            assert getattr(fake.state, *(arguments or ("ema_momentum",))) == 0.5
            assert list(fake.state_dict()["handlers"]) == ["EMAHandler"]

    def test_freed(self, no_gc):
        """The handle and the handler do not keep an engine alive."""
        import weakref

        ema = EMAHandler(linear())
        trainer = training(EMAHandler(linear()))
        handle, gone = ema.attach(trainer), weakref.ref(trainer)
        del trainer
        assert gone() is None
        assert ema.state_dict()["momentum"] == 0.0002
        handle.remove()
