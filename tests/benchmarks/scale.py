"""Model votes and recoveries of many ranks: ``python tests/benchmarks/scale.py [--seed N]``."""

import argparse
import contextlib
import json
import math
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

RANKS = (8, 64, 512, 4096, 10_000)
STEPS = (0.01, 0.3)  # seconds: medians of the lognormal step times of a rank
SPREAD = 0.1  # sigma of the lognormal step times
SHARE = 0.01  # of the time may go into votes
POLL = 0.5  # seconds between two looks at the key of failed ranks
NUMBERS = 12  # int64 values in a vote
HOURS_BETWEEN_FAILURES = 50_000  # of one rank
GIGABYTES = 4  # of a rank's checkpoint
INTERVALS = (600, 3600)  # seconds between two checkpoints, beside the best interval
SAMPLE = 64 * 2**20  # bytes of the checkpoint that is measured
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def all_reduce_seconds(found, ranks, algorithm="ring"):
    """Return the time of one vote; the ring is the algorithm of gloo, in which each message has a share of the numbers."""
    ring = 2 * (ranks - 1) * (found["hop"] + 8 * max(1, NUMBERS / ranks) * found["byte"])
    tree = math.ceil(math.log2(ranks)) * (found["hop"] + 8 * NUMBERS * found["byte"])
    return ring if algorithm == "ring" else tree


def voting_seconds(durations, every, reduction, call):
    """Return the time of steps (iterations, ranks), with a vote posted after each ``every`` steps and awaited a step later."""
    now, completed = np.zeros(durations.shape[1]), 0.0
    for iteration, steps in enumerate(durations):
        now = np.maximum(now + steps, completed)
        if iteration % every == 0:
            now = now + call
            completed = now.max() + reduction
    return now.max()


def votes(reduction, call, slowest):
    """Return the iterations between votes that cost at most SHARE, the seconds between them, and the longest delay of a stop."""
    stall, step = np.maximum(0, reduction - slowest).mean(), slowest.mean()
    every = max(1, math.ceil((call + stall) / (SHARE * step)))
    return every, every * step, (every + 1) * step + call + stall


def recovery_seconds(found, ranks, gigabytes):
    """Return the parts of a recovery: notice on all ranks, start of the processes, connection, and load of the checkpoint."""
    notice = POLL * ranks / (ranks + 1) + found["check"]  # the last of all ranks
    # Each rank connects to all others, whose addresses it reads at the store's host.
    connect = (ranks - 1) * (found["connect"] + ranks * found["check cpu"])
    return notice, found["start"], connect, found["load"] * gigabytes


def best_interval(save, failures):
    """Return Daly's estimate of the best time between two checkpoints, from the time of a save and the time between failures."""
    ratio = save / (2 * failures)
    return math.sqrt(2 * save * failures) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - save


def lost_share(interval, save, recovery, failures):
    """Return the share of the time that saves, recoveries and repeated iterations take, if failures are a Poisson process."""
    spent = failures * math.exp(recovery / failures) * math.expm1((interval + save) / failures)
    return 1 - interval / spent


def simulated_lost_share(interval, save, recovery, failures, random):
    """Return the same share from drawn failures."""
    gaps = random.exponential(failures, 200_000)
    kept = np.floor(np.maximum(0, gaps - recovery) / (interval + save)) * interval
    return 1 - kept.sum() / gaps.sum()


def fast(times):
    """Return the end of the fastest tenth: other work on the machine can only add to a time."""
    return float(np.quantile(times, 0.1))


