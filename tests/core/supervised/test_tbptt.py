"""The trainer for truncated backpropagation through time, against a loop written by hand."""

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
    """A recurrent layer and a linear one on top."""

    def __init__(self, layer, **options):
        super().__init__()
        self.layer = layer(2, 4, **options)
        self.head = nn.Linear(4, 1)

    def forward(self, x, hidden=None):
        y, hidden = self.layer(x, hidden)
        return self.head(y), hidden


class Scripted(nn.Module):
    """Returns a given hidden state, made anew with a gradient, and records what it is called with."""

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
    """Return one batch: a single sequence of ones."""
    return [(torch.ones(length, 1), torch.ones(length, 1))]


def weights(model):
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def hand_written(model, optimizer, data, size, dim, epochs):
    """Train with a plain loop that cuts the sequences by index; return the mean loss of each batch."""
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


@pytest.mark.parametrize("size", [1, 3, 7, 20], ids=lambda size: f"chunks of {size}")
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("dim", [0, 1, -2])
def test_is_the_hand_written_loop(layer, size, dim):
    """Weights are bit for bit those of a plain loop: tuples and tensors as state, short last chunks, any dimension (E-212)."""
    data = sequences(time_first=dim == 0)
    model, optimizer = make(layer, batch_first=dim != 0)
    expected_outputs = hand_written(model, optimizer, data, size, dim, epochs=2)
    expected = weights(model)
    model, optimizer = make(layer, batch_first=dim != 0)
    trainer = create_supervised_tbptt_trainer(model, optimizer, mse, size, dim)
    outputs = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: outputs.append(e.state.output.item()))
    trainer.run(data, max_epochs=2)
    assert torch.equal(weights(model), expected)
    assert outputs == pytest.approx(expected_outputs, rel=1e-6)


def test_output_is_the_mean_of_the_chunks_on_the_device():
    """Output and losses are detached tensors, and nothing reads a value: on the meta device that would raise (E-212)."""
    model, _ = make()
    model.to("meta")
    trainer = create_supervised_tbptt_trainer(
        model, torch.optim.SGD(model.parameters(), lr=0.1), mse, 3, device="meta"
    )
    chunks = []
    trainer.add_event_handler(TbpttEvents.TIME_ITERATION_COMPLETED, lambda e: chunks.append(e.state.output))
    output = trainer.run(sequences(batches=1)).output
    assert len(chunks) == 3
    for value in (*chunks, output):
        assert (value.device.type, value.ndim, value.requires_grad) == ("meta", 0, False)


def test_events_of_a_chunk():
    """Both events fire for each chunk of each batch, with the loss of the last chunk that is done as the output (E-212)."""
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
def test_filters_count_chunks(event, options, expected):
    """Filters at the events of a chunk count the chunks of the run, across batches (E-212)."""
    model, optimizer = make()
    trainer = create_supervised_tbptt_trainer(model, optimizer, mse, 3)
    seen = []
    trainer.add_event_handler(event(**options), lambda e: seen.append(e.state.time_iteration))
    trainer.run(sequences(batches=2))
    assert seen == expected


def test_order_of_work_in_a_chunk():
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


def test_counter_belongs_to_the_run_and_to_the_trainer():
    """A new run counts from 1 again, and another trainer has a counter of its own."""
    model, optimizer = make()
    first, second = (create_supervised_tbptt_trainer(model, optimizer, mse, 3) for _ in range(2))
    assert first.run(sequences(batches=2)).time_iteration == 6
    assert second.state.time_iteration == 0
    assert first.run(sequences(batches=1), max_epochs=1).time_iteration == 3


def test_counter_goes_on_after_a_resume():
    """The counter travels with the state, so that a filter in a resumed run goes on where it was."""
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
def test_hidden_state_goes_on_without_its_graph(make_hidden):
    """The first chunk is called without a state; later ones get the last one in its form, cut from its gradients."""
    model = Scripted(make_hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    create_supervised_tbptt_trainer(model, optimizer, mse, 2).run(ones(), max_epochs=2)
    assert [hidden for _, hidden in model.calls[::3]] == [(), ()]
    for _, hidden in model.calls[1:3] + model.calls[4:]:
        (given,) = hidden
        assert repr(given) == repr(
            make_hidden(torch.tensor([2.0]))
        )  # the repr of a tensor tells of its graph


def test_chunks_are_views_of_the_batch():
    """Chunks cover the sequence in order, the last one with what is left, and copy nothing."""
    model = Scripted(lambda h: h)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    x = torch.arange(7.0).unsqueeze(1)
    create_supervised_tbptt_trainer(model, optimizer, mse, 3).run([(x, x)])
    assert [chunk.flatten().tolist() for chunk, _ in model.calls] == [[0, 1, 2], [3, 4, 5], [6]]
    assert all(
        chunk.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for chunk, _ in model.calls
    )


def test_prepare_batch_and_training_mode():
    """prepare_batch gets what it is promised, and each batch sets the model to training mode."""
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


def test_terminate_at_a_chunk_ends_the_run_after_its_batch():
    """A handler of a chunk ends the run; the batch is done to its end first."""
    model, optimizer = make()
    trainer = create_supervised_tbptt_trainer(model, optimizer, mse, 3)
    trainer.add_event_handler(TbpttEvents.TIME_ITERATION_COMPLETED(once=4), lambda e: e.terminate())
    state = trainer.run(sequences(), max_epochs=2)
    assert (state.outcome, state.iteration, state.time_iteration) == (RunOutcome.TERMINATED, 2, 6)


def test_loggers_log_at_the_step_of_the_chunk():
    """What is logged at the events of a chunk stands at the number of the chunk."""

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


def test_names_of_ignite():
    """The event class has both names, and its members are what they are called."""
    assert Tbptt_Events is TbpttEvents is glowplug.Tbptt_Events
    assert str(Tbptt_Events.TIME_ITERATION_STARTED) == "TbpttEvents.TIME_ITERATION_STARTED"


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
def test_wrong_arguments_fail_at_once(arguments, error, message):
    """Numbers that cannot be are refused when the trainer is made, not in the run."""
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
            r"y has the shape \(6,\) and no time dimension dim=1",
        ),
        (
            (torch.ones(6, 1), torch.ones(6, 1)),
            -3,
            ValueError,
            r"x has the shape \(6, 1\) and no time dimension dim=-3",
        ),
        (([torch.ones(6)], torch.ones(6)), 0, TypeError, "x must be a tensor.*got list.*prepare_batch"),
    ],
)
def test_batches_that_cannot_be_cut(batch, dim, error, message):
    """The error tells of the shapes, and what to do, before the model is called."""
    model = Scripted(lambda h: h)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pytest.raises(error, match=message):
        create_supervised_tbptt_trainer(model, optimizer, mse, 2, dim).run([batch])
    assert not model.calls


def test_models_without_a_hidden_state_are_refused():
    """A model that returns no pair is named, and so is a state that cannot be cut from its gradients."""
    plain = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"must return the pair \(y_pred, hidden\).*got Tensor"):
        create_supervised_tbptt_trainer(plain, optimizer, mse, 2).run(ones())
    model = Scripted(lambda h: {h})
    with pytest.raises(TypeError, match="cannot detach a set"):
        create_supervised_tbptt_trainer(model, optimizer, mse, 2).run(ones())
