"""Log handlers of models: norms and histograms of weights and gradients."""

import pytest

from glowplug import Events
from glowplug.exceptions import GlowplugWarning
from glowplug.loggers import (
    GradsHistHandler,
    GradsScalarHandler,
    Histogram,
    WeightsHistHandler,
    WeightsScalarHandler,
)
from glowplug.testing import FakeEngine

torch = pytest.importorskip("torch")


def model_with_gradients():
    """Return two layers, of which only the first has gradients."""
    model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False), torch.nn.Linear(1, 1, bias=False))
    model[0].weight.data = torch.tensor([[3.0, 4.0]])
    model[1].weight.data = torch.tensor([[2.0]])
    model[0].weight.grad = torch.tensor([[0.6, 0.8]])
    return model


def test_norms(logger):
    """Norms of weights and gradients have slashed names; parameters without gradient are skipped (L-031)."""
    model, fake = model_with_gradients(), FakeEngine()
    logger.attach(fake, Events.EPOCH_COMPLETED, WeightsScalarHandler(model))
    logger.attach(fake, Events.EPOCH_COMPLETED, GradsScalarHandler(model, reduction=torch.sum, tag="m"))
    fake.fire(Events.EPOCH_COMPLETED, epoch=2)
    (_, weights), (_, gradients) = logger.scalars
    assert weights == {"weights_norm/0/weight": 5.0, "weights_norm/1/weight": 2.0}
    assert gradients == pytest.approx({"m/grads_sum/0/weight": 1.4})


def test_histograms(logger):
    """Histograms describe the values of each parameter or gradient (L-031)."""
    model, fake = model_with_gradients(), FakeEngine()
    logger.attach(fake, Events.EPOCH_COMPLETED, WeightsHistHandler(model, whitelist=["1"]))
    logger.attach(fake, Events.EPOCH_COMPLETED, GradsHistHandler(model, tag="m"))
    fake.fire(Events.EPOCH_COMPLETED, epoch=2)
    assert logger.flush(5)
    weights, gradients = (call for call in logger.calls if call[0] == "log_histogram")
    assert weights[1:4] == ("weights/1/weight", Histogram([1], 2.0, 2.0, 2.0, 4.0), 2)
    assert gradients[1] == "m/grads/0/weight"
    assert gradients[2].total == pytest.approx(1.4)


@pytest.mark.parametrize("wrap", ["compile", "DataParallel", "both"])
def test_wrapped_models(logger, wrap):
    """Names are those of the model without DataParallel and torch.compile, also in the whitelist."""
    model, fake = model_with_gradients(), FakeEngine()
    if wrap != "compile":
        model = torch.nn.DataParallel(model)
    if wrap != "DataParallel":
        model = torch.compile(model, backend="eager")
    logger.attach(fake, Events.EPOCH_COMPLETED, WeightsScalarHandler(model, whitelist=["0"]))
    fake.fire(Events.EPOCH_COMPLETED)
    assert [list(scalars) for _, scalars in logger.scalars] == [["weights_norm/0/weight"]]


def test_submodule_called_module(logger):
    """A submodule of the user that is called module keeps its name."""
    model, fake = torch.nn.Module(), FakeEngine()
    model.module = torch.nn.Linear(1, 1, bias=False)
    logger.attach(fake, Events.EPOCH_COMPLETED, WeightsScalarHandler(model))
    fake.fire(Events.EPOCH_COMPLETED)
    assert [list(scalars) for _, scalars in logger.scalars] == [["weights_norm/module/weight"]]


def test_sparse_gradients(logger):
    """A sparse gradient gives its true norm; its histogram is left out with one warning."""
    model, fake = torch.nn.Embedding(5, 2, sparse=True), FakeEngine()
    model(torch.tensor([1, 1, 3])).sum().backward()
    logger.attach(fake, Events.EPOCH_COMPLETED, GradsScalarHandler(model))
    logger.attach(fake, Events.EPOCH_COMPLETED, GradsHistHandler(model))
    with pytest.warns(
        GlowplugWarning, match=r"GradsHistHandler: weight is not logged: its layout is torch.sparse_coo"
    ):
        fake.fire(Events.EPOCH_COMPLETED)
    fake.fire(Events.EPOCH_COMPLETED)
    expected = torch.linalg.vector_norm(model.weight.grad.to_dense()).item()
    assert [scalars for _, scalars in logger.scalars] == [{"grads_norm/weight": pytest.approx(expected)}] * 2
    assert not [call for call in logger.calls if call[0] == "log_histogram"]


@pytest.mark.parametrize("handler", [WeightsScalarHandler, WeightsHistHandler])
def test_quantized_parameters(logger, handler):
    """Parameters that are not floating-point numbers are left out with one warning, and the others are logged."""
    model, fake = model_with_gradients(), FakeEngine()
    for name, dtype in (("a", torch.uint8), ("b", torch.uint8), ("c", torch.float8_e4m3fn)):
        codes = torch.ones(2).to(dtype)
        model.register_parameter(name, torch.nn.Parameter(codes, requires_grad=False))
    logger.attach(fake, Events.EPOCH_COMPLETED, handler(model))
    with pytest.warns(GlowplugWarning, match="is not logged") as caught:
        fake.fire(Events.EPOCH_COMPLETED)
    fake.fire(Events.EPOCH_COMPLETED)
    assert [str(warning.message).split(";")[0] for warning in caught] == [
        f"{handler.__name__}: a is not logged: its dtype is torch.uint8",
        f"{handler.__name__}: c is not logged: its dtype is torch.float8_e4m3fn",
    ]
    assert logger.flush(5)
    assert len([call for call in logger.calls if call[0] == handler.method]) in (2, 4)


