"""Starts, kills and examines the jobs of ``training_process.py``."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

SCRIPT = Path(__file__).with_name("training_process.py")
LIMIT = 120


class Parent:
    """A process that has imported the loggers and forks one job at a time."""

    def __init__(self, path):
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(path)
        self._lines = self._connection.makefile()

    def fork(self, job):
        """Start a job and return its process id."""
        self._connection.sendall(json.dumps(job).encode() + b"\n")
        return int(self._lines.readline())

    def wait(self):
        """Wait until the job has ended, and return its exit code; negative for a signal."""
        return os.waitstatus_to_exitcode(int(self._lines.readline()))

    def stop(self):
        """End the process."""
        self._lines.close()
        self._connection.close()


class Jobs:
    """Runs jobs in forked processes, several at a time.

    Args:
        workers: Maximum number of jobs at a time.
        modules: Modules to import before the jobs are forked, besides the loggers.
        command: Command that runs another one, which is given as its last arguments, such as that of ``SmallDisk``.
    """

    def __init__(self, workers, modules=(), command=()):
        self._folder = tempfile.TemporaryDirectory()
        path = f"{self._folder.name}/socket"
        self._process = subprocess.Popen(
            [
                *command,
                *(sys.executable, "-W", "error", "-W", "ignore:The ``noload`` loader strategy"),
                *(str(SCRIPT), path, *modules),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdout.readline() == "ready\n"
        self.pid = self._process.pid
        self._parents = [Parent(path) for _ in range(workers)]
        self._free = SimpleQueue()
        for parent in self._parents:
            self._free.put(parent)

    def each(self, function, items):
        """Call a function for each item, in as many threads as there are parents, and return the results in order."""
        with ThreadPoolExecutor(len(self._parents)) as pool:
            return list(pool.map(function, items))

    def start(self, folder, action, **job):
        """Start a job."""
        folder.mkdir(parents=True, exist_ok=True)
        job.setdefault("home", str(folder / "home"))
        return Running(self._free, {"folder": str(folder), "action": action, **job})

    def run(self, folder, action, **job):
        """Run a job to its end, and return it."""
        running = self.start(folder, action, **job)
        running.wait()
        return running

    def stop(self):
        """End all processes."""
        for parent in self._parents:
            parent.stop()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


class Running:
    """A job that was started."""

    def __init__(self, free, job):
        self.folder = Path(job["folder"])
        self._free = free
        self._parent = free.get(timeout=LIMIT)
        (self.folder / "result").unlink(missing_ok=True)
        self.pid = self._parent.fork(job)
        self.code = None

    def wait_for_calls(self):
        """Wait until the job has logged."""
        calls, end = self.folder / f"calls-{self.pid}", time.monotonic() + LIMIT
        while True:
            # Asked first, because a job may log and end between the two questions.
            is_running = self.is_running
            if calls.exists() and calls.stat().st_size:
                return
            if not is_running:
                # Other tests need the parent of this job.
                self.wait()
                raise AssertionError(f"the job ended before it logged\n{self.output}")
            assert time.monotonic() < end, f"the job did not log in time\n{self.output}"
            time.sleep(0.005)

    @property
    def is_running(self):
        """Whether the process has not ended."""
        return Path(f"/proc/{self.pid}").exists()

    def kill(self, signum):
        """Send a signal, wait for the end, and return the age of each logged step at the time of the signal."""
        sent = time.time()
        os.kill(self.pid, signum)
        self.wait()
        return {step: sent - at for step, at in self.calls().items()}

    def wait(self):
        """Wait for the end of the job, and return its exit code."""
        self.code = self._parent.wait()
        self._free.put(self._parent)
        return self.code

    def calls(self):
        """Return the time of each log call of this process, by its step."""
        path = self.folder / f"calls-{self.pid}"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return {int(line.split()[0]): float(line.split()[1]) for line in lines if line.endswith("\n")}

    @property
    def output(self):
        """The standard output and error of all jobs in the folder."""
        path = self.folder / "output"
        return path.read_text() if path.exists() else ""

    @property
    def result(self):
        """What the job returned."""
        path = self.folder / "result"
        assert path.exists(), f"exit code {self.code}\n{self.output}"
        return json.loads(path.read_text())
