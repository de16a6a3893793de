"""The factories of trainers and evaluators, and their steps."""

import copy
from collections import OrderedDict, UserDict, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from glowplug import (
    Engine,
    Events,
    Metric,
    Phase,
    convert_tensor,
    create_supervised_evaluator,
    create_supervised_trainer,
    prepare_batch_from_keys,
    supervised_evaluation_step,
    supervised_training_step,
)

mse = nn.functional.mse_loss


class Pair(NamedTuple):
    x: Any
    y: Any


def make_model():
    """Return a model and its optimizer, always with the same weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.0), nn.Linear(4, 1))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def make_data(batches=4, size=5):
    """Return batches of inputs and targets."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 3, generator=generator), torch.randn(size, 1, generator=generator))
        for _ in range(batches)
    ]


def weights(model):
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def reference_loop(data, epochs, accumulate=1):
    """Train with a plain loop; return the weights and the losses."""
    model, optimizer = make_model()
    model.train()
    losses = []
    for number, (x, y) in enumerate(data * epochs):
        loss = mse(model(x), y)
        losses.append(loss.item())
        (loss / accumulate).backward()
        if (number + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return weights(model), losses


class TestGradientAccumulation:
    def test_optimizer_steps(self):
        """Ten iterations in windows of three step at 3, 6 and 9, and clear gradients at each window's start (E-192)."""
        model, optimizer = make_model()
        trainer = create_supervised_trainer(model, optimizer, mse, gradient_accumulation_steps=3)
        steps, cleared = [], []
        optimizer.register_step_post_hook(lambda *_: steps.append(trainer.state.iteration))
        clear = optimizer.zero_grad
        optimizer.zero_grad = lambda: (cleared.append(trainer.state.iteration), clear())
        trainer.run(make_data(5), max_epochs=2)
        assert steps == [3, 6, 9]
        assert cleared == [1, 4, 7, 10]

    def test_incomplete_window(self):
        """A continued run completes an incomplete window, and a new run discards it (E-192)."""
        data = make_data(5)
        expected, _ = reference_loop(data, 2, accumulate=2)
        model, optimizer = make_model()
        trainer = create_supervised_trainer(model, optimizer, mse, gradient_accumulation_steps=2)
        trainer.run(data, max_epochs=1)
        assert not torch.equal(weights(model), expected)
        trainer.run(data, max_epochs=2)
        assert torch.equal(weights(model), expected)
        model, optimizer = make_model()
        trainer = create_supervised_trainer(model, optimizer, mse, gradient_accumulation_steps=2)
        trainer.run(data[:1])
        trainer.run(data)
        assert torch.equal(weights(model), reference_loop(data, 1, accumulate=2)[0])


class TestTrainer:
    @pytest.mark.parametrize("accumulate", [1, 2, 3])
    def test_equals_a_plain_loop(self, accumulate):
        """Weights and losses equal those of a plain loop, also if accumulation windows cross epochs (E-190, E-192)."""
        data = make_data()
        expected, losses = reference_loop(data, 2, accumulate)
        model, optimizer = make_model()
        trainer, outputs = (
            create_supervised_trainer(model, optimizer, mse, gradient_accumulation_steps=accumulate),
            [],
        )
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output.item()))
        trainer.run(data, max_epochs=2)
        assert torch.equal(weights(model), expected)
        assert outputs == losses

    def test_output_is_the_detached_loss(self):
        """The default output is the loss as a detached tensor (E-190)."""
        model, optimizer = make_model()
        output = create_supervised_trainer(model, optimizer, mse).run(make_data(1)).output
        assert isinstance(output, torch.Tensor)
        assert output.ndim == 0
        assert not output.requires_grad

    def test_user_functions(self):
        """prepare_batch, model_fn, model_transform and output_transform receive the documented arguments (E-190)."""
        model, optimizer = make_model()
        calls = []

        def prepare_batch(batch, device, non_blocking):
            calls.append((device, non_blocking))
            return batch["x"], batch["y"]

        trainer = create_supervised_trainer(
            model,
            optimizer,
            mse,
            device="cpu",
            non_blocking=True,
            prepare_batch=prepare_batch,
            model_fn=lambda model, x: {"out": model(x)},
            model_transform=lambda output: output["out"],
            output_transform=lambda x, y, y_pred, loss: (x, y, y_pred.shape, loss.item()),
        )
        x, y = make_data(1)[0]
        got_x, got_y, shape, loss = trainer.run([{"x": x, "y": y}]).output
        assert got_x is x
        assert got_y is y
        assert shape == (5, 1)
        assert isinstance(loss, float)
        assert calls == [("cpu", True)]

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_no_synchronisation(self, accumulate):
        """Training and evaluation steps read no tensor value, so they run on the meta device (E-190)."""
        model = make_model()[0].to("meta")
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer = create_supervised_trainer(
            model, optimizer, mse, device="meta", gradient_accumulation_steps=accumulate, deterministic=True
        )
        assert trainer.run(make_data(), max_epochs=2).output.device.type == "meta"
        y_pred, _ = create_supervised_evaluator(model, device="meta").run(make_data()).output
        assert y_pred.device.type == "meta"

    def test_device(self):
        """Batches are moved to the device, the model is not (E-191)."""
        seen = []
        model = nn.Linear(3, 1)

        def model_fn(model, x):
            seen.append((x.device.type, next(model.parameters()).device.type))
            return torch.zeros(1, device="meta")

        evaluator = create_supervised_evaluator(model, device="meta", model_fn=model_fn)
        _, y = evaluator.run(make_data(1)).output
        assert seen == [("meta", "cpu")]
        assert y.device.type == "meta"