def test_sharded_parameters(run_ranks):
    """Parameters that are sharded over ranks are left out with one warning, and no rank waits."""

    def scenario(rank):
        import warnings

        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import Shard, distribute_tensor

        from glowplug import Engine, Events
        from glowplug.loggers import Logger, WeightsScalarHandler

        class Kept(Logger):
            uses_spool = False
            got = []

            def write_scalars(self, scalars, step, timestamp):
                self.got.append(sorted(scalars))

        model = torch.nn.Linear(2, 4)
        mesh = init_device_mesh("cpu", (2,))
        model.weight = torch.nn.Parameter(distribute_tensor(model.weight.detach(), mesh, [Shard(0)]))
        trainer = Engine(lambda engine, batch: None)
        with warnings.catch_warnings(record=True) as caught, Kept() as logger:
            warnings.simplefilter("always")
            logger.attach(trainer, Events.EPOCH_COMPLETED, WeightsScalarHandler(model))
            trainer.run([0], max_epochs=2)
        return [logger.got, [str(each.message) for each in caught if "not logged" in str(each.message)]]

    (first, messages), (second, _) = run_ranks(scenario)
    assert first == [["weights_norm/bias"]] * 2
    assert second == []
    assert len(messages) == 1
    assert "weight is not logged: it is sharded over ranks" in messages[0]


@pytest.mark.timeout(300)
def test_fully_sharded_models(run_ranks):
    """No value of one rank alone is logged: neither of FullyShardedDataParallel, nor a DTensor of fully_shard."""

    def scenario(rank):
        import warnings

        import torch
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
        from torch.distributed.tensor import Replicate

        from glowplug import Engine, Events
        from glowplug.loggers import GradsHistHandler, Logger, WeightsScalarHandler

        class Kept(Logger):
            uses_spool = False
            got = []

            def write_scalars(self, scalars, step, timestamp):
                self.got.append(scalars)

            def write_histogram(self, name, histogram, step, timestamp):
                self.got.append(name)

        older = FullyShardedDataParallel(
            torch.nn.Linear(2, 1), device_id=torch.device("cpu"), use_orig_params=True
        )
        model = fully_shard(torch.nn.Linear(2, 2, bias=False), mesh=init_device_mesh("cpu", (2,)))
        torch.nn.init.ones_(model.weight)
        norm = torch.linalg.vector_norm(model.weight.detach())
        total = norm.full_tensor()
        sums = model.weight.detach().sum(0).redistribute(placements=[Replicate()])
        output = {"norm": norm, "rows": model.weight[:, 0], "total": total, "sums": sums}
        trainer = Engine(lambda engine, batch: output)
        with warnings.catch_warnings(record=True) as caught, Kept() as logger:
            warnings.simplefilter("always")
            logger.attach(trainer, Events.EPOCH_COMPLETED, WeightsScalarHandler(older))
            logger.attach(trainer, Events.EPOCH_COMPLETED, GradsHistHandler(older))
            logger.attach_output_handler(
                trainer, Events.ITERATION_COMPLETED, "t", output_transform=lambda output: output
            )
            trainer.run([0], max_epochs=2)
        return [
            logger.got,
            [text for each in caught if "logged" in (text := str(each.message)) or "omit" in text],
        ]

    (first, messages), (second, _) = run_ranks(scenario)
    assert first == [{"t/total": 2.0, "t/sums/0": 2.0, "t/sums/1": 2.0}] * 2
    assert second == []
    assert {message.split("; ")[0] for message in messages} == {
        *(
            f"{name}: the model is not logged: FullyShardedDataParallel shards it over ranks"
            for name in ("GradsHistHandler", "WeightsScalarHandler")
        ),
        *(
            f"OutputHandler('t'): t/{name} is a DTensor of shape {shape} with values of this rank alone (pass "
            "value.full_tensor(), which must be called on all ranks), which Kept cannot log"
            for name, shape in (("norm", ()), ("rows", (2,)))
        ),
    }
    assert len(messages) == 4


def test_whitelist():
    """A whitelist function selects by name and parameter, and an empty selection is an error (L-031)."""
    model = model_with_gradients()
    chosen = WeightsScalarHandler(model, whitelist=lambda name, parameter: parameter.numel() == 2)
    assert chosen._chosen == ["0.weight"]
    with pytest.raises(
        ValueError,
        match=r"whitelist matches no parameter; the parameters of the model are 0\.weight, 1\.weight",
    ):
        WeightsScalarHandler(model, whitelist=["head"])


def test_reduction_must_return_one_number():
    """A reduction that returns several numbers is refused by the constructor (L-031)."""
    with pytest.raises(TypeError, match=r"must return one number; abs returned a Tensor of shape \(4, 2\)"):
        WeightsScalarHandler(model_with_gradients(), reduction=torch.abs)
