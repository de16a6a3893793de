"""The line that each ended epoch leaves."""

import functools
import io
import math
import re
import subprocess
import sys
import time

import pytest
import torch

from glowplug import Engine, Events
from glowplug.exceptions import GlowplugWarning
from glowplug_progress import ProgressBar


@pytest.fixture
def file():
    """A file that receives the lines."""
    return io.StringIO()


@pytest.fixture(params=["tqdm", "rich"])
def bar(request, file):
    """A ProgressBar factory that writes lines of epochs to the file, with each style."""
    return functools.partial(ProgressBar, style=request.param, epoch_lines=True, file=file)


def lines_of(file):
    """Return the lines in a file, whose durations are replaced by ``T``."""
    return re.sub(r"[\d.]+ s$", "T", file.getvalue(), flags=re.MULTILINE).splitlines()


def make_trainer(values=(), name="accuracy"):
    """Return a trainer and an evaluator that runs at the end of each epoch and publishes the next value."""
    trainer, evaluator = Engine(lambda engine, batch: batch / 4), Engine(lambda engine, batch: None)
    published = iter(values)

    @evaluator.on(Events.COMPLETED)
    def publish():
        evaluator.state.metrics[name] = next(published)

    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([0]))
    return trainer, evaluator


class TestContents:
    def test_values_of_all_engines(self, bar, file):
        """A line has the number of the epoch, the values of its bars and of evaluators, and the duration."""
        trainer, evaluator = make_trainer([0.5, 0.75])
        trainer.state.lr = 0.1
        progress = bar()
        progress.attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)
        progress.attach(trainer, output_transform=lambda x: {"loss": x}, state_attributes=["lr"])
        progress.attach(evaluator, name="val")
        trainer.run([1, 2], max_epochs=2)
        assert lines_of(file) == [
            "Epoch [1/2]  loss=0.5, lr=0.1 | val: accuracy=0.5 | T",
            "Epoch [2/2]  loss=0.5, lr=0.1 | val: accuracy=0.75 | T",
        ]

    def test_metric_names(self, bar, file):
        """Without metric_names, a line has all metrics; with names, only these."""
        trainer = Engine(lambda engine, batch: None)
        trainer.add_event_handler(
            Events.EPOCH_COMPLETED, lambda: trainer.state.metrics.update(a=1, b=torch.tensor(0.5))
        )
        handle = bar().attach(trainer)
        trainer.run([0], max_epochs=2)
        assert lines_of(file)[-1] == "Epoch [2/2]  a=1, b=0.5 | T"
        handle.remove()
        for names, shown in ((["b"], "  b=0.5 | T"), ([], "  T")):
            with bar().attach(trainer, names):
                trainer.run([0], max_epochs=2)
            assert lines_of(file)[-1] == f"Epoch [2/2]{shown}"

    def test_several_evaluators(self, bar, file):
        """Each evaluator has a group with the values of its last run, in the order of the runs."""
        trainer, first, second = (Engine(lambda engine, batch: None) for _ in range(3))
        for evaluator in (first, second):
            evaluator.add_event_handler(
                Events.EPOCH_COMPLETED,
                lambda engine: engine.state.metrics.update(n=len(engine.state.dataloader)),
            )
        progress = bar()
        progress.attach(trainer)
        progress.attach(first, name="train")
        progress.attach(second)

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate():
            for evaluator, n in ((first, 1), (second, 2), (first, 3)):
                evaluator.run(range(n))

        trainer.run([0])
        assert lines_of(file) == ["Epoch [1/1]  n=2 | train: n=3 | T"]

    def test_outside_of_epochs(self, bar, file):
        """An evaluator that runs before or after the epochs, or alone, has a line with its name."""
        trainer, evaluator = make_trainer([1, 2, 3, 4, 5])
        trainer.add_event_handler(Events.STARTED | Events.COMPLETED, lambda: evaluator.run([0]))
        progress = bar(best="accuracy")
        progress.attach(trainer)
        progress.attach(evaluator, name="test")
        trainer.run([1], max_epochs=2)
        evaluator.run([0])
        assert lines_of(file) == [
            "test  accuracy=1 | T",
            "Epoch [1/2]  test: accuracy=2 (best) | T",
            "Epoch [2/2]  test: accuracy=3 (best) | T",
            "test  accuracy=4 | T",
            "test  accuracy=5 | T",
        ]

    def test_inner_trainer(self, bar, file):
        """An inner engine with several epochs has separate lines."""
        outer, inner = Engine(lambda engine, batch: inner.run([0], max_epochs=2)), Engine(lambda *_: None)
        progress = bar()
        progress.attach(outer, metric_names=[], name="fold")
        progress.attach(inner)
        outer.run([0, 1], max_epochs=2)
        inside = ["Epoch [1/2]  T", "Epoch [2/2]  T"] * 2
        assert lines_of(file) == [*inside, "fold [1/2]  T", *inside, "fold [2/2]  T"]

    def test_max_iters(self, bar, file):
        """The number of epochs follows from max_iters, and an epoch that does not end has no line."""
        trainer = Engine(lambda engine, batch: None)
        bar().attach(trainer)
        trainer.run(range(4), max_iters=10)
        assert lines_of(file) == ["Epoch [1/3]  T", "Epoch [2/3]  T"]

    def test_duration(self, bar, file):
        """The duration includes the handlers at the end of the epoch."""
        trainer = Engine(lambda engine, batch: time.sleep(0.1))
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: time.sleep(0.2))
        bar().attach(trainer)
        trainer.run([0])
        assert 0.3 <= float(re.search(r"([\d.]+) s$", file.getvalue())[1]) < 3

    def test_word(self, bar, file):
        """The option desc replaces the word before the number."""
        trainer = Engine(lambda engine, batch: None)
        bar(desc="fit").attach(trainer)
        trainer.run([0], max_epochs=2)
        assert lines_of(file) == ["fit [1/2]  T", "fit [2/2]  T"]