class TestMixedPrecision:
    def test_scaler(self):
        """scaler=True creates a scaler in the state; a given scaler is used but not stored there (E-193)."""
        model, optimizer = make_model()
        trainer = create_supervised_trainer(model, optimizer, mse, amp_mode="amp", scaler=True)
        assert isinstance(trainer.state.scaler, torch.amp.GradScaler)
        own = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
        trainer = create_supervised_trainer(model, optimizer, mse, amp_mode="amp", scaler=own)
        before = weights(model)
        trainer.run(make_data(2))
        assert not hasattr(trainer.state, "scaler")
        assert own.get_scale() == 32.0
        assert not torch.equal(weights(model), before)

    @pytest.mark.parametrize("own", [True, False], ids=["given", "created"])
    def test_scale_is_resumed(self, own, tmp_path):
        """A resumed run continues with the saved scale and ends with the weights of the uninterrupted run (E-193)."""

        def training():
            model, optimizer = make_model()
            # The first step overflows, so the scale decreases.
            scaler = torch.amp.GradScaler("cpu", growth_interval=7) if own else True
            trainer = create_supervised_trainer(model, optimizer, mse, amp_mode="amp", scaler=scaler)
            used = scaler if own else trainer.state.scaler
            return {"model": model, "optimizer": optimizer, "trainer": trainer}, used

        data = make_data(4)
        data[0] = (data[0][0], data[0][1] * 1e36)
        whole, expected = training()
        whole["trainer"].run(data, max_epochs=3)
        first, _ = training()
        first["trainer"].run(data, max_epochs=1)
        torch.save({name: each.state_dict() for name, each in first.items()}, tmp_path / "state.pt")
        second, scaler = training()
        for name, state in torch.load(tmp_path / "state.pt", weights_only=True).items():
            second[name].load_state_dict(state)
        assert scaler.get_scale() == first["trainer"].state_dict()["handlers"]["GradScaler"]["scale"] != 65536
        second["trainer"].run(data, max_epochs=3)
        assert scaler.state_dict() == expected.state_dict()
        assert torch.equal(weights(second["model"]), weights(whole["model"]))

    def test_autocast(self):
        """amp_mode runs the model in the device's lower precision (E-193)."""
        model, optimizer = make_model()
        for mode, dtype in (("amp", torch.bfloat16), (None, torch.float32)):
            trainer = create_supervised_trainer(
                model, optimizer, mse, amp_mode=mode, output_transform=lambda x, y, y_pred, loss: y_pred.dtype
            )
            assert trainer.run(make_data(1)).output is dtype
            evaluator = create_supervised_evaluator(model, amp_mode=mode)
            assert evaluator.run(make_data(1)).output[0].dtype is dtype


class TestSteps:
    def test_custom_engine(self):
        """The step functions work with a custom Engine (E-195, E-197)."""
        model, optimizer = make_model()
        expected, _ = reference_loop(make_data(), 1)
        Engine(supervised_training_step(model, optimizer, mse)).run(make_data())
        assert torch.equal(weights(model), expected)
        y_pred, y = Engine(supervised_evaluation_step(model)).run(make_data()).output
        assert torch.equal(y, make_data()[-1][1])
        assert not y_pred.requires_grad

    def test_import_from_engine_module(self):
        """glowplug.engine exports the factories, as ignite.engine does."""
        from glowplug import engine

        assert engine.create_supervised_trainer is create_supervised_trainer
        assert engine.create_supervised_evaluator is create_supervised_evaluator


class TestEvaluator:
    def test_metrics_and_eval_mode(self):
        """Metrics are attached under their names, and the next training step restores training mode (E-196)."""

        class Examples(Metric):
            def reset(self):
                self.count = 0

            def update(self, output):
                y_pred, y = output
                assert y_pred.shape == y.shape
                self.count += len(y)

            def compute(self):
                return self.count

        model, optimizer = make_model()
        trainer = create_supervised_trainer(model, optimizer, mse)
        evaluator = create_supervised_evaluator(model, {"examples": Examples()})
        assert evaluator.run(make_data()).metrics == {"examples": 20}
        assert not model.training
        trainer.run(make_data(1))
        assert model.training


