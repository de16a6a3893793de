"""The cost of the votes beside a DDP step on two ranks, compared with the same run without votes."""

import atexit
import functools
import os
import subprocess
import sys
import tempfile

from harness import FLOOR, GLOWPLUG, Goal, Row

ROUNDS = 9
# Passes through the layer for a step of about 1 ms and of about 20 ms, and the iterations of a measurement.
STEPS = {1: (1, 1200), 20: (48, 120)}

_RANK = """\
import sys, time
import torch
import torch.distributed as dist
from torch import nn
import glowplug

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
model = nn.parallel.DistributedDataParallel(nn.Linear(96, 96))
optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
x = torch.randn(256, 96)

def make_step(passes):
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
    passes, iterations, agree_every = map(int, line.split())
    engine = glowplug.Engine(make_step(passes))
    dist.barrier()
    began = time.perf_counter()
    engine.run(range(iterations), agree_every=None if agree_every < 0 else agree_every)
    print((time.perf_counter() - began) / iterations * 1e6, flush=True)
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


def measure(milliseconds, agree_every):
    """Return the microseconds of an iteration on rank 0; ``agree_every`` is -1 for the default."""
    passes, iterations = STEPS[milliseconds]
    for process in ranks():
        process.stdin.write(f"{passes} {iterations} {agree_every}\n")
        process.stdin.flush()
    seconds, _ = (float(process.stdout.readline()) for process in ranks())
    return seconds


def rows():
    """Return the rows of the table."""
    for milliseconds in STEPS:
        without = functools.partial(measure, milliseconds, 0)
        yield Row(
            f"DDP step of about {milliseconds} ms on two ranks, votes at the default distance",
            {FLOOR: without, GLOWPLUG: functools.partial(measure, milliseconds, -1)},
            (Goal(1.01, FLOOR),),
            rounds=ROUNDS,
        )
    yield Row(
        "DDP step of about 1 ms on two ranks, a vote at each iteration",
        {FLOOR: functools.partial(measure, 1, 0), GLOWPLUG: functools.partial(measure, 1, 1)},
        rounds=ROUNDS,
    )
