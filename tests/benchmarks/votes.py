"""The cost of the votes beside a DDP step on two ranks.

The time of a step varies by 10 % from one second to the next, which hides a cost of less than 1 %. So the iterations around each vote are
compared with the other iterations of the same run.
"""

import atexit
import functools
import itertools
import os
import statistics
import subprocess
import sys
import tempfile

from harness import FLOOR, GLOWPLUG, Goal, Row

from glowplug.engine._votes import Pace

ROUNDS = 5
# Width of the layer, passes through it, and votes of a measurement, for a step of about 1 ms and of about 20 ms.
STEPS = {1: (16, 1, 100), 20: (96, 48, 25)}
# Iterations between two votes, and those from the one that posts a vote to the first one after its result.
EVERY, AFFECTED = 20, 3

_RANK = """\
import sys, time
import torch
import torch.distributed as dist
from torch import nn
import glowplug

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)

def make_step(width, passes):
    model = nn.parallel.DistributedDataParallel(nn.Linear(width, width))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    x = torch.randn(256, width)

    def step(engine, batch):
        optimizer.zero_grad()
        y = x
        for _ in range(passes):
            y = model.module(y).relu()
        model(y).sum().backward()
        optimizer.step()
    return step

print("ready", flush=True)
for line in sys.stdin:
    width, passes, iterations, agree_every = map(int, line.split())
    engine, times = glowplug.Engine(make_step(width, passes)), []
    engine.add_event_handler(glowplug.Events.ITERATION_COMPLETED, lambda: times.append(time.perf_counter()))
    dist.barrier()
    engine.run(range(iterations), agree_every=agree_every)
    print(*times, flush=True)
"""


@functools.cache
def ranks():
    """Start two ranks, which wait for measurements."""
    folder = tempfile.mkdtemp()
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(rank), f"{folder}/store"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        atexit.register(process.kill)
        assert process.stdout.readline() == "ready\n"
    return processes


def durations(step, iterations, agree_every):
    """Return the microseconds of each iteration on rank 0 but the first."""
    for process in ranks():
        process.stdin.write(f"{step} {iterations} {agree_every}\n")
        process.stdin.flush()
    times, _ = ([float(number) for number in process.stdout.readline().split()] for process in ranks())
    return [1e6 * (after - before) for before, after in itertools.pairwise(times)]


def measure(milliseconds):
    """Return the microseconds that a vote adds to a run."""
    width, passes, votes = STEPS[milliseconds]
    found = durations(f"{width} {passes}", EVERY * (votes + 1), EVERY)
    # The first vote is posted at the end of iteration 20: found[k] is the time from iteration k + 1 to iteration k + 2.
    around = [found[first : first + EVERY] for first in range(EVERY - 1, len(found) - EVERY + 1, EVERY)]
    return statistics.median(
        sum(window[:AFFECTED]) - AFFECTED * statistics.median(window[AFFECTED:]) for window in around
    )


def rows():
    """Return the rows of the table."""
    pause = 1e6 * Pace.PAUSE
    for milliseconds in STEPS:
        yield Row(
            f"{Pace.PAUSE} s of DDP steps of about {milliseconds} ms on two ranks, with the vote of this time",
            {FLOOR: lambda: pause, GLOWPLUG: lambda step=milliseconds: pause + measure(step)},
            (Goal(1.01, FLOOR),),
            rounds=ROUNDS,
        )
