"""The trainer for truncated backpropagation through time, compared with a plain loop."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import glowplug
from glowplug import Events, RunOutcome, Tbptt_Events, TbpttEvents, create_supervised_tbptt_trainer
from glowplug.loggers import Logger, OutputHandler

mse = nn.functional.mse_loss


class Memory(NamedTuple):
    level: Any
    rest: Any


class Recurrent(nn.Module):
    """A recurrent layer followed by a linear layer."""

    def __init__(self, layer, **options):
        super().__init__()
        self.layer = layer(2, 4, **options)
        self.head = nn.Linear(4, 1)

    def forward(self, x, hidden=None):
        y, hidden = self.layer(x, hidden)
        return self.head(y), hidden


class Scripted(nn.Module):
    """Model that returns a new given hidden state with a gradient, and records its arguments."""

    def __init__(self, make_hidden):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.make_hidden = make_hidden
        self.calls = []

    def forward(self, x, *hidden):
        self.calls.append((x, hidden))
        return x * self.weight, self.make_hidden(self.weight * 2)


def make(layer=nn.LSTM, **options):
    """Return a model and its optimizer, always with the same weights."""
    torch.manual_seed(0)
    model = Recurrent(layer, **options)
    return model, torch.optim.Adam(model.parameters(), lr=0.05)


def sequences(length=7, batches=3, time_first=True):
    """Return batches of five sequences of inputs and targets."""
    generator = torch.Generator().manual_seed(1)
    shape = (length, 5) if time_first else (5, length)
    return [
        (torch.randn(*shape, 2, generator=generator), torch.randn(*shape, 1, generator=generator))
        for _ in range(batches)
    ]


def ones(length=6):
    """Return one batch with a single sequence of ones."""
    return [(torch.ones(length, 1), torch.ones(length, 1))]


def weights(model):
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def reference_loop(model, optimizer, data, size, dim, epochs):
    """Train with a plain loop that slices the sequences; return the mean loss of each batch."""
    means = []
    for x, y in data * epochs:
        hidden, losses = None, []
        for begin in range(0, x.shape[dim], size):
            here = [slice(None)] * x.ndim
            here[dim] = slice(begin, begin + size)
            optimizer.zero_grad()
            y_pred, hidden = model(x[tuple(here)], hidden)
            loss = mse(y_pred, y[tuple(here)])
            loss.backward()
            optimizer.step()
            hidden = tuple(h.detach() for h in hidden) if isinstance(hidden, tuple) else hidden.detach()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    return means


class TestCounter:
    def test_belongs_to_run_and_trainer(self):
        """A new run counts from 1, and each trainer has a separate counter."""
        model, optimizer = make()
        first, second = (create_supervised_tbptt_trainer(model, optimizer, mse, 3) for _ in range(2))
        assert first.run(sequences(batches=2)).time_iteration == 6
        assert second.state.time_iteration == 0
        assert first.run(sequences(batches=1), max_epochs=1).time_iteration == 3

    def test_resumes(self):
        """The counter is part of the engine's state, so filters in a resumed run continue."""
        model, optimizer = make()
        saved, seen = [], []
        first, second = (create_supervised_tbptt_trainer(model, optimizer, mse, 4) for _ in range(2))
        first.add_event_handler(Events.ITERATION_COMPLETED(once=1), lambda e: saved.append(e.state_dict()))
        first.run(sequences(batches=3))
        assert saved[0]["time_iteration"] == 2
        second.add_event_handler(
            TbpttEvents.TIME_ITERATION_COMPLETED(every=3), lambda e: seen.append(e.state.time_iteration)
        )
        second.load_state_dict(saved[0])
        assert second.run(sequences(batches=3)).time_iteration == 6
        assert seen == [3, 6]


class TestChunks:
    @pytest.mark.parametrize(
        "make_hidden",
        [
            lambda h: h,
            lambda h: (h, h),
            lambda h: [h, (h, None)],
            lambda h: {"h": h, "more": {"c": h}},
            lambda h: Memory(h, [h]),
            lambda _: None,
        ],
        ids=["tensor", "tuple", "list", "dict", "named tuple", "None"],
    )
    def test_hidden_state_is_detached(self, make_hidden):
        """The first chunk has no hidden state; later chunks get the previous one, detached, in its original form."""
        model = Scripted(make_hidden)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        create_supervised_tbptt_trainer(model, optimizer, mse, 2).run(ones(), max_epochs=2)
        assert [hidden for _, hidden in model.calls[::3]] == [(), ()]
        for _, hidden in model.calls[1:3] + model.calls[4:]:
            (given,) = hidden
            # The repr of a tensor shows whether it has a graph.
            assert repr(given) == repr(make_hidden(torch.tensor([2.0])))

    def test_are_views_of_the_batch(self):
        """Chunks cover the sequence in order as views; the last one may be shorter."""
        model = Scripted(lambda h: h)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        x = torch.arange(7.0).unsqueeze(1)
        create_supervised_tbptt_trainer(model, optimizer, mse, 3).run([(x, x)])
        assert [chunk.flatten().tolist() for chunk, _ in model.calls] == [[0, 1, 2], [3, 4, 5], [6]]
        assert all(
            chunk.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for chunk, _ in model.calls
        )