class TestDeterministicEngine:
    def test_setting_is_restored(self):
        """Deterministic algorithms are enabled during the run, and the setting is restored even after an error."""
        model, optimizer = make_model()
        modes = []

        def loss_fn(y_pred, y):
            modes.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark))
            return mse(y_pred, y)

        trainer = create_supervised_trainer(model, optimizer, loss_fn, deterministic=True)
        torch.backends.cudnn.benchmark = True
        try:
            trainer.run(make_data(1))
            assert modes == [(True, False)]
            assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == (
                False,
                True,
            )
            with pytest.raises(ValueError, match="a tuple of length 3"):
                trainer.run([(1, 2, 3)])
            assert (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark) == (
                False,
                True,
            )
        finally:
            torch.backends.cudnn.benchmark = False
            torch.use_deterministic_algorithms(False)

    def test_run_that_fails_early(self):
        """A run that fails before it changes the setting leaves the setting unchanged."""

        class FailsFirst:
            phase = Phase.METRICS

            def __call__(self):
                raise RuntimeError("before all others")

        model, optimizer = make_model()
        trainer = create_supervised_trainer(model, optimizer, mse, deterministic=True)
        trainer.run(make_data(1))
        trainer.add_event_handler(Events.STARTED, FailsFirst())
        torch.use_deterministic_algorithms(True)
        try:
            with pytest.raises(RuntimeError, match="before all others"):
                trainer.run(make_data(1))
            assert torch.are_deterministic_algorithms_enabled()
        finally:
            torch.use_deterministic_algorithms(False)


class TestBatches:
    @pytest.mark.parametrize(
        ("batch", "error", "message"),
        [
            (
                {"x": torch.ones(2, 3), "y": torch.ones(2, 1)},
                TypeError,
                r"a dict with the keys \['x', 'y'\]; pass prepare_batch=prepare_batch_from_keys\(",
            ),
            (UserDict(x=1, y=2), TypeError, "a UserDict with the keys .*prepare_batch_from_keys"),
            (torch.ones(2, 3), TypeError, r"a Tensor of shape \(2, 3\); pass prepare_batch=f, where f"),
            (np.ones((2, 3)), TypeError, r"a ndarray of shape \(2, 3\); pass prepare_batch="),
            ("xy", TypeError, "a str; pass prepare_batch="),
            ({"x", "y"}, TypeError, "a set; pass prepare_batch="),
            (None, TypeError, "a NoneType; pass prepare_batch="),
            ([torch.ones(2, 3)], ValueError, "a list of length 1; pass prepare_batch="),
            ((1, 2, 3), ValueError, "a tuple of length 3; pass prepare_batch="),
        ],
    )
    @pytest.mark.parametrize("engine", ["trainer", "evaluator"])
    def test_other_than_a_pair(self, engine, batch, error, message):
        """A batch that is not a pair is refused with an error that names prepare_batch (E-191)."""
        model, optimizer = make_model()
        made = {
            "trainer": lambda: create_supervised_trainer(model, optimizer, mse),
            "evaluator": lambda: create_supervised_evaluator(model),
        }[engine]()
        with pytest.raises(error, match=rf"the batch must be a pair \(x, y\), got {message}"):
            made.run([batch])

    def test_from_keys(self):
        """Training on dicts with prepare_batch_from_keys gives the weights of training on pairs (E-191)."""
        pairs = make_data()
        expected, _ = reference_loop(pairs, 1)
        model, optimizer = make_model()
        prepare_batch = copy.deepcopy(prepare_batch_from_keys("image", "label"))
        trainer = create_supervised_trainer(model, optimizer, mse, prepare_batch=prepare_batch)
        trainer.run([{"image": x, "label": y, "names": ["a"], "size": 5} for x, y in pairs])
        assert torch.equal(weights(model), expected)

    def test_from_several_keys(self):
        """With several keys, x is a dict of these entries, on the device (E-191)."""
        batch = {"ids": torch.ones(2), "mask": torch.ones(2), "y": torch.ones(2)}
        x, y = prepare_batch_from_keys(["ids", "mask"], "y")(batch, device="meta", non_blocking=True)
        assert {name: value.device.type for name, value in x.items()} == {"ids": "meta", "mask": "meta"}
        assert y.device.type == "meta"

    @pytest.mark.parametrize(
        ("batch", "error", "message"),
        [
            (
                {"image": 1, "labels": 2},
                KeyError,
                r"no key 'label', only the keys \['image', 'labels'\].*mean 'labels'",
            ),
            ((1, 2), TypeError, r"prepare_batch_from_keys\('image', 'label'\): .* mapping, got a tuple"),
        ],
    )
    def test_from_keys_of_another_batch(self, batch, error, message):
        """A missing key and a batch without keys are reported with what the batch has (E-191)."""
        with pytest.raises(error, match=message):
            prepare_batch_from_keys("image", "label")(batch)

    @pytest.mark.parametrize("keys", [None, 3, [], ["x", 1]])
    def test_invalid_keys(self, keys):
        """Keys that are not strings are refused when they are given (E-191)."""
        with pytest.raises(TypeError, match="x must be a key or a sequence of keys"):
            prepare_batch_from_keys(keys, "y")


