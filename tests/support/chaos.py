"""Disturbs the digits job on two ranks, and starts it again each time it ends, as a cluster does."""

import contextlib
import os
import signal
import threading
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from backends import statuses
from faulty_proxy import ANSWER_LOST, BLACK_HOLE, HEALTHY, REFUSED, SLOW, FaultyProxy
from small_disk import fill, free

# After one rank has failed, the others get SIGTERM, and after this many seconds SIGKILL.
GRACE = 3.0
# The exit code of a rank that was preempted.
PREEMPTED = 75
# The longest time in seconds for a run with all its disturbances.
LIMIT = 240
# Additional seconds of each step.
PACE = 0.03
# The iterations of the job.
ITERATIONS = 138


class Disturbance(NamedTuple):
    """A disturbance that begins ``delay`` seconds after an iteration of the run, which is counted over all its processes."""

    kind: str
    iteration: int
    delay: float


def plan(kinds, chance):
    """Return disturbances of the given kinds at random moments of a run, in order."""
    moments = sorted(chance.randint(1, ITERATIONS) for _ in kinds)
    for number in range(1, len(kinds)):
        # This one hits the process that the one before it has made start again.
        if chance.random() < 0.25:
            moments[number] = moments[number - 1]
    return [Disturbance(kind, at, chance.uniform(0.0, 0.5)) for kind, at in zip(kinds, moments, strict=True)]


