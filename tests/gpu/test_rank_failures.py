"""The failure of one rank ends the run of the others while they wait in a collective operation of NCCL."""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")

SCRIPT = """\
import os, time
import torch
import torch.distributed as dist
from glowplug import Engine, Events
from glowplug.distributed import rank

device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
torch.cuda.set_device(device)
dist.init_process_group("nccl")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8).to(device), [device.index])

def step(engine, batch):
    if rank() == 1 and engine.state.iteration == 20:
        raise ValueError("this is the cause")
    model(torch.ones(2, 8, device=device)).sum().backward()
    return model.module.weight.grad.sum().item()

trainer = Engine(step)
trainer.add_event_handler(Events.TEARDOWN, lambda: print("rank", rank(), "TEARDOWN", flush=True))
began = time.monotonic()
try:
    trainer.run(range(100))
except Exception as error:
    print("rank", rank(), type(error).__name__, error, flush=True)
    print("rank", rank(), "is in time", time.monotonic() - began < 20, flush=True)
    time.sleep(5 * rank())
os._exit(0)
"""


def test_other_rank_ends(tmp_path):
    """The other rank aborts its process group, and its run ends with an error that names the rank and the cause (D1)."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ended = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    lines = set(ended.stdout.splitlines())
    assert {
        "rank 0 TEARDOWN",
        "rank 1 TEARDOWN",
        "rank 1 ValueError this is the cause",
        "rank 0 RankFailedError rank 1 failed at iteration 20: ValueError: this is the cause",
        "rank 0 is in time True",
    } <= lines, ended.stdout + ended.stderr