class TestBest:
    @pytest.mark.parametrize(("mode", "marks"), [("max", [0, 1, 0, 0, 1]), ("min", [0, 1, 0, 1, 0])])
    def test_mark(self, bar, file, mode, marks):
        """The best value so far is marked; other lines show it and its epoch. NaN and equal values are not better."""
        values = [math.nan, 0.5, 0.5, 0.25, 0.75]
        trainer, evaluator = make_trainer(values)
        progress = bar(best="accuracy", mode=mode)
        progress.attach(trainer)
        progress.attach(evaluator)
        trainer.run([1], max_epochs=5)
        shown, best, epoch = [], None, None
        for number, (value, mark) in enumerate(zip(values, marks, strict=True), 1):
            best, epoch = (value, number) if mark else (best, epoch)
            note = "best" if mark else f"best {best} in epoch {epoch}"
            shown.append(f"Epoch [{number}/5]  accuracy={value}{f' ({note})' if best else ''} | T")
        assert lines_of(file) == shown

    def test_which_metric(self, bar, file):
        """With a metric of several engines, the last evaluator counts, or the engine whose name precedes the metric."""
        for best, marked in (("loss", "val: loss=3 (best)"), ("train/loss", "train: loss=2 (best)")):
            trainer, train, val = (Engine(lambda engine, batch: None) for _ in range(3))
            progress = bar(best=best)
            for n, (engine, name) in enumerate(((trainer, None), (train, "train"), (val, "val")), 1):
                engine.add_event_handler(
                    Events.EPOCH_COMPLETED, lambda engine, n: engine.state.metrics.update(loss=n), n
                )
                progress.attach(engine, name=name)
            trainer.add_event_handler(
                Events.EPOCH_COMPLETED, lambda first, then: [first.run([0]), then.run([0])], train, val
            )
            trainer.run([0], max_epochs=2)
            line = lines_of(file)[-2]
            assert marked in line
            assert line.count("best") == 1

    def test_resumed(self, bar, file):
        """A resumed run knows the best value of the run before."""
        state = None
        for values in ([0.9, 0.5], [0.6]):
            trainer, evaluator = make_trainer(values)
            progress = bar(best="accuracy")
            progress.attach(trainer)
            progress.attach(evaluator)
            if state is not None:
                trainer.load_state_dict(state)
            trainer.run([1], max_epochs=3 if state else 2)
            state = trainer.state_dict()
        assert state["handlers"]["ProgressBar:accuracy"] == {"value": 0.9, "epoch": 1}
        assert lines_of(file)[-1] == "Epoch [3/3]  accuracy=0.6 (best 0.9 in epoch 1) | T"

    def test_new_run(self, bar, file):
        """A new run begins without a best value."""
        trainer, evaluator = make_trainer([0.9, 0.8, 0.5, 0.6])
        progress = bar(best="accuracy")
        progress.attach(trainer)
        progress.attach(evaluator)
        for _ in range(2):
            trainer.run([1], max_epochs=2)
        assert lines_of(file)[2] == "Epoch [1/2]  accuracy=0.5 (best) | T"

    def test_unfinished_epoch(self, bar, file):
        """A run that max_iters ends within its first epoch has no line, and no warning about the metric."""
        trainer, evaluator = make_trainer([0.9])
        progress = bar(best="accuracy")
        progress.attach(trainer)
        progress.attach(evaluator)
        trainer.run([1, 2, 3], max_iters=2)
        assert lines_of(file) == []

    def test_missing(self, bar):
        """If no line has the metric, a warning at the end of the run reports its name."""
        trainer, evaluator = make_trainer([0.9, 0.8])
        progress = bar(best="acuracy")
        progress.attach(trainer)
        progress.attach(evaluator)
        with pytest.warns(GlowplugWarning, match="no epoch line has a metric 'acuracy'") as caught:
            trainer.run([1], max_epochs=2)
        assert len(caught) == 1


