"""Bars that rich draws."""

import contextlib
import functools
import io
import logging
import pickle
import re
import sys
import threading
import time

import pytest
from rich.console import Console
from rich.progress import Progress

from glowplug import Engine, Events, Phase
from glowplug_progress import ProgressBar


@pytest.fixture
def bar(console):
    """A ProgressBar factory whose bars draw every change on the screen, without lines of epochs."""
    return functools.partial(ProgressBar, style="rich", epoch_lines=False, console=console, mininterval=0)


def seen_at(engine, screen, event):
    """Return a list that receives the screen's lines at each firing of an event, after the bars are drawn."""
    seen = []

    class Look:
        phase = Phase.CHECKPOINT

        def __call__(self):
            seen.append(screen.lines)

    engine.add_event_handler(event, Look())
    return seen


def make_engine(step=lambda batch: None):
    """Return an engine that calls a function with each batch."""
    return Engine(lambda engine, batch: step(batch))


class TestBars:
    def test_nested(self, bar, screen):
        """The bar of the epochs stands above that of the iterations, and the evaluator's bar below, until it ends."""
        trainer, evaluator = make_engine(), make_engine()
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(range(2)))
        progress = bar()
        progress.attach(trainer)
        progress.attach(evaluator, name="val")
        progress.attach(
            trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED, name="fit"
        )
        within = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        evaluating = seen_at(evaluator, screen, Events.ITERATION_COMPLETED(once=1))
        trainer.run(range(3), max_epochs=2)
        assert within[1] == ["fit 0/2", "Epoch [1/2] 2/3"]
        assert within[3] == ["fit 1/2", "Epoch [2/2] 1/3"]
        assert evaluating == [
            ["fit 0/2", "Epoch [1/2] 3/3", "val 1/2"],
            ["fit 1/2", "Epoch [2/2] 3/3", "val 1/2"],
        ]
        assert screen.lines == []

    def test_figures(self, console, screen):
        """A bar shows elapsed and remaining time, the rate, and the learning rate from a metric or an attribute."""
        trainer = make_engine(lambda batch: time.sleep(0.02))
        trainer.state.lr = 1e-5

        @trainer.on(Events.ITERATION_STARTED)
        def publish():
            trainer.state.metrics["lr/0"] = 0.25

        rows = []

        @trainer.on(Events.ITERATION_COMPLETED(once=90))
        def look():
            rows.extend(screen.rows)

        bar = ProgressBar(style="rich", console=console, mininterval=0)
        bar.attach(trainer, ["lr/0"], state_attributes=["lr"])
        trainer.run(range(100))
        found = re.fullmatch(
            r"Iteration ━+╸?╺?━* 89/100 00:(\d\d)<00:00 ([\d.]+)it/s +lr/0=0.25, lr=1e-05 *", rows[0]
        )
        assert found, rows
        assert int(found[1]) in (2, 3)
        assert 20 < float(found[2]) < 50

    def test_slow_rate(self, bar, screen):
        """A rate below one per second is shown as its inverse."""
        trainer = make_engine(lambda batch: time.sleep(1.1))
        bar(persist=True).attach(trainer)
        trainer.run([0])
        assert re.search(r" 1/1 00:01<00:00 1\.\d\ds/it", screen.rows[0])

    def test_unknown_total(self, bar, screen):
        """Without a length, a bar shows no total until the epoch has ended."""
        trainer = make_engine()
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        bar().attach(trainer, closing_event_name=Events.COMPLETED)
        trainer.run((n for n in range(2)), max_epochs=1)
        assert seen == [["Iteration 1/?"], ["Iteration 2/?"]]

    def test_given_total(self, bar, screen):
        """The option total replaces the forecast."""
        trainer = make_engine()
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        bar(total=9, desc="mine").attach(trainer)
        trainer.run(range(3))
        assert seen[1] == ["mine 2/9"]

    def test_long_values(self, screen):
        """Values that do not fit are continued below, and all are shown."""
        console = Console(file=screen, force_terminal=True, width=80, legacy_windows=False)
        trainer = make_engine()
        values = {f"metric_{n}": n / 7 for n in range(6)}
        bar = ProgressBar(style="rich", epoch_lines=False, console=console, mininterval=0)
        bar.attach(trainer, output_transform=lambda _: values)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: setattr(trainer.state, "output", 1))
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        trainer.run(range(2))
        shown = " ".join(seen[-1])
        assert all(f"{name}={value:.4g}" in shown for name, value in values.items())
        assert screen.lines == []

    def test_read_on_redraw(self, console):
        """Values are read only when the bar is redrawn."""
        reads = []
        trainer = make_engine()
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: setattr(trainer.state, "output", 1))
        ProgressBar(style="rich", epoch_lines=False, console=console, mininterval=60).attach(
            trainer, output_transform=lambda output: reads.append(threading.get_ident()) or 0
        )
        trainer.run(range(10_000), max_epochs=2)
        # Each epoch's full bar is drawn, and the second epoch's bar when it opens.
        assert reads == [threading.get_ident()] * 3

    def test_two_handlers(self, bar, screen):
        """Two ProgressBars on one console share its display."""
        trainer = make_engine()
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        bar(desc="first").attach(trainer)
        bar(desc="second").attach(trainer)
        trainer.run(range(2))
        assert seen[-1] == ["first 2/2", "second 2/2"]
        assert screen.lines == []

    def test_same_file(self, screen, monkeypatch):
        """Two ProgressBars with the same file share one display as well."""
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("TERM", "xterm")
        trainer = make_engine()
        seen = seen_at(trainer, screen, Events.ITERATION_COMPLETED)
        for name in ("first", "second"):
            ProgressBar(style="rich", file=screen, mininterval=0, desc=name).attach(trainer)
        trainer.run(range(2))
        assert seen[-1] == ["first 2/2", "second 2/2"]

    def test_rank_0_only(self, run_ranks):
        """Only rank 0 of two ranks shows a bar and lines."""

        def scenario(rank):
            import io

            from rich.console import Console

            from glowplug import Engine
            from glowplug_progress import ProgressBar

            file = io.StringIO()
            console = Console(file=file, force_terminal=True, width=100)
            trainer = Engine(lambda engine, batch: batch)
            trainer.attach(ProgressBar(style="rich", console=console))
            state = trainer.run(range(3), max_epochs=2)
            return state.iteration, "3/3" in file.getvalue(), len(file.getvalue()) > 0

        assert run_ranks(scenario) == [[6, True, True], [6, False, False]]

    def test_disable(self, console, screen):
        """With disable=True, neither bars nor lines appear."""
        trainer = make_engine()
        trainer.attach(ProgressBar(style="rich", console=console, disable=True))
        trainer.run(range(3), max_epochs=2)
        assert screen.written == ""

    def test_pickle(self, screen):
        """A copy has the same options."""
        copy = pickle.loads(pickle.dumps(ProgressBar(style="rich", best="loss", mode="min", desc="mine")))
        assert (
            copy.__getstate__()
            == ProgressBar(style="rich", best="loss", mode="min", desc="mine").__getstate__()
        )