class TestConvertTensor:
    def test_keeps_structures(self):
        """Nested tensors are moved, and container types and strings are kept (U-001)."""
        batch = {"pair": Pair(torch.ones(1), [torch.ones(2), "text"]), "bytes": (b"x",)}
        moved = convert_tensor(batch, "meta", non_blocking=True)
        assert type(moved["pair"]) is Pair
        assert moved["pair"].x.device.type == "meta"
        assert moved["pair"].y[0].device.type == "meta"
        assert moved["pair"].y[1] == "text"
        assert moved["bytes"] == (b"x",)
        assert convert_tensor(batch["pair"].x) is batch["pair"].x

    def test_keeps_attributes_of_containers(self):
        """A defaultdict keeps its default factory, an ordered dict its type, and the original is unchanged (U-001)."""
        original = defaultdict(list, x=torch.ones(1))
        moved = convert_tensor({"default": original, "ordered": OrderedDict(x=torch.ones(1))}, "meta")
        assert moved["default"]["x"].device.type == "meta"
        assert moved["default"]["absent"] == []
        assert type(moved["ordered"]) is OrderedDict
        assert original["x"].device.type == "cpu"

    def test_packed_sequence(self):
        """A packed sequence is moved as a whole, so its batch sizes stay on the CPU, also in a pair (U-001)."""
        packed = pack_sequence([torch.ones(3), torch.ones(2)])
        moved, absent = convert_tensor((packed, None), "meta")
        assert type(moved) is type(packed)
        assert (moved.data.device.type, moved.batch_sizes.device.type) == ("meta", "cpu")
        assert absent is None
        assert convert_tensor(packed) is packed

    def test_result_of_a_torch_function(self):
        """The named result of a torch function keeps its type (U-001)."""
        largest = torch.ones(2, 2).max(0)
        assert convert_tensor(largest, "meta").indices.device.type == "meta"

    @pytest.mark.parametrize("leaf", [3, object()])
    def test_other_leaves_are_refused(self, leaf):
        """A value that is neither tensor nor string is refused, and the message names the remedy (U-001)."""
        with pytest.raises(
            TypeError, match=f"contains an object of type {type(leaf).__name__}.*prepare_batch"
        ):
            convert_tensor([torch.ones(1), leaf])


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"amp_mode": "apex"}, "amp_mode must be 'amp' .* or None, got 'apex'"),
            ({"amp_mode": "typo"}, "got 'typo'"),
            ({"amp_mode": "amp", "device": "mps"}, "does not support the device type 'mps'"),
            ({"amp_mode": "amp", "device": "meta"}, "does not support the device type 'meta'"),
            ({"scaler": True}, "scaler needs amp_mode='amp'"),
            ({"gradient_accumulation_steps": 0}, "must be at least 1, got 0"),
            ({"gradient_accumulation_steps": -2}, "must be at least 1, got -2"),
        ],
    )
    def test_invalid_arguments(self, arguments, message):
        """Invalid arguments are refused when the trainer is created (E-194)."""
        model, optimizer = make_model()
        with pytest.raises(ValueError, match=message):
            create_supervised_trainer(model, optimizer, mse, **arguments)

    def test_accumulation_steps_must_be_an_integer(self):
        """gradient_accumulation_steps=2.5 is refused when the trainer is created (E-194)."""
        model, optimizer = make_model()
        with pytest.raises(TypeError, match=r"gradient_accumulation_steps must be an integer, got 2\.5"):
            create_supervised_trainer(model, optimizer, mse, gradient_accumulation_steps=2.5)

    def test_evaluator_amp_mode(self):
        """create_supervised_evaluator refuses an unknown amp_mode (E-194)."""
        with pytest.raises(ValueError, match="got 'typo'"):
            create_supervised_evaluator(nn.Linear(1, 1), amp_mode="typo")

    def test_foreign_metrics_are_refused(self):
        """A metric of another library is refused, and the message shows the torchmetrics wrapper (M-092)."""
        with pytest.raises(
            TypeError, match=r"metrics\['f1'\] is a dict, not a glowplug metric.*TorchMetric\(metric\)"
        ):
            create_supervised_evaluator(make_model()[0], {"f1": {}})
