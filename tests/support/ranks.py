"""Runs a function on several ranks: real processes, connected by gloo."""

import json
import os
import runpy
import time

from forkserver import PROCESSES

LIMIT = 120
# Ranks that hang because one of them has failed are ended after this time.
GLOO_LIMIT = 30
# How often a connection of the ranks is tried.
ATTEMPTS = 3

_SCRIPT = """\
import datetime, json, os, sys

output = os.open({output!r}, os.O_WRONLY | os.O_CREAT)
os.dup2(output, 1)
os.dup2(output, 2)
sys.path.insert(0, {folder!r})
os.environ.clear()
os.environ.update({environment!r})

import torch
import torch.distributed as dist

torch.set_num_threads(1)

{source}
dist.init_process_group(
    "gloo",
    init_method="file://" + {store!r},
    rank={rank},
    world_size={size},
    timeout=datetime.timedelta(seconds={limit}),
)
result = json.dumps({name}({rank}))
if dist.is_initialized():
    dist.destroy_process_group()
with open({result!r}, "w") as file:
    file.write(result)
"""


def run_on_ranks(source, name, folder, size):
    """Run the function ``name`` of a source on ``size`` ranks, and return the results of those that return.

    The source is run before the ranks connect.
    """
    for _ in range(ATTEMPTS):
        codes, results, outputs = _run(source, name, folder, size)
        # gloo sometimes refuses to connect ranks on a busy machine. The function has not been called then.
        if not any("connectFullMesh failed" in output for output in outputs):
            break
    assert codes == [0] * size, f"exit codes {codes}\n" + "\n".join(
        f"rank {rank}:\n{output}" for rank, output in enumerate(outputs)
    )
    return [json.loads(result.read_text()) for result in results if result.exists()]


def _run(source, name, folder, size):
    """Return the exit codes, the files of the results and the outputs of the ranks."""
    number = len(list(folder.iterdir()))
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    processes, results, outputs = [], [], []
    for rank in range(size):
        stem = folder / f"ranks{number}-{rank}"
        script, result, output = (stem.with_suffix(suffix) for suffix in (".py", ".json", ".txt"))
        text = _SCRIPT.format(
            output=str(output),
            folder=str(folder),
            environment=environment,
            store=str(folder / f"ranks{number}-store"),
            rank=rank,
            size=size,
            limit=GLOO_LIMIT,
            source=source,
            name=name,
            result=str(result),
        )
        script.write_text(text)
        # A rank that multiprocessing has forked ends without finalizing the interpreter. Finalizing it can abort the process after
        # all its work is done: gloo's threads may still release tensors then (https://github.com/pytorch/pytorch/issues/190489).
        process = PROCESSES.Process(target=runpy.run_path, args=(str(script), None, "__main__"))
        process.start()
        processes.append(process)
        results.append(result)
        outputs.append(output)
    deadline = time.monotonic() + LIMIT
    try:
        for process in processes:
            process.join(max(1, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.join()
    codes = [process.exitcode for process in processes]
    return codes, results, [output.read_text() if output.exists() else "" for output in outputs]
