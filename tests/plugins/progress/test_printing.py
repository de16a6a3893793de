"""Printing while bars are open."""

import contextlib
import functools
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest
from tqdm import tqdm

from glowplug import Engine, Events
from glowplug_progress import ProgressBar


@pytest.fixture
def bar():
    """A ProgressBar factory whose bars draw every change."""
    return functools.partial(ProgressBar, ncols=200, mininterval=0)


def prepare(step, n=3, *, stdout=None, stderr=None, **limits):
    """Return an engine that calls a function at each iteration, and a function that runs it with other streams."""
    trainer = Engine(lambda engine, batch: step(batch))

    def start():
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr or stdout):
            trainer.run(range(1, n + 1), **limits)

    return trainer, start


@pytest.mark.parametrize("is_default", [True, False])
def test_print_during_an_epoch(screen, bar, is_default):
    """Printed lines stand above the bar, and the bar stays whole and moves on."""
    trainer, start = prepare(lambda batch: print("step", batch), stdout=screen)
    seen = []
    trainer.attach(bar(file=None if is_default else screen))
    trainer.add_event_handler(Events.GET_BATCH_STARTED, lambda: seen.append(screen.lines))
    start()
    assert seen[2] == ["step 1", "step 2", "Iteration: [2/3] 67%|"]
    assert screen.lines == ["step 1", "step 2", "step 3"]


def test_every_way_to_print(screen, bar):
    """Warnings, log handlers, other threads and print to stderr keep the bar whole as well."""
    log, handler = logging.getLogger("test_printing"), logging.StreamHandler(screen)
    log.addHandler(handler)

    def step(batch):
        warnings.warn("warned", stacklevel=1)
        log.warning("logged")
        print("to stderr", file=sys.stderr)
        thread = threading.Thread(target=print, args=["from a thread"])
        thread.start()
        thread.join()
        seen.append(screen.lines)

    seen = []
    trainer, start = prepare(step, 1, stdout=screen)
    trainer.attach(bar())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # pytest collects warnings; this is what Python does without it.
        warnings.showwarning = lambda message, *_, **__: sys.stderr.write(f"{message}\n")
        start()
    log.removeHandler(handler)
    assert seen == [["warned", "logged", "to stderr", "from a thread", "Iteration: [0/1] 0%|"]]


def test_several_bars(screen, bar):
    """Lines stand above all bars, and those of an evaluator."""
    evaluator, evaluate = prepare(lambda batch: print("evaluating", batch), 1, stdout=screen)
    trainer, start = prepare(lambda batch: None, 2, max_epochs=2, stdout=screen)
    bar(desc="epochs").attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)
    bar(persist=True).attach(trainer)
    bar(desc="val").attach(evaluator)

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate():
        evaluate()
        print("epoch", trainer.state.epoch)
        seen.append(screen.lines)

    seen = []
    start()
    assert seen[0] == ["evaluating 1", "epoch 1", "epochs: [0/2] 0%|", "Epoch [1/2]: [2/2] 100%|"]
    assert screen.lines == [
        "evaluating 1",
        "epoch 1",
        "Epoch [1/2]: [2/2] 100%|",
        "evaluating 1",
        "epoch 2",
        "Epoch [2/2]: [2/2] 100%|",
    ]


def test_bar_of_the_user(screen, bar):
    """A tqdm bar and tqdm.write() of the user work within an open bar."""

    def step(batch):
        for _ in tqdm(range(2), ncols=60, mininterval=0, leave=False, bar_format="mine {n_fmt}"):
            seen.append(screen.lines)
        tqdm.write("written")
        print("printed")

    seen = []
    trainer, start = prepare(step, 1, stdout=screen)
    trainer.attach(bar())
    start()
    assert seen[1] == ["Iteration: [0/1] 0%|", "mine 1"]
    assert screen.lines == ["written", "printed"]


def test_unfinished_line(screen, bar):
    """An unfinished line waits for its end, or for the bar to close."""

    def step(batch):
        print("a", end=" ", flush=True)
        seen.append(screen.lines)
        if batch == 2:
            print("b")
            seen.append(screen.lines)

    seen = []
    trainer, start = prepare(step, stdout=screen)
    trainer.attach(bar())
    start()
    assert seen[:3] == [
        ["Iteration: [0/3] 0%|"],
        ["Iteration: [1/3] 33%|"],
        ["a a b", "Iteration: [1/3] 33%|"],
    ]
    assert screen.lines == ["a a b", "a"]


