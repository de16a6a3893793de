"""The with block in which a model has the averaged weights."""

import pytest
import torch
from torch import nn

from glowplug import Engine, Events
from glowplug.testing import FakeEngine
from glowplug_ema import EMAHandler, SWAHandler


def network():
    """Return a network with buffers."""
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def weights_of(model):
    """Return copies of the weights and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    """Return whether two models' weights are equal."""
    return all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


def changed(handler):
    """Train the handler's model for one step, and update the average; return the handler."""
    model = handler.model
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.randn(8, 2)).square().sum().backward()
    optimizer.step()
    handler(FakeEngine())
    optimizer.step()
    return handler


HANDLERS = pytest.mark.parametrize(
    "make",
    [
        lambda model: EMAHandler(model, momentum=0.5, handle_buffers="copy"),
        lambda model: EMAHandler(model, momentum=0.5, handle_buffers="update"),
        lambda model: EMAHandler(model, momentum=0.5, handle_buffers="ema_train"),
        SWAHandler,
    ],
    ids=["copy", "update", "ema_train", "swa"],
)


@HANDLERS
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_block(make, error):
    """The model has the averaged weights and buffers in the block, and its own afterwards, also after an exception."""
    handler = changed(make(network()))
    online, averaged = weights_of(handler.model), weights_of(handler._copy.averaged)
    tensors = [(id(tensor), tensor.data_ptr()) for tensor in handler.model.parameters()]
    assert not same(online, averaged)

    def use():
        with handler.averaged_weights() as model:
            assert model is handler.model
            assert same(weights_of(model), averaged)
            assert same(handler.state_dict()[next(k for k in handler.state_dict() if "model" in k)], averaged)
            assert [(id(tensor), tensor.data_ptr()) for tensor in model.parameters()] == tensors
            if error is not None:
                raise error

    if error is None:
        use()
    else:
        with pytest.raises(error):
            use()
    assert same(weights_of(handler.model), online)
    assert same(weights_of(handler._copy.averaged), averaged)


def test_nested():
    """Only the outer block gives the model its weights back."""
    ema = changed(EMAHandler(network(), momentum=0.5))
    online, averaged = weights_of(ema.model), weights_of(ema.ema_model)
    with ema.averaged_weights():
        with ema.averaged_weights():
            pass
        with pytest.raises(RuntimeError, match="within averaged_weights"):
            ema(FakeEngine())
        assert same(weights_of(ema.model), averaged)
    assert same(weights_of(ema.model), online)


def test_two_handlers():
    """Blocks of two handlers of one model can be nested."""
    model = network()
    ema, swa = EMAHandler(model, momentum=0.5), SWAHandler(model)
    swa(FakeEngine())
    changed(ema)
    online = weights_of(model)
    with ema.averaged_weights():
        with swa.averaged_weights():
            assert same(weights_of(model), weights_of(swa.swa_model))
        assert same(weights_of(model), weights_of(ema.ema_model))
    assert same(weights_of(model), online)


@pytest.mark.parametrize("make", [EMAHandler, SWAHandler])
def test_training_in_the_block(make):
    """Training the model in the block raises an error that says why, and the weights are restored."""
    handler = changed(make(network()))
    online = weights_of(handler.model)
    trainer = Engine(lambda engine, batch: None)
    handler.attach(trainer, event_name=Events.ITERATION_COMPLETED)
    reason = rf"{make.__name__}: the model was trained within averaged_weights"
    with pytest.raises(RuntimeError, match=reason), handler.averaged_weights():
        trainer.run([0])
    assert same(weights_of(handler.model), online)


def test_evaluation_does_not_change_training():
    """A training that is evaluated with averaged weights in each epoch ends with the same weights as one that is not."""

    def train(*, evaluate):
        torch.manual_seed(0)
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

        def step(engine, batch):
            model.train()
            optimizer.zero_grad()
            model(batch).square().sum().backward()
            optimizer.step()

        def predict(engine, batch):
            model.eval()
            with torch.inference_mode():
                return model(batch)

        trainer, evaluator = Engine(step), Engine(predict)
        ema = EMAHandler(model, momentum=0.1)
        ema.attach(trainer)

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate(engine):
            if evaluate:
                with ema.averaged_weights():
                    evaluator.run(batches)
                assert torch.equal(evaluator.state.output, ema.ema_model(batches[-1]))

        batches = torch.randn(4, 8, 2)
        trainer.run(batches, max_epochs=3)
        return {**weights_of(model), **{f"ema.{k}": v for k, v in weights_of(ema.ema_model).items()}}

    assert same(train(evaluate=True), train(evaluate=False))


class TestWrappers:
    def test_data_parallel(self):
        """The model inside DataParallel is averaged, under its plain names (H-101)."""
        model = network()
        ema = EMAHandler(nn.DataParallel(nn.DataParallel(model)))
        assert ema.model is model
        assert ema.ema_model.state_dict().keys() == model.state_dict().keys()

    def test_compiled(self):
        """The model inside torch.compile is averaged; the compiled model computes with the averaged weights in the block."""
        model = network()
        ema = EMAHandler(torch.compile(model, backend="eager"), momentum=0.5)
        assert ema.model is model
        compiled = torch.compile(model, backend="eager").eval()
        x = torch.randn(4, 2)
        online = compiled(x)
        changed(ema).model.eval()
        with ema.averaged_weights():
            torch.testing.assert_close(compiled(x), ema.ema_model(x))
        assert not torch.equal(compiled(x), online)

    def test_compiled_in_place(self):
        """A model compiled with model.compile() can be averaged."""
        model = network()
        model.compile(backend="eager")
        ema = changed(EMAHandler(model, momentum=0.5))
        x = torch.randn(4, 2)
        with ema.averaged_weights():
            torch.testing.assert_close(model.eval()(x), ema.ema_model(x))

    def test_distributed(self, run_ranks):
        """With DistributedDataParallel, all ranks have the same average, and continue after a block (H-101)."""

        def train(rank):
            import torch
            from torch import nn

            from glowplug import Engine, Events
            from glowplug_ema import EMAHandler

            torch.manual_seed(rank)
            model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

            def step(engine, batch):
                optimizer.zero_grad()
                model(batch).square().sum().backward()
                optimizer.step()

            trainer, ema = Engine(step), EMAHandler(model, momentum=0.5)
            ema.attach(trainer)

            @trainer.on(Events.EPOCH_COMPLETED)
            def validate(engine):
                with ema.averaged_weights():
                    assert torch.equal(model.module.weight, ema.ema_model.weight)

            trainer.run(torch.randn(4, 8, 2), max_epochs=2)
            return [
                ema.ema_model.weight.tolist(),
                model.module.weight.tolist(),
                list(ema.ema_model.state_dict()),
            ]

        first, second = run_ranks(train)
        assert first == second
        assert first[0] != first[1]
        assert first[2] == ["weight", "bias"]