class TestTraining:
    @pytest.mark.parametrize("size", [1, 3, 7, 20], ids=lambda size: f"chunks of {size}")
    @pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
    @pytest.mark.parametrize("dim", [0, 1, -2])
    def test_equals_a_plain_loop(self, layer, size, dim):
        """Weights equal those of a plain loop bit for bit, for any layer, chunk size and dimension (E-212)."""
        data = sequences(time_first=dim == 0)
        model, optimizer = make(layer, batch_first=dim != 0)
        expected_outputs = reference_loop(model, optimizer, data, size, dim, epochs=2)
        expected = weights(model)
        model, optimizer = make(layer, batch_first=dim != 0)
        trainer = create_supervised_tbptt_trainer(model, optimizer, mse, size, dim)
        outputs = []
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output.item()))
        trainer.run(data, max_epochs=2)
        assert torch.equal(weights(model), expected)
        assert outputs == pytest.approx(expected_outputs, rel=1e-6)

    def test_output_is_the_mean_loss(self):
        """The output is the detached mean loss of the chunks, and no tensor value is read (E-212)."""
        model, _ = make()
        model.to("meta")
        trainer = create_supervised_tbptt_trainer(
            model, torch.optim.SGD(model.parameters(), lr=0.1), mse, 3, device="meta"
        )
        chunks = []
        trainer.add_event_handler(
            TbpttEvents.TIME_ITERATION_COMPLETED, lambda e: chunks.append(e.state.output)
        )
        output = trainer.run(sequences(batches=1)).output
        assert len(chunks) == 3
        for value in (*chunks, output):
            assert (value.device.type, value.ndim, value.requires_grad) == ("meta", 0, False)

    def test_order_within_a_chunk(self):
        """Gradients are cleared and the optimizer steps once per chunk, between the two events (E-212)."""
        model, optimizer = make()
        log = []
        clear = optimizer.zero_grad
        optimizer.zero_grad = lambda: (log.append("clear"), clear())
        optimizer.register_step_post_hook(lambda *_: log.append("step"))
        trainer = create_supervised_tbptt_trainer(model, optimizer, mse, 4)
        trainer.add_event_handler(TbpttEvents.TIME_ITERATION_STARTED, log.append, "started")
        trainer.add_event_handler(TbpttEvents.TIME_ITERATION_COMPLETED, log.append, "completed")
        trainer.run(sequences(batches=1))
        assert log == ["started", "clear", "step", "completed"] * 2

    def test_prepare_batch_and_training_mode(self):
        """prepare_batch receives the documented arguments, and each batch sets the model to training mode."""
        calls = []

        def prepare_batch(batch, device, non_blocking):
            calls.append((batch, device, non_blocking))
            return ones()[0]

        model = Scripted(lambda h: h)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        trainer = create_supervised_tbptt_trainer(
            model, optimizer, mse, 2, device="cpu", non_blocking=True, prepare_batch=prepare_batch
        )
        model.eval()
        trainer.run(["raw"])
        assert calls == [("raw", "cpu", True)]
        assert model.training