def timed(function, repeats):
    """Return the duration of each call."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return times


def connected(store, rank, size, name):
    """Create the process group, and return the time that this took."""
    store.set(f"{name} {rank}", "ready")
    store.wait([f"{name} {other}" for other in range(size)])
    group = dist.PrefixStore(name, store)
    return timed(lambda: dist.init_process_group("gloo", store=group, rank=rank, world_size=size), 1)[0]


def vote():
    """Post a vote, and return the function that waits for it."""
    numbers = torch.zeros(NUMBERS, dtype=torch.int64)
    return dist.all_reduce(numbers, dist.ReduceOp.MAX, async_op=True).wait


def measure(rank, size, store, seed):
    """Return what one rank measures."""
    times = [connected(store, rank, size, "first")]
    for number in range(4):
        dist.barrier()
        dist.destroy_process_group()
        times.append(connected(store, rank, size, f"again {number}"))
    found = {"connect": fast(times) / (size - 1), "reduction": fast(timed(lambda: vote()(), 500))}
    large = torch.zeros(2**17, dtype=torch.int64)
    found["byte"] = max(0.0, fast(timed(lambda: dist.all_reduce(large), 50)) - found["reduction"]) / 2**20
    pauses = timed(lambda: time.sleep(0.02), 50)
    around = timed(lambda: (wait := vote(), time.sleep(0.02), wait()), 50)
    found["call"] = max(0.0, fast(around) - fast(pauses))
    for name, call in {
        "check": lambda: store.check(["failed"]),
        "set": lambda: store.set("key", "1"),
    }.items():
        dist.barrier()
        began = time.process_time()
        found[name] = fast(timed(call, 2000)) if rank == 1 else None
        dist.barrier()  # rank 0 hosts the store, and does nothing else here
        found[f"{name} cpu"] = (time.process_time() - began) / 2000
    found["steps"], found["elapsed"] = voting_loop(rank, size, seed)
    dist.destroy_process_group()
    return found


def voting_loop(rank, size, seed, every=5):
    """Take steps of drawn lengths with votes between them; return the durations of the steps and of the loop."""
    drawn = np.random.default_rng(seed).lognormal(math.log(0.02), 0.5, (100, size))[:, rank]
    dist.barrier()
    steps, wait, began = [], vote(), time.perf_counter()
    for iteration, seconds in enumerate(drawn):
        steps += timed(lambda seconds=seconds: time.sleep(seconds), 1)
        wait()  # again after the first time, which costs nothing
        if iteration % every == 0:
            wait = vote()
    return steps, time.perf_counter() - began


def recover(rank, size, store, path, fails):
    """Connect, load a checkpoint, and, if ``fails``, wait for a rank to fail; return the moments of failure and readiness."""
    connected(store, rank, size, "recovery")
    torch.load(path, weights_only=True)
    dist.barrier()
    found = {"ready": time.time()}
    if fails:
        time.sleep(POLL * rank / size)  # the ranks of a real job do not poll in step
        if rank == size - 1:
            time.sleep(2 * POLL)
            found["failed"] = time.time()
            store.set("failed", str(rank))
        with contextlib.suppress(RuntimeError):  # the store ends with its host
            while not store.check(["failed"]):
                time.sleep(POLL)
    return found


def run_rank(rank, size, port, folder, function, arguments):
    """Run a function on one rank of a new process, and write its result into a file."""
    found = {"entered": time.time()}
    torch.set_num_threads(1)
    store = dist.TCPStore("127.0.0.1", port, size, is_master=rank == 0)
    found |= function(rank, size, store, **arguments)
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    os._exit(0)


def on_ranks(function, size, attempts=5, **arguments):
    """Return the results of a function on new ranks, in order; each contains the time to start the process."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        try:
            mp.spawn(run_rank, (size, port, folder, function, arguments), size)
        except mp.ProcessRaisedException as error:
            # gloo sometimes refuses to connect ranks on a busy machine.
            if "connectFullMesh" not in str(error) or attempts == 1:
                raise
            return on_ranks(function, size, attempts - 1, **arguments)
        results = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(size)]
    return [{**result, "start": result["entered"] - began} for result in results]


def recovered(size, path):
    """Let a rank fail, restart all ranks, and return the time from the failure until all ranks are ready again."""
    failed = on_ranks(recover, size, path=path, fails=True)[-1]["failed"]
    return max(result["ready"] for result in on_ranks(recover, size, path=path, fails=False)) - failed


def show(head, rows):
    """Print a Markdown table; numbers have three significant digits."""
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        cells = (c if isinstance(c, str) else f"{c:,.0f}" if c >= 100 else f"{c:.3g}" for c in row)
        print(f"| {' | '.join(cells)} |")