@pytest.mark.parametrize("end", ["completed", "exception", "interrupt", "remove"])
def test_stdout_is_restored(bar, end):
    """After every end of a run the streams are as before, and sys.stdout is never replaced."""
    stdout, stderr = io.StringIO(), io.StringIO()

    def step(batch):
        assert sys.stdout is stdout
        assert "write" in vars(stderr)
        if end == "exception":
            raise OSError("disk on fire")
        if end == "interrupt":
            trainer.interrupt()
        if end == "remove":
            handle.remove()
            assert "write" not in vars(stderr)

    trainer, start = prepare(step, 1, stdout=stdout, stderr=stderr)
    handle = bar().attach(trainer)
    with contextlib.suppress(OSError):
        start()
    assert vars(stdout) == vars(stderr) == {}


def test_method_replaced_by_others(bar, screen):
    """A library that replaced write() before the bar, or replaces it while the bar is open, is preserved."""
    lines = []

    def record(write):
        return lambda text: (lines.append(text), write(text))[1]

    before = screen.write = record(screen.write)
    trainer, start = prepare(lambda batch: print("inside", file=screen), 1, stdout=screen)
    trainer.attach(bar())
    start()
    assert screen.write is before
    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda: setattr(screen, "write", record(screen.write))
    )
    start()
    assert screen.write is not before
    print("after", file=screen)
    assert screen.lines == ["inside", "inside", "after"]
    assert lines.count("after") == 2


def test_redirected_stdout(screen, bar):
    """What is redirected during a run does not reach the screen."""
    target = io.StringIO()

    def step(batch):
        with contextlib.redirect_stdout(target):
            print("hidden", batch)
        print("shown", batch)

    trainer, start = prepare(step, 2, stdout=screen)
    trainer.attach(bar())
    start()
    assert target.getvalue() == "hidden 1\nhidden 2\n"
    assert screen.lines == ["shown 1", "shown 2"]


def test_other_files_are_not_affected(screen):
    """Output to a file is written at once, and its lines do not redraw a bar on the terminal."""
    file = io.StringIO()

    def step(batch):
        before = screen.written
        print("step", end="")
        assert screen.written == before

    trainer, start = prepare(step, stdout=file, stderr=screen)
    trainer.attach(ProgressBar(mininterval=60))
    start()
    assert file.getvalue() == "stepstepstep"


SCRIPT = """
import os, sys
from glowplug import Engine, Events
from glowplug_progress import ProgressBar

def fork():
    child = os.fork()
    if child == 0:
        print("child", flush=True)
        os._exit(0)
    os.waitpid(child, 0)

def step(engine, batch):
    print("step", batch)
    if batch == 2:
        fork()

trainer = Engine(step)
options = {"ncols": 80} if sys.argv[1] == "tqdm" else {"epoch_lines": False}
ProgressBar(persist=True, style=sys.argv[1], **options).attach(trainer)
trainer.run([1, 2, 3], max_epochs=2)
print("end")
"""


def test_one_pipe(screen):
    """With stdout and stderr in one pipe, every line is whole."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("        fork()", "        pass"), "tqdm"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=True,
        timeout=60,
    )
    screen.write(ended.stdout.decode())
    assert screen.lines == [
        "step 1",
        "step 2",
        "step 3",
        "Epoch [1/2]: [3/3] 100%|",
        "step 1",
        "step 2",
        "step 3",
        "Epoch [2/2]: [3/3] 100%|",
        "end",
    ]


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_terminal(screen, start, read_all, style):
    """On a real terminal every line is whole, and a forked process can print."""
    job, master = start(SCRIPT, style)
    written = read_all(master)
    assert job.wait(60) == 0
    screen.write(written.decode())
    assert len(re.findall(rb"(?<!\d)0/3", written)) >= 2
    assert written.count(b"child") == 2
    # The child does not know of the bar: its line follows on what the bar shows.
    steps = [line for line in screen.lines if not line.startswith("Epoch")]
    assert steps == ["step 1", "step 2", "step 3"] * 2 + ["end"]
    assert screen.has_cursor


WAITING = """
import os, sys, time
from glowplug import Engine
from glowplug_progress import ProgressBar

def step(engine, batch):
    print("waiting")
    time.sleep(60)

trainer = Engine(step)
ProgressBar(style=sys.argv[1]).attach(trainer)
trainer.run([1])
"""


@pytest.mark.parametrize("style", ["tqdm", "rich"])
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGKILL"])
def test_signals(screen, start, read_all, style, signal_name):
    """A process that is interrupted or killed leaves a terminal with a cursor; a traceback stands below the bars."""
    job, master = start(WAITING, style)
    written = b""
    while b"0/1" not in written.partition(b"waiting")[2]:
        written += os.read(master, 4096)
    # rich repeats a line if it is interrupted directly after it has written the line.
    time.sleep(0.3)
    job.send_signal(getattr(signal, signal_name))
    screen.write((written + read_all(master)).decode())
    assert job.wait(60) == -getattr(signal, signal_name)
    assert screen.has_cursor
    if signal_name == "SIGINT":
        assert screen.lines[:2] == ["waiting", "Traceback (most recent call last):"]
        assert screen.lines[-1] == "KeyboardInterrupt"