class DisturbedJob:
    """A job on two ranks whose processes, server and disk have faults.

    Args:
        jobs: Starts the processes of the ranks.
        server: The MLflow server.
        disk: Folder in which the job writes its files; for the ranks, a small disk.
        logs: Folder for the output of each process.
        chance: Random generator of the disturbances.
        async_save: Whether checkpoints are written in the background.

    Attributes:
        performed: How often each kind of disturbance has hit a running job.
        starts: How often the job was started.
        preempted: How often all ranks were preempted, which a signal to one of them has caused.
    """

    def __init__(self, jobs, server, disk, logs, chance, *, async_save):
        self.performed = Counter()
        self.starts = self.preempted = 0
        self.pids = []
        self.name = logs.name
        # The folder in the small disk, as this process finds it.
        self._disk = Path(f"/proc/{jobs.pid}/root{disk}")
        self.output = self._disk / self.name
        self.proxy = FaultyProxy(server.port)
        self._jobs = jobs
        self._server = server
        self._server_lock = threading.Lock()
        self._folder = disk / self.name
        self.home = self._folder / "home"
        self._logs = logs
        self._chance = chance
        self._async_save = async_save
        self._iteration = 0
        self._is_full = self._may_end = False
        self._healing = ThreadPoolExecutor(16)
        self._healed = []

    def train(self, disturbances):
        """Run the job to its end, and return the results of the ranks."""
        waiting, end = deque(disturbances), time.monotonic() + LIMIT
        while True:
            ranks = self._start()
            try:
                self._watch(ranks, waiting, end)
            finally:
                self._end(ranks)
            if [rank.code for rank in ranks] == [0, 0]:
                break
            self.preempted += all(rank.code == PREEMPTED for rank in ranks)
            found = statuses(self._server.folder / "mlflow.db", self.name)
            assert ranks[0].code == 0 or found in ([], ["RUNNING"], ["FAILED"], ["KILLED"]), outputs(ranks)
            assert self._may_end or any("connectFullMesh" in rank.output for rank in ranks), outputs(ranks)
        for healed in self._healed:
            healed.result(LIMIT)
        return [rank.result for rank in ranks]

    def close(self):
        """Heal everything."""
        self._healing.shutdown()
        self.proxy.close()

    def _start(self):
        self.starts += 1
        self._may_end = self._is_full
        arguments = {
            "home": str(self.home),
            "size": 2,
            "store": str(self._logs / f"store{self.starts}"),
            "output": str(self._folder),
            "tracking_uri": self.proxy.uri,
            "experiment": self.name,
            "resume": self.starts > 1,
            "pace": PACE,
            "async_save": self._async_save,
        }
        ranks = [
            self._jobs.start(
                self._logs / f"start{self.starts}-rank{rank}", "train_digits", rank=rank, **arguments
            )
            for rank in range(2)
        ]
        self.pids += [rank.pid for rank in ranks]
        return ranks

    def _watch(self, ranks, waiting, end):
        """Disturb the ranks until one of them has failed, or all have ended or were preempted."""
        while running := [rank for rank in ranks if rank.code is None]:
            for rank in running:
                if not rank.is_running:
                    rank.wait()
            if any(rank.code not in {None, 0, PREEMPTED} for rank in ranks):
                return
            self._iteration = max(self._iteration, *ranks[0].calls(), 0)
            if waiting and waiting[0].iteration <= self._iteration:
                time.sleep(waiting[0].delay)
                # Otherwise, it hits the processes that are started next.
                if all(rank.is_running for rank in ranks):
                    kind = waiting.popleft().kind
                    self.performed[kind] += 1
                    DISTURBANCES[kind](self, ranks)
            assert time.monotonic() < end, f"the run took more than {LIMIT} s\n{outputs(ranks)}"
            time.sleep(0.005)

    def _end(self, ranks):
        """End the ranks that have not ended, as torchrun does."""
        for signum in (signal.SIGTERM, signal.SIGKILL):
            running = [rank for rank in ranks if rank.code is None]
            for rank in running:
                send(signum, rank)
            end = time.monotonic() + GRACE
            while any(rank.is_running for rank in running) and time.monotonic() < end:
                time.sleep(0.005)
            for rank in running:
                if not rank.is_running:
                    rank.wait()

    def _after(self, seconds, heal):
        def wait_and_heal():
            time.sleep(seconds)
            heal()

        self._healed.append(self._healing.submit(wait_and_heal))

    def signal(self, signum, ranks):
        """Send a signal to some ranks."""
        self._may_end = True
        for rank in ranks:
            send(signum, rank)

    def restart_server(self):
        """Kill the server, and start it again after a while."""

        def start():
            with self._server_lock:
                if self._server.process is None:
                    self._server.start()

        with self._server_lock:
            self._server.kill()
        self._after(self._chance.uniform(0.0, 2.0), start)

    def fail_server(self):
        """Let the server fail for a while."""
        self.proxy.fault = self._chance.choice((REFUSED, BLACK_HOLE, SLOW, ANSWER_LOST, 500, 503, 429))
        self._after(self._chance.uniform(0.2, 3.0), lambda: setattr(self.proxy, "fault", HEALTHY))

    def fill_disk(self):
        """Fill the disk for a while."""

        def empty():
            free(self._disk)
            self._is_full = False

        self._is_full = self._may_end = True
        fill(self._disk)
        self._after(self._chance.uniform(0.2, 3.0), empty)

    def damage_newest(self, ranks):
        """Kill both ranks, and flip a bit of the newest checkpoint if there is another one."""
        self.signal(signal.SIGKILL, ranks)
        for rank in ranks:
            rank.wait()
        saved = sorted(
            self.output.glob("checkpoints/last_*.pt"), key=lambda path: int(path.stem.split("_")[-1])
        )
        if len(saved) > 1:
            content = bytearray(saved[-1].read_bytes())
            content[self._chance.randrange(len(content))] ^= 1 << self._chance.randrange(8)
            saved[-1].write_bytes(content)


def send(signum, rank):
    """Send a signal to a rank, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(rank.pid, signum)


def outputs(ranks):
    """Return the exit codes and outputs of the ranks, for the message of a failure."""
    return "\n".join(f"rank {number}: {rank.code}\n{rank.output}" for number, rank in enumerate(ranks))


DISTURBANCES = {
    "SIGKILL to rank 0": lambda job, ranks: job.signal(signal.SIGKILL, ranks[:1]),
    "disk full": lambda job, _: job.fill_disk(),
    "server killed": lambda job, _: job.restart_server(),
    "SIGTERM to rank 1": lambda job, ranks: job.signal(signal.SIGTERM, ranks[1:]),
    "checkpoint damaged": lambda job, ranks: job.damage_newest(ranks),
    "SIGKILL to rank 1": lambda job, ranks: job.signal(signal.SIGKILL, ranks[1:]),
    "SIGKILL to both": lambda job, ranks: job.signal(signal.SIGKILL, ranks),
    "SIGTERM to rank 0": lambda job, ranks: job.signal(signal.SIGTERM, ranks[:1]),
    "SIGTERM to both": lambda job, ranks: job.signal(signal.SIGTERM, ranks),
    "server faulty": lambda job, _: job.fail_server(),
}