class TestClose:
    @pytest.mark.parametrize("persist", [False, True])
    @pytest.mark.parametrize("stop", ["terminate", "exception", "keyboard", "interrupt"])
    def test_end_of_run(self, bar, screen, console, persist, stop):
        """Every way to end a run closes all bars and leaves the cursor on an empty line (L-045)."""
        trainer = make_engine()

        @trainer.on(Events.ITERATION_COMPLETED(once=6))
        def end():
            if stop == "exception":
                raise OSError("disk on fire")
            if stop == "keyboard":
                raise KeyboardInterrupt
            getattr(trainer, stop)()

        progress = bar(persist=persist)
        progress.attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)
        progress.attach(trainer)
        try:
            trainer.run(range(4), max_epochs=3)
        except (OSError, KeyboardInterrupt):
            assert stop in ("exception", "keyboard")
        done = "1/4" if stop in ("exception", "keyboard") else "2/4"
        expected = ["Epoch 1/3", "Epoch [1/3] 4/4", f"Epoch [2/3] {done}"]
        assert sorted(screen.lines) == (sorted(expected) if persist else [])
        assert screen.has_cursor
        assert (screen.column, screen.rows[screen.row].strip()) == (0, "")
        assert vars(screen).get("write") is None
        console.print("after")
        assert screen.lines[-1] == "after"

    def test_failing_transform(self, bar, screen):
        """An error in output_transform ends the run, and the bar is closed."""
        trainer = make_engine(lambda batch: batch)
        bar(persist=True).attach(trainer, output_transform=lambda output: 1 / output)
        with pytest.raises(ZeroDivisionError):
            trainer.run([1, 0])
        assert screen.lines == []
        assert (screen.has_cursor, screen.column) == (True, 0)

    def test_nothing_left_by_evaluators(self, bar, screen):
        """One ProgressBar with several evaluators reuses one line, and leaves only lines of the outer engine."""
        trainer, first, second = make_engine(), make_engine(), make_engine()
        progress = bar(persist=True)
        for engine, name in ((trainer, "train"), (first, "first"), (second, "second")):
            progress.attach(engine, name=name)
        seen_first, seen_second = (
            seen_at(engine, screen, Events.ITERATION_COMPLETED) for engine in (first, second)
        )

        @trainer.on(Events.EPOCH_COMPLETED)
        def validate():
            first.run([0])
            second.run([0])

        trainer.run([0], max_epochs=2)
        assert seen_first[-1] == ["train [1/2] 1/1", "train [2/2] 1/1", "first 1/1"]
        assert seen_second[-1] == ["train [1/2] 1/1", "train [2/2] 1/1", "second 1/1"]
        assert screen.lines == ["train [1/2] 1/1", "train [2/2] 1/1"]


