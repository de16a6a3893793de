"""Ctrl-C at random moments, mostly within a redraw."""

import pytest

SCRIPT = """
import os, random, signal, sys, threading, time
from rich import get_console
from tqdm import tqdm
from glowplug import Engine, Events
from glowplug_progress import ProgressBar

random.seed(0)
console, failed = get_console(), []
for _ in range(60):
    trainer = Engine(lambda engine, batch: time.sleep(0.0005))
    evaluator = Engine(lambda engine, batch: None)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=7), lambda: print("printed"))
    bar = ProgressBar(style=sys.argv[1], mininterval=0, epoch_lines=True)
    bar.attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED)
    bar.attach(trainer)
    bar.attach(evaluator)
    timer = threading.Timer(random.uniform(0.005, 0.06), os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        trainer.run(range(5), max_epochs=1_000_000)
    except KeyboardInterrupt:
        pass
    timer.join()
    is_redirected = "write" in vars(sys.stdout) or "write" in vars(sys.stderr)
    left = len(console._live_stack) + len(console._render_hooks) + len(tqdm._instances) + is_redirected
    if left:
        failed.append(left)
print("failed:", failed)
"""


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_interrupts(screen, start, read_all, style):
    """After 60 interruptions, no bar is open, the streams are restored and the terminal has a cursor."""
    job, master = start(SCRIPT, style)
    screen.write(read_all(master).decode())
    assert job.wait(60) == 0
    assert screen.rows[screen.row - 1].strip() == "failed: []"
    assert (screen.has_cursor, screen.column) == (True, 0)