def constants(of_pair, path):
    """Return the constants of the model, from two ranks and from a file."""
    (first, second), weights = of_pair, torch.zeros(SAMPLE // 4)

    def save():
        with path.open("wb") as file:
            torch.save(weights, file)
            os.fsync(file.fileno())

    saves = timed(save, 5)
    return {
        **{name: first[name] for name in ("connect", "byte", "call", "check cpu", "set cpu")},
        "hop": first["reduction"] / 2,  # a ring of two ranks has two hops
        **{name: second[name] for name in ("check", "set")},
        "start": statistics.median(
            on_ranks(recover, 2, path=path, fails=False)[0]["start"] for _ in range(5)
        ),
        "save": fast(saves) / SAMPLE * 1e9,
        "load": fast(timed(lambda: torch.load(path, weights_only=True), 5)) / SAMPLE * 1e9,
    }


def validation(found, measured, path):
    """Yield the rows that compare the model with real ranks, which share the cores of this machine."""
    for size, of_ranks in measured.items():
        crowd = max(1.0, size / CORES)
        reduction = all_reduce_seconds(found, size) * crowd
        steps = np.array([of_rank["steps"] for of_rank in of_ranks]).T
        took = max(of_rank["elapsed"] for of_rank in of_ranks)
        notice, *work = recovery_seconds(found, size, SAMPLE / 1e9)
        restart = statistics.median(recovered(size, path) for _ in range(3))
        yield f"all_reduce of {size} ranks, ms", 1e3 * of_ranks[0]["reduction"], 1e3 * reduction
        replayed = voting_seconds(steps, 5, reduction, found["call"])
        yield f"100 steps and 20 votes of {size} ranks, s", took, replayed
        yield f"recovery of {size} ranks, s", restart, notice + crowd * sum(work)


def vote_rows(found, random):
    """Yield one row for each number of ranks and algorithm."""
    for ranks in RANKS:
        slowest = random.lognormal(0, SPREAD, (200, ranks)).max(axis=1)
        for algorithm in ("ring", "tree"):
            reduction = all_reduce_seconds(found, ranks, algorithm)
            of_steps = (votes(reduction, found["call"], step * slowest) for step in STEPS)
            yield f"{ranks:,}", algorithm, 1e3 * reduction, *(cell for cells in of_steps for cell in cells)


def recovery_rows(found, random):
    """Yield a row about recoveries and a row about intervals between checkpoints for each number of ranks."""
    save = found["save"] * GIGABYTES
    for ranks in RANKS:
        parts = recovery_seconds(found, ranks, GIGABYTES)
        polls, failures = ranks / POLL, 3600 * HOURS_BETWEEN_FAILURES / ranks
        best = best_interval(save, failures)
        share, *others = (lost_share(seconds, save, sum(parts), failures) for seconds in (best, *INTERVALS))
        shares = share, simulated_lost_share(best, save, sum(parts), failures, random), *others
        recovery = f"{ranks:,}", *parts, sum(parts), polls, 100 * polls * found["check cpu"]
        yield recovery, (f"{ranks:,}", failures / 3600, best / 60, *(24 * share for share in shares))


def main():
    """Measure on two and four ranks, model more, and print the tables."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/scale.py", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="seed of all drawn times; default: 0")
    seed = parser.parse_args().seed
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    with tempfile.TemporaryDirectory() as folder:
        measured = {size: on_ranks(measure, size, seed=seed) for size in (2, 4)}
        path = Path(folder, "checkpoint.pt")
        found = constants(measured[2], path)
        checked = list(validation(found, measured, path))
    random = np.random.default_rng(seed)
    print(f"{CORES} cores (load {os.getloadavg()[0]:.0f}), torch {torch.__version__}, seed {seed}")
    times = {name: value * (1 if name in ("save", "load") else 1e6) for name, value in found.items()}
    show("constant | us (save and load of a GB: s)", times.items())
    show("on this machine | measured | model", checked)
    steps = (f"{1e3 * step:g} ms steps: iterations | seconds | longest delay" for step in STEPS)
    show(f"ranks | algorithm | all_reduce, ms | {' | '.join(steps)}", vote_rows(found, random))
    recoveries, intervals = zip(*recovery_rows(found, random), strict=True)
    show("ranks | notice | start | connect | load | recovery, s | polls/s | % of a core", recoveries)
    lost = " | ".join(["best", "best (drawn)", *(f"{seconds / 60:g} min" for seconds in INTERVALS)])
    show(f"ranks | hours between failures | best, min | hours lost per day: {lost}", intervals)


if __name__ == "__main__":
    main()