class TestPrinting:
    @pytest.fixture
    def start(self, screen, console):
        """Run a step with a bar on a console that writes to sys.stdout, which is the screen: ``start(step, data)``."""
        console.file = None

        def run(step, data, **options):
            progress = ProgressBar(style="rich", epoch_lines=False, console=console, mininterval=0, **options)
            trainer = make_engine(lambda batch: step(progress))
            trainer.attach(progress)
            with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
                trainer.run(data)

        return run

    def test_every_way_to_print(self, screen, console, start):
        """Text from print, log handlers, threads and consoles of rich stands above the bar."""
        log, handler = logging.getLogger("test_rich"), logging.StreamHandler(screen)
        log.addHandler(handler)

        def step(progress):
            print("printed")
            log.warning("logged")
            print("to stderr", file=sys.stderr)
            thread = threading.Thread(target=print, args=["from a thread"])
            thread.start()
            thread.join()
            console.print("from the console")
            Console(width=80).print("from another console")
            progress.log_message("a message [bold]")
            seen.append(screen.lines)

        seen = []
        start(step, [0])
        log.removeHandler(handler)
        printed = [
            "printed",
            "logged",
            "to stderr",
            "from a thread",
            "from the console",
            "from another console",
            "a message [bold]",
        ]
        assert seen == [[*printed, "Iteration 0/1"]]
        assert screen.lines == printed

    def test_unfinished_line(self, screen, start):
        """An unfinished line waits for its end, or for the bar to close."""
        ends = iter([" ", " b\n", " "])

        def step(progress):
            print("a", end=next(ends), flush=True)
            seen.append(screen.lines)

        seen = []
        start(step, [1, 2, 3])
        assert seen == [["Iteration 0/3"], ["a a b", "Iteration 1/3"], ["a a b", "Iteration 2/3"]]
        assert screen.lines == ["a a b", "a"]

    def test_codes(self, screen, start):
        """Colors in printed text are preserved."""
        start(lambda progress: print("\x1b[31mred\x1b[0m"), [0])
        assert "\x1b[31mred\x1b[0m\n" in screen.written

    def test_progress_of_the_user(self, screen, console, start):
        """A display of rich that the user opens within the run appears below the bar."""

        def step(progress):
            with Progress("{task.description}", console=console, auto_refresh=False, transient=True) as mine:
                mine.add_task("mine")
                mine.refresh()
                seen.append(screen.lines)
            print("printed")

        seen = []
        start(step, [1, 2])
        assert seen == [["Iteration 0/2", "mine"], ["printed", "Iteration 1/2", "mine"]]
        assert screen.lines == ["printed", "printed"]

    def test_redirected_stdout(self, screen, monkeypatch):
        """While sys.stdout is replaced by a file, no codes reach the file."""
        monkeypatch.setenv("TERM", "xterm")
        with contextlib.redirect_stdout(screen):
            console = Console(legacy_windows=False)
        assert console.is_interactive
        trainer, file = make_engine(lambda batch: print("hidden")), io.StringIO()
        trainer.attach(ProgressBar(style="rich", epoch_lines=False, console=console, mininterval=0))
        with contextlib.redirect_stdout(file):
            trainer.run(range(2))
        assert file.getvalue() == "hidden\nhidden\n"
        assert screen.written == ""