class TestEnd:
    def test_failed_evaluation(self, bar, file):
        """If a handler fails after the epoch, its line is printed nevertheless."""
        trainer = Engine(lambda engine, batch: 0.5)
        bar().attach(trainer, output_transform=lambda x: {"loss": x})
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.run([1], max_epochs=3)
        assert lines_of(file) == ["Epoch [1/3]  loss=0.5 | T", "Epoch [2/3]  loss=0.5 | T"]

    @pytest.mark.parametrize("stop", ["terminate", "fail"])
    def test_unfinished_epoch(self, bar, file, stop):
        """An epoch that does not end has no line, and does not change the lines of the next run."""
        trainer, evaluator = make_trainer([1, 2, 3])
        progress = bar()
        progress.attach(trainer)
        progress.attach(evaluator)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED(once=3), trainer.terminate if stop == "terminate" else lambda: 1 / 0
        )
        if stop == "fail":
            with pytest.raises(ZeroDivisionError):
                trainer.run([1, 2], max_epochs=3)
        else:
            trainer.run([1, 2], max_epochs=3)
        assert lines_of(file) == ["Epoch [1/3]  accuracy=1 | T"]
        evaluator.run([0])
        assert lines_of(file)[1:] == ["Epoch [1/1]  accuracy=2 | T"]

    def test_interrupted_epoch(self, bar, file):
        """After an interruption within an epoch, its line has the values of evaluators as well."""
        trainer, evaluator = make_trainer([1, 2])
        progress = bar()
        progress.attach(trainer)
        progress.attach(evaluator, name="val")
        trainer.add_event_handler(Events.ITERATION_COMPLETED(once=3), trainer.interrupt)
        trainer.run([1, 2], max_epochs=2)
        assert lines_of(file) == ["Epoch [1/2]  val: accuracy=1 | T"]
        trainer.run([1, 2])
        assert lines_of(file)[1:] == ["Epoch [2/2]  val: accuracy=2 | T"]

    def test_interrupted_after_epoch(self, bar, file):
        """If the run is interrupted at the end of an epoch, the line is printed at once."""
        trainer = Engine(lambda engine, batch: None)
        bar().attach(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), trainer.interrupt)
        trainer.run([1], max_epochs=2)
        assert lines_of(file) == ["Epoch [1/2]  T"]
        trainer.run([1])
        assert lines_of(file) == ["Epoch [1/2]  T", "Epoch [2/2]  T"]

    def test_remove(self, bar, file):
        """With the last bar of an engine, its lines end and all handlers are removed."""
        trainer = Engine(lambda engine, batch: None)
        progress = bar(best="loss")
        handles = progress.attach(trainer, ["loss"]), progress.attach(trainer, state_attributes=["lr"])
        handles[0].remove()
        trainer.state.lr = 0.1
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: trainer.state.metrics.update(loss=1))
        trainer.run([0], max_epochs=2)
        assert lines_of(file)[0] == "Epoch [1/2]  loss=1 (best), lr=0.1 | T"
        handles[1].remove()
        assert "ProgressBar" not in trainer.describe()
        trainer.run([0], max_epochs=2)
        assert len(lines_of(file)) == 2


SCRIPT = """
import sys, time
from glowplug import Engine, Events
from glowplug_progress import ProgressBar

trainer = Engine(lambda engine, batch: time.sleep(0.02))
evaluator = Engine(lambda engine, batch: None)
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
bar = ProgressBar(style=sys.argv[1], epoch_lines=True)
bar.attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)
bar.attach(trainer)
bar.attach(evaluator)
trainer.run(range(10), max_epochs=2)
"""


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_log_file(style):
    """A log file gets the lines and nothing else, without control characters."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, style],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=60,
    )
    assert re.fullmatch(r"Epoch \[1/2\]  [\d.]+ s\nEpoch \[2/2\]  [\d.]+ s\n", ended.stdout), ended.stdout


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_terminal(style, screen, console):
    """On a terminal, the lines stand above the bars and stay."""
    trainer, evaluator = make_trainer([0.5, 0.75])
    options = {"console": console} if style == "rich" else {"file": screen, "ncols": 100}
    bar = ProgressBar(style=style, best="accuracy", mininterval=0, **options)
    bar.attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED, name="fit")
    bar.attach(trainer)
    bar.attach(evaluator)
    seen = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append(screen.lines))
    trainer.run([1], max_epochs=2)
    line = "fit [1/2] accuracy=0.5 (best)"
    shown = (
        ["fit 1/2", "Epoch [2/2] 0/1"] if style == "rich" else ["fit: [1/2] 50%|", "Epoch [2/2]: [0/1] 0%|"]
    )
    assert seen[-1] == [line, *shown]
    assert screen.lines == [line, "fit [2/2] accuracy=0.75 (best)"]
