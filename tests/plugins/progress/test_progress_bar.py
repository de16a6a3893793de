"""ProgressBar: lines on the screen, values, closing and errors."""

import functools
import io
import re
import threading
import time
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from rich.console import Console

from glowplug import Engine, Events, Phase, RunOutcome
from glowplug.exceptions import GlowplugWarning
from glowplug.testing import FakeEngine
from glowplug_progress import ProgressBar
from glowplug_progress.tqdm_bar import LazyBar


@pytest.fixture
def bar(screen):
    """A ProgressBar factory whose bars draw every change on the screen."""
    return functools.partial(ProgressBar, file=screen, ncols=200, mininterval=0)


class NoLength:
    """Iterable without a length that can be iterated several times."""

    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


def seen_at(engine, screen, event):
    """Return a list that receives the screen's lines at each firing of an event, after the bars are drawn."""
    seen = []

    class Look:
        phase = Phase.CHECKPOINT

        def __call__(self):
            seen.append(screen.lines)

    engine.add_event_handler(event, Look())
    return seen


class TestCount:
    def test_iterations_of_each_epoch(self, bar, screen):
        """By default each epoch has a bar of its iterations that disappears at the end (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        trainer.attach(bar())
        trainer.run(range(4), max_epochs=2)
        assert seen == [[f"Epoch [{epoch}/2]: [{n}/4] {25 * n}%|"] for epoch in (1, 2) for n in (1, 2, 3, 4)]
        assert screen.lines == []
        assert screen.column == 0

    def test_persist(self, bar, screen):
        """With persist=True the last state of each epoch's bar remains on the screen (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        trainer.attach(bar(persist=True))
        trainer.run(range(4), max_epochs=2)
        assert screen.lines == ["Epoch [1/2]: [4/4] 100%|", "Epoch [2/2]: [4/4] 100%|"]

    @pytest.mark.parametrize(
        ("event", "closing", "expected"),
        [
            (Events.ITERATION_COMPLETED, Events.COMPLETED, "Iteration: [6/6] 100%|"),
            (Events.ITERATION_STARTED, Events.EPOCH_COMPLETED, "Epoch [2/2]: [3/3] 100%|"),
            (Events.ITERATION_COMPLETED(every=2), Events.EPOCH_COMPLETED, "Epoch [2/2]: [3/3] 100%|"),
            (Events.EPOCH_COMPLETED, Events.COMPLETED, "Epoch: [2/2] 100%|"),
            (Events.EPOCH_STARTED, Events.COMPLETED, "Epoch: [2/2] 100%|"),
            (Events.STARTED, Events.COMPLETED, "Start: [1/1] 100%|"),
            (Events.EPOCH_STARTED, Events.EPOCH_COMPLETED, "Epoch: [2/2] 100%|"),
        ],
    )
    def test_unit_and_total(self, bar, screen, event, closing, expected):
        """The two events determine the unit of the bar and its total (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        bar(persist=True).attach(trainer, event_name=event, closing_event_name=closing)
        trainer.run(range(3), max_epochs=2)
        assert screen.lines[-1] == expected

    def test_max_iters(self, bar, screen):
        """max_iters determines the totals and shortens the last epoch (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        bar(persist=True).attach(trainer)
        bar(persist=True).attach(
            trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED
        )
        bar(persist=True, desc="all").attach(trainer, closing_event_name=Events.COMPLETED)
        trainer.run(range(4), max_iters=10)
        assert screen.lines[:2] == ["Epoch [1/3]: [4/4] 100%|", "Epoch [2/3]: [4/4] 100%|"]
        assert "all: [10/10] 100%|" in screen.lines
        # The run ends in the middle of the third epoch.
        assert any(line.endswith("/3] 67%|") for line in screen.lines)
        assert any(line.startswith("Epoch [3/3]: [2/2] 100%|") for line in screen.lines)

    @pytest.mark.parametrize("limit", [{"max_epochs": 2}, {"max_iters": 6}])
    def test_unknown_epoch_length(self, bar, screen, limit):
        """Without a length the first epoch has no total, but the second has one (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        bar().attach(trainer, closing_event_name=Events.EPOCH_COMPLETED)
        trainer.run(NoLength(3), **limit)
        first = "Epoch [1/2]" if "max_epochs" in limit else "Epoch [1]"
        assert seen[1] == [f"{first}: [2/?]"]
        assert seen[4] == ["Epoch [2/2]: [2/3] 67%|"]

    def test_total_known_later(self, bar, screen):
        """A bar of the whole run shows its total once the first epoch is complete (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        bar().attach(trainer, closing_event_name=Events.COMPLETED)
        trainer.run(NoLength(2), max_epochs=2)
        assert seen == [
            ["Iteration: [1/?]"],
            ["Iteration: [2/?]"],
            ["Iteration: [3/4] 75%|"],
            ["Iteration: [4/4] 100%|"],
        ]

    def test_resumed_run(self, bar, screen):
        """After a load in the middle of an epoch the bar starts at that position (L-045)."""
        first = Engine(lambda engine, batch: batch)
        first.add_event_handler(Events.ITERATION_COMPLETED(once=5), first.terminate)
        first.run(range(4), max_epochs=3)
        trainer = Engine(lambda engine, batch: batch)
        trainer.load_state_dict(first.state_dict())
        seen = seen_at(trainer, screen, Events.EPOCH_STARTED | Events.ITERATION_COMPLETED)
        trainer.attach(bar())
        trainer.run(range(4))
        assert seen[0] == ["Epoch [2/3]: [1/4] 25%|"]
        assert seen[1] == ["Epoch [2/3]: [2/4] 50%|"]
        assert seen[-1] == ["Epoch [3/3]: [4/4] 100%|"]

    def test_shortened_epoch(self, bar, screen):
        """After terminate_epoch() the next bar starts at zero, even without EPOCH_COMPLETED (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=2), lambda: trainer.terminate_epoch(skip_epoch_completed=True)
        )
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        trainer.attach(bar())
        trainer.run(range(4), max_epochs=2)
        assert seen[-4:] == [[f"Epoch [2/2]: [{n}/4] {25 * n}%|"] for n in (1, 2, 3, 4)]
        assert screen.lines == []

    def test_interrupted_run(self, bar, screen):
        """After interrupt() the next run() continues the bar, even if an earlier epoch ended early (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=1), trainer.terminate_epoch)
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), trainer.interrupt)
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        trainer.attach(bar())
        assert trainer.run(range(4), max_epochs=2).outcome is RunOutcome.INTERRUPTED
        assert screen.lines == []
        trainer.run(range(4))
        assert seen[-2:] == [["Epoch [2/2]: [3/4] 75%|"], ["Epoch [2/2]: [4/4] 100%|"]]

    def test_failed_epoch_continues(self, bar, screen):
        """After an exception the next run() shows where the epoch continues, whatever the lengths before (L-045)."""
        fails = iter([False] * 6 + [True])
        trainer = Engine(lambda engine, batch: 1 / (not next(fails, False)))
        trainer.attach(bar())
        seen = seen_at(trainer, screen, Events.EPOCH_STARTED | Events.ITERATION_COMPLETED)
        data = [range(5), range(3)]
        trainer.add_event_handler(
            Events.EPOCH_STARTED, lambda: trainer.set_data(data[trainer.state.epoch - 1])
        )
        with pytest.raises(ZeroDivisionError):
            trainer.run(data[0], max_epochs=2)
        assert screen.lines == []
        assert seen[-1] == ["Epoch [2/2]: [1/3] 33%|"]
        trainer.run(data[0], max_epochs=2)
        assert seen[-3:] == [[f"Epoch [2/2]: [{n}/3] {p}%|"] for n, p in ((1, 33), (2, 67), (3, 100))]

    def test_lengths_vary(self, bar, screen):
        """Epochs of different lengths each start at zero, and the totals follow the forecast (L-045)."""
        passes = iter([range(5), range(3), range(6)])

        class Data:
            def __iter__(self):
                return iter(next(passes))

        trainer = Engine(lambda engine, batch: batch)
        trainer.attach(bar(persist=True))
        bar(persist=True).attach(trainer, closing_event_name=Events.COMPLETED)
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        trainer.run(Data(), max_epochs=3)
        of_run = [next(line for line in lines if line.startswith("Iteration")) for lines in seen]
        assert of_run[5] == "Iteration: [6/15] 40%|"
        assert of_run[8] == "Iteration: [9/11] 82%|"
        assert "Epoch [3/3]: [4/?]" in seen[11]
        assert of_run[11] == "Iteration: [12/?]"
        assert screen.lines == [
            "Epoch [1/3]: [5/5] 100%|",
            "Epoch [2/3]: [3/3] 100%|",
            "Epoch [3/3]: [6/6] 100%|",
            "Iteration: [14/14] 100%|",
        ]

    def test_length_set_during_a_run(self, bar, screen):
        """The total follows a length that a handler sets, unless the user gave the total (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        trainer.attach(bar(persist=True))
        bar(persist=True, total=9, desc="mine").attach(trainer)

        @trainer.on(Events.ITERATION_COMPLETED(once=2))
        def shorten(engine):
            engine.state.epoch_length = 4

        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        trainer.run(range(5))
        assert seen[0][0] == "Iteration: [1/5] 20%|"
        assert seen[1][0] == "Iteration: [2/4] 50%|"
        assert seen[1][1] == "mine: [2/9] 22%|"

    def test_rate(self, screen):
        """A bar shows the rate of iterations or epochs."""
        trainer = Engine(lambda engine, batch: time.sleep(0.01))
        progress = ProgressBar(persist=True, file=screen, ncols=200)
        progress.attach(trainer)
        progress.attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)
        trainer.run(range(5), max_epochs=1)
        iterations, epochs = [row for row in screen.rows if row.strip()]
        assert re.search(r"\[00:00<00:00, [\d.]+it/s\]", iterations)
        assert re.search(r"\[00:00<00:00, [\d.]+epoch/s\]", epochs)

    def test_elapsed_time(self, screen):
        """The elapsed time includes the first step."""
        trainer = Engine(lambda engine, batch: time.sleep(0.2))
        ProgressBar(file=screen, ncols=100, persist=True, bar_format="{elapsed_s:.1f}").attach(trainer)
        trainer.run([0])
        assert float(screen.rows[0]) >= 0.2


class TestValues:
    def test_sources(self, bar, screen):
        """Metrics, output and attributes follow the bar in this order, with nested names (L-045)."""
        trainer = Engine(lambda engine, batch: {"loss": torch.tensor(1 / 3), "note": "warm"})
        trainer.state.lr = 1e-5

        @trainer.on(Events.ITERATION_COMPLETED)
        def metrics(engine):
            engine.state.metrics = {
                "f1": {"train": [0.25, np.float32(0.5)]},
                "count": np.int64(7),
                "per_class": torch.tensor([1.5, 2.0]),
                "done": True,
                "hidden": 1,
            }

        bar(persist=True).attach(
            trainer, ["f1", "count", "per_class", "done"], lambda output: output, state_attributes=["lr"]
        )
        trainer.run([0])
        shown = (
            "Iteration: [1/1] 100%|, f1_train_0=0.25, f1_train_1=0.5, count=7, per_class_0=1.5, per_class_1=2, done=True"
            ", loss=0.3333, note=warm, lr=1e-05"
        )
        assert screen.lines == [shown]

    def test_all_metrics(self, bar, screen):
        """The name "all" shows every metric, and a single output value is named output (L-045)."""
        trainer = Engine(lambda engine, batch: 0.5)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: trainer.state.metrics.update(a=1, b=2))
        bar(persist=True).attach(trainer, "all", lambda output: output)
        trainer.run([0])
        assert screen.lines == ["Iteration: [1/1] 100%|, a=1, b=2, output=0.5"]

    def test_whole_numbers(self, bar, screen):
        """Integers are shown with all digits, alone and in lists, tensors and arrays."""
        output = {"n": 123456, "m": [123456, True], "t": torch.tensor([98765, 1]), "loss": 1234567.5}
        trainer = Engine(lambda engine, batch: output)
        bar(persist=True).attach(trainer, output_transform=lambda output: output)
        trainer.run([0])
        assert screen.lines == [
            "Iteration: [1/1] 100%|, n=123456, m_0=123456, m_1=1, t_0=98765, t_1=1, loss=1.235e+06"
        ]

    def test_metrics_of_closing_event(self, bar, screen):
        """A metric computed at EPOCH_COMPLETED appears in that epoch's last line (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        handle = bar(persist=True).attach(trainer, ["accuracy"])
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED, lambda: trainer.state.metrics.update(accuracy=0.875)
        )
        trainer.run(range(2))
        assert screen.lines == ["Iteration: [2/2] 100%|, accuracy=0.875"]
        handle.remove()

    def test_read_on_redraw(self, screen):
        """Values are read only when the bar is redrawn."""
        reads = []
        trainer = Engine(lambda engine, batch: batch)
        ProgressBar(file=screen, mininterval=60).attach(
            trainer, output_transform=lambda output: reads.append(output) or 0
        )
        trainer.run(range(10_000), max_epochs=2)
        # Each epoch's full bar is drawn, and the second epoch's bar when it opens.
        assert len(reads) == 3

    def test_redraw_from_another_thread(self, bar):
        """A redraw from another thread shows the last text and reads no values."""
        readers = []

        def transform(output):
            readers.append(threading.get_ident())
            return output

        trainer = Engine(lambda engine, batch: 0.5)
        bar().attach(trainer, output_transform=transform)

        @trainer.on(Events.EPOCH_COMPLETED)
        def redraw_elsewhere():
            open_bars = [one for one in LazyBar._instances if isinstance(one, LazyBar)]
            assert open_bars
            texts = []
            threads = [threading.Thread(target=lambda one=one: texts.append(str(one))) for one in open_bars]
            for thread in threads:
                thread.start()
                thread.join()
            assert "output=0.5" in texts[0]

        trainer.run([0])
        assert set(readers) == {threading.get_ident()}

    def test_no_output(self, bar, screen):
        """The transform is not called before the first output or after a failed step."""

        def step(engine, batch):
            if batch == 2:
                raise OSError("disk on fire")
            return {"loss": 0.5}

        trainer = Engine(step)
        bar(persist=True).attach(trainer, output_transform=lambda output: output["loss"])
        with pytest.raises(OSError, match="disk on fire"):
            trainer.run(range(5))
        assert screen.lines == ["Iteration: [2/5] 40%|, output=0.5"]

    def test_missing_name(self, bar):
        """Names that are missing after a completed run give one warning (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: trainer.state.metrics.update(acc=1))
        bar().attach(trainer, ["acc", "accuracy"], state_attributes=["lr"])
        with pytest.warns(
            GlowplugWarning, match=r"state has no 'accuracy', 'lr'; .* \(available metrics: \['acc'\]\)"
        ) as caught:
            trainer.run(range(3), max_epochs=2)
        assert len(caught) == 1

    def test_missing_name_after_terminate(self, bar):
        """A run that was terminated gives no warning about missing names (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        bar().attach(trainer, ["accuracy"])
        trainer.add_event_handler(Events.ITERATION_COMPLETED, trainer.terminate)
        assert trainer.run(range(3)).outcome is RunOutcome.TERMINATED

    def test_unknown_type(self, bar, screen):
        """A value that is neither a number nor text is omitted and reported once (L-045)."""
        trainer = Engine(lambda engine, batch: {"loss": 1, "y": torch.zeros(2, 2), "rest": [None]})
        bar(persist=True).attach(trainer, output_transform=lambda output: output)
        with pytest.warns(GlowplugWarning, match="cannot show") as caught:
            trainer.run(range(3))
        assert [str(one.message).split(";")[0] for one in caught] == [
            "ProgressBar cannot show 'y' of type Tensor",
            "ProgressBar cannot show 'rest_0' of type NoneType",
        ]
        assert screen.lines == ["Iteration: [3/3] 100%|, loss=1"]


class TestClose:
    @pytest.mark.parametrize("persist", [False, True])
    @pytest.mark.parametrize("stop", ["terminate", "exception", "keyboard", "interrupt", "epoch"])
    def test_end_of_run(self, bar, screen, persist, stop):
        """Every way to end a run closes all bars and moves the cursor to an empty line (L-045)."""
        trainer = Engine(lambda engine, batch: batch)

        @trainer.on(Events.ITERATION_COMPLETED(once=6))
        def end():
            if stop == "exception":
                raise OSError("disk on fire")
            if stop == "keyboard":
                raise KeyboardInterrupt
            {
                "terminate": trainer.terminate,
                "interrupt": trainer.interrupt,
                "epoch": trainer.terminate_epoch,
            }[stop]()

        bar(persist=persist).attach(
            trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED
        )
        bar(persist=persist).attach(trainer)
        if stop in ("exception", "keyboard"):
            with pytest.raises(OSError if stop == "exception" else KeyboardInterrupt):
                trainer.run(range(4), max_epochs=3)
        else:
            trainer.run(range(4), max_epochs=3)
        assert not [one for one in LazyBar._instances if isinstance(one, LazyBar)]
        assert screen.column == 0
        assert screen.rows[screen.row].strip() == ""
        if not persist:
            assert screen.lines == []
        elif stop == "epoch":
            assert screen.lines[-2:] == ["Epoch [3/3]: [4/4] 100%|", "Epoch: [3/3] 100%|"]
        else:
            # An exception in the handler keeps the bar from advancing at that iteration.
            done = "[1/4] 25%|" if stop in ("exception", "keyboard") else "[2/4] 50%|"
            assert sorted(screen.lines) == [
                "Epoch [1/3]: [4/4] 100%|",
                f"Epoch [2/3]: {done}",
                "Epoch: [1/3] 33%|",
            ]

    def test_remove(self, bar, screen):
        """remove() closes the open bar and removes all handlers."""
        fake = FakeEngine()
        handle = fake.attach(bar())
        fake.fire(Events.EPOCH_STARTED, epoch=1, max_epochs=1, epoch_length=2)
        fake.fire(Events.ITERATION_COMPLETED, iteration=1)
        assert screen.lines == ["Iteration: [1/2] 50%|"]
        handle.remove()
        assert screen.lines == []
        assert not any(fake.handlers_at(event) for event in Events)


class TestScreen:
    def test_several_bars(self, bar, screen):
        """Bars of epochs, iterations and an evaluator appear below each other (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        evaluator = Engine(lambda engine, batch: batch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(range(2)))
        bar(persist=True, desc="train").attach(
            trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED
        )
        bar(persist=True).attach(trainer)
        bar(desc="val").attach(evaluator)
        within = seen_at(trainer, screen, Events.ITERATION_COMPLETED(once=4))
        evaluating = seen_at(evaluator, screen, Events.ITERATION_COMPLETED(once=1))
        trainer.run(range(3), max_epochs=2)
        assert within == [["Epoch [1/2]: [3/3] 100%|", "train: [1/2] 50%|", "Epoch [2/2]: [1/3] 33%|"]]
        assert evaluating == [
            ["train: [0/2] 0%|", "Epoch [1/2]: [3/3] 100%|", "val: [1/2] 50%|"],
            ["Epoch [1/2]: [3/3] 100%|", "train: [1/2] 50%|", "Epoch [2/2]: [3/3] 100%|", "val: [1/2] 50%|"],
        ]
        assert screen.lines == ["Epoch [1/2]: [3/3] 100%|", "Epoch [2/2]: [3/3] 100%|", "train: [2/2] 100%|"]

    def test_nested_in_one_handler(self, bar, screen):
        """The bar of an engine that runs inside another one of the same handler leaves no line."""
        trainer, first, second = (Engine(lambda engine, batch: batch) for _ in range(3))
        progress = bar(persist=True)
        for engine, name in ((trainer, None), (first, "first"), (second, "second")):
            progress.attach(engine, name=name)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: first.run(range(2)))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: second.run(range(2)))
        seen = seen_at(second, screen, Events.ITERATION_COMPLETED(once=1))
        trainer.run(range(3), max_epochs=2)
        assert seen[0] == ["Epoch [1/2]: [3/3] 100%|", "second: [1/2] 50%|"]
        assert screen.lines == ["Epoch [1/2]: [3/3] 100%|", "Epoch [2/2]: [3/3] 100%|"]
        first.run(range(2))
        assert screen.lines[2:] == ["first: [2/2] 100%|"]

    def test_full_bar(self, screen):
        """A full bar is redrawn immediately, whatever mininterval is."""
        trainer = Engine(lambda engine, batch: batch)
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        ProgressBar(file=screen, ncols=100, mininterval=60).attach(trainer)
        trainer.run(range(4))
        assert seen[2:] == [["Iteration: [0/4] 0%|"], ["Iteration: [4/4] 100%|"]]

    def test_log_message(self, bar, screen):
        """log_message prints a line above the bar (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        progress = bar()
        trainer.attach(progress)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=2), lambda: progress.log_message("lr halved")
        )
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        trainer.run(range(3))
        assert seen[-1] == ["lr halved", "Iteration: [3/3] 100%|"]
        assert screen.lines == ["lr halved"]

    def test_format_and_name(self, bar, screen):
        """bar_format and desc apply with and without a total (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        bar(persist=True, bar_format="{desc}{n_fmt} of {total_fmt}{postfix}", desc="fit").attach(trainer)
        trainer.run(NoLength(2), max_epochs=2)
        assert screen.lines == ["fit [1/2]: 2 of 2", "fit [2/2]: 2 of 2"]

    def test_phase(self):
        """The bar advances in the LOGGING phase, after user handlers."""
        fake = FakeEngine()
        fake.attach(ProgressBar())
        user = fake.handlers_at(Events.ITERATION_COMPLETED)
        fake.add_event_handler(Events.ITERATION_COMPLETED, print)
        assert fake.handlers_at(Events.ITERATION_COMPLETED) == [print, *user]
        assert ProgressBar.phase is Phase.LOGGING

    def test_rank_0_only(self, run_ranks):
        """Only rank 0 of two ranks shows a bar (L-045)."""

        def scenario(rank):
            import io

            from glowplug import Engine
            from glowplug_progress import ProgressBar

            screen = io.StringIO()
            trainer = Engine(lambda engine, batch: batch)
            trainer.attach(ProgressBar(persist=True, file=screen, ncols=60))
            state = trainer.run(range(3), max_epochs=2)
            return state.iteration, screen.getvalue().count("[3/3] 100%") > 0, len(screen.getvalue()) > 0

        assert run_ranks(scenario) == [[6, True, True], [6, False, False]]


class TestAddEventHandler:
    def test_advances_and_closes(self, bar, screen):
        """The bar advances at the event, closes at its end, and stops after remove() (L-045)."""
        trainer = Engine(lambda engine, batch: batch)
        progress = bar(persist=True)
        handle = trainer.add_event_handler(Events.ITERATION_COMPLETED, progress)
        trainer.run(range(3), max_epochs=2)
        assert screen.lines == ["Epoch [1/2]: [3/3] 100%|", "Epoch [2/2]: [3/3] 100%|"]
        trainer.add_event_handler(Events.EPOCH_COMPLETED, progress)
        handle.remove()
        trainer.run(range(3), max_epochs=3)
        assert screen.lines[2:] == ["Epoch: [3/3] 100%|"]

    def test_nested_event(self, bar, screen):
        """A handler that fires another event at the same event does not disturb the bar."""
        trainer, progress = Engine(lambda engine, batch: None), bar(persist=True)
        trainer.register_events("custom")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: trainer.fire_event("custom"))
        trainer.add_event_handler(Events.ITERATION_COMPLETED, progress)
        trainer.run(range(3))
        assert screen.lines == ["Iteration: [3/3] 100%|"]

    def test_unsupported_event(self, bar):
        """An event at which no bar can advance raises an error with the right call."""
        trainer = Engine(lambda engine, batch: None)
        trainer.add_event_handler(Events.COMPLETED, bar())
        with pytest.raises(
            ValueError, match=r"cannot advance at .*; use ProgressBar\(\)\.attach\(engine, event_name="
        ):
            trainer.run(range(3))


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            (
                {"closing_event_name": Events.STARTED},
                ValueError,
                "event_name must come before closing_event_name",
            ),
            (
                {"event_name": Events.EPOCH_COMPLETED, "closing_event_name": Events.ITERATION_COMPLETED},
                ValueError,
                "in the order STARTED, EPOCH_STARTED, .*; got Events.EPOCH_COMPLETED and Events.ITERATION_COMPLETED",
            ),
            (
                {"event_name": Events.COMPLETED, "closing_event_name": Events.COMPLETED},
                ValueError,
                "must come before",
            ),
            (
                {"closing_event_name": Events.EPOCH_COMPLETED(every=2)},
                ValueError,
                "closing_event_name cannot be filtered",
            ),
            (
                {"event_name": Events.EXCEPTION_RAISED},
                ValueError,
                "event_name must be one of .*; got Events.EXCEPTION",
            ),
            ({"event_name": Events.STARTED | Events.COMPLETED}, ValueError, "event_name must be one of"),
            (
                {"closing_event_name": "completed"},
                ValueError,
                "closing_event_name must be one of .*; got 'completed'",
            ),
            (
                {"metric_names": "accuracy"},
                TypeError,
                "metric_names must be a list of names or 'all', got 'accuracy'",
            ),
            ({"output_transform": "loss"}, TypeError, "output_transform must be a function"),
            ({"state_attributes": "lr"}, TypeError, "state_attributes must be a list of names, got 'lr'"),
            ({"name": 1}, TypeError, "name must be text, got 1"),
        ],
    )
    def test_invalid(self, options, error, message):
        """attach() refuses invalid events and arguments before it registers a handler (L-045)."""
        fake = FakeEngine()
        with pytest.raises(error, match=message):
            ProgressBar().attach(fake, **options)
        assert not any(fake.handlers_at(event) for event in Events)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"metric_names": ["loss"]},
                r"pass it to attach\(\): ProgressBar\(\)\.attach\(engine, metric_names=\.\.\.\)",
            ),
            ({"closing_event_name": Events.COMPLETED}, "attach"),
            ({"ncol": 80}, "did you mean 'ncols'"),
            ({"xyz": 1}, "see the options of tqdm"),
            ({"console": None}, "for bars of tqdm; pass style='rich'"),
            ({"epochlines": True}, "did you mean 'epoch_lines'"),
        ],
    )
    def test_unknown_option(self, options, message):
        """An unknown option raises an error with the closest name or the right call."""
        with pytest.raises(TypeError, match=f"ProgressBar has no option '{next(iter(options))}'.*{message}"):
            ProgressBar(**options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"metric_names": ["loss"]}, r"'metric_names'; pass it to attach\(\)"),
            (
                {"ncols": 80},
                "'ncols' is an option of tqdm, and style='rich' does not use tqdm; its options are console, desc, disable, ",
            ),
            ({"bar_format": "{bar}"}, "'bar_format' is an option of tqdm"),
            ({"consol": None}, "'consol'; did you mean 'console'"),
            ({"xyz": 1}, "the options of style='rich' are console, "),
            ({"console": 1}, "console must be a rich.console.Console, got 1"),
            ({"disable": 1}, "disable must be True or False, got 1"),
        ],
    )
    def test_options_of_rich(self, options, message):
        """An option that bars of rich do not have raises an error with the options that they have."""
        with pytest.raises(TypeError, match=f"ProgressBar.*{message}"):
            ProgressBar(style="rich", **options)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"persist": "yes"}, TypeError, "persist must be True or False, got 'yes'"),
            ({"epoch_lines": 1}, TypeError, "epoch_lines must be True or False, got 1"),
            (
                {"style": "richh"},
                ValueError,
                "style must be 'tqdm' or 'rich', got 'richh'; did you mean 'rich'",
            ),
            ({"style": None}, ValueError, "style must be 'tqdm' or 'rich', got None$"),
            (
                {"best": "loss", "mode": "mni"},
                ValueError,
                "mode must be 'max' or 'min', got 'mni'; did you mean 'min'",
            ),
            ({"best": 1}, TypeError, "best must be the name of a metric, got 1"),
            (
                {"best": "loss", "epoch_lines": False},
                ValueError,
                "best='loss' has no effect with epoch_lines=False",
            ),
            ({"style": "rich", "mininterval": -1}, ValueError, "mininterval must be .* at least 0, got -1"),
            (
                {"style": "rich", "console": Console(), "file": io.StringIO()},
                ValueError,
                "pass either console or file",
            ),
        ],
    )
    def test_invalid_option(self, options, error, message):
        """An option with an invalid value raises an error that shows the value."""
        with pytest.raises(error, match=f"ProgressBar: .*{message}"):
            ProgressBar(**options)

    @pytest.mark.parametrize("epoch_lines", [False, True])
    def test_mock_engine(self, bar, epoch_lines):
        """A bar can be attached to a MagicMock and removed."""
        bar(epoch_lines=epoch_lines).attach(MagicMock()).remove()


def test_describe():
    """describe() shows the bar under its own name at each of its events."""

    class MyBar(ProgressBar):
        pass

    for make in (ProgressBar, MyBar):
        engine = Engine(lambda engine, batch: batch)
        make().attach(engine)
        names = {row.split("logging")[1].split()[0] for row in engine.describe().splitlines()[1:]}
        assert names == {make.__name__}