class TestChunkEvents:
    def test_fire_for_each_chunk(self):
        """Both events fire for each chunk, with the loss of the last finished chunk as output (E-212)."""
        model, optimizer = make()
        trainer = create_supervised_tbptt_trainer(model, optimizer, mse, 3)
        seen = []

        def note(engine, name):
            seen.append((name, engine.state.iteration, engine.state.time_iteration, engine.state.output))

        trainer.add_event_handler(TbpttEvents.TIME_ITERATION_STARTED, note, "started")
        trainer.add_event_handler(TbpttEvents.TIME_ITERATION_COMPLETED, note, "completed")
        trainer.run(sequences(batches=2))
        assert [row[:3] for row in seen] == [
            (name, 1 + chunk // 3, chunk + 1) for chunk in range(6) for name in ("started", "completed")
        ]
        outputs = [row[3] for row in seen]
        for begin in (0, 6):
            assert outputs[begin] is None
            assert outputs[begin + 1] is outputs[begin + 2]
            assert outputs[begin + 3] is outputs[begin + 4]

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"every": 2}, [2, 4, 6]),
            ({"once": [1, 6]}, [1, 6]),
            ({"after": 2, "before": 5}, [3, 4]),
            ({"event_filter": lambda _, chunk: chunk % 3 == 0}, [3, 6]),
        ],
    )
    @pytest.mark.parametrize("event", list(TbpttEvents))
    def test_filters_count_chunks(self, event, options, expected):
        """Filters on chunk events count the chunks of the run across batches (E-212)."""
        model, optimizer = make()
        trainer = create_supervised_tbptt_trainer(model, optimizer, mse, 3)
        seen = []
        trainer.add_event_handler(event(**options), lambda e: seen.append(e.state.time_iteration))
        trainer.run(sequences(batches=2))
        assert seen == expected

    def test_terminate_ends_the_run_after_the_batch(self):
        """terminate() at a chunk event ends the run after the batch is finished."""
        model, optimizer = make()
        trainer = create_supervised_tbptt_trainer(model, optimizer, mse, 3)
        trainer.add_event_handler(TbpttEvents.TIME_ITERATION_COMPLETED(once=4), lambda e: e.terminate())
        state = trainer.run(sequences(), max_epochs=2)
        assert (state.outcome, state.iteration, state.time_iteration) == (RunOutcome.TERMINATED, 2, 6)

    def test_loggers_use_the_chunk_counter(self):
        """Records at chunk events have the number of the chunk as step."""

        class Steps(Logger):
            def write_scalars(self, scalars, step, timestamp):
                seen.append((step, *scalars))

        seen = []
        model, optimizer = make()
        trainer = create_supervised_tbptt_trainer(model, optimizer, mse, 3)
        with Steps() as logger:
            handler = OutputHandler("training", output_transform=lambda loss: {"chunk": loss})
            logger.attach(trainer, TbpttEvents.TIME_ITERATION_COMPLETED, handler)
            trainer.run(sequences(batches=2))
        assert seen == [(step, "training/chunk") for step in range(1, 7)]

    def test_ignite_names(self):
        """The event class is exported under both names, and its members are shown as TbpttEvents."""
        assert Tbptt_Events is TbpttEvents is glowplug.Tbptt_Events
        assert str(Tbptt_Events.TIME_ITERATION_STARTED) == "TbpttEvents.TIME_ITERATION_STARTED"


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"tbtt_step": 0}, ValueError, "tbtt_step must be at least 1, got 0"),
            ({"tbtt_step": -3}, ValueError, "at least 1, got -3"),
            ({"tbtt_step": 2.0}, TypeError, r"tbtt_step must be an integer, got 2\.0"),
            ({"tbtt_step": "2"}, TypeError, "tbtt_step must be an integer, got '2'"),
            ({"tbtt_step": 2, "dim": None}, TypeError, "dim must be an integer, got None"),
        ],
    )
    def test_invalid_arguments(self, arguments, error, message):
        """Invalid numbers are refused when the trainer is created."""
        model, optimizer = make()
        with pytest.raises(error, match=message):
            create_supervised_tbptt_trainer(model, optimizer, mse, **arguments)

    @pytest.mark.parametrize(
        ("batch", "dim", "error", "message"),
        [
            ((torch.ones(6, 1), torch.ones(5, 1)), 0, ValueError, r"dim=0; got x \(6, 1\) and y \(5, 1\)"),
            (
                (torch.ones(6, 1), torch.ones(6)),
                1,
                ValueError,
                r"y of shape \(6,\) has no time dimension dim=1",
            ),
            (
                (torch.ones(6, 1), torch.ones(6, 1)),
                -3,
                ValueError,
                r"x of shape \(6, 1\) has no time dimension dim=-3",
            ),
            (([torch.ones(6)], torch.ones(6)), 0, TypeError, "x must be a tensor.*got list.*prepare_batch"),
        ],
    )
    def test_invalid_batches(self, batch, dim, error, message):
        """A batch that cannot be split is refused with its shapes before the model is called."""
        model = Scripted(lambda h: h)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with pytest.raises(error, match=message):
            create_supervised_tbptt_trainer(model, optimizer, mse, 2, dim).run([batch])
        assert not model.calls

    def test_invalid_model_output(self):
        """A model output that is not a pair, or has a hidden state that cannot be detached, is refused."""
        plain = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
        with pytest.raises(TypeError, match=r"must return the pair \(y_pred, hidden\).*got Tensor"):
            create_supervised_tbptt_trainer(plain, optimizer, mse, 2).run(ones())
        model = Scripted(lambda h: {h})
        with pytest.raises(TypeError, match="contains an object of type set"):
            create_supervised_tbptt_trainer(model, optimizer, mse, 2).run(ones())
