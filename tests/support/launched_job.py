"""Commands that start several processes, such as torchrun."""

import os
import subprocess
import sys

import psutil

# Seconds for one command.
LIMIT = 300


class LaunchedJob:
    """A Python command that runs in a folder, with all processes that it starts.

    Args:
        folder: Working folder of the command.
        command: Arguments of the interpreter.
        environment: Additional environment variables.
    """

    def __init__(self, folder, command, environment):
        self._output = folder / f"output{len(list(folder.iterdir()))}.txt"
        local = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        with self._output.open("w") as output:
            self._process = psutil.Popen(
                [sys.executable, *map(str, command)],
                cwd=folder,
                env={**os.environ, **local, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def is_running(self):
        """Return whether the command has not ended."""
        return self._process.poll() is None

    def ranks(self):
        """Return the processes that torchrun has started and that run, by rank."""
        found = {}
        for child in self._process.children():
            try:
                found[int(child.environ()["RANK"])] = child
            except (psutil.Error, KeyError):
                # This process is ending, or still a copy of torchrun.
                continue
        return found

    def end(self):
        """Wait for the end of the command, and return its exit code and what all processes have printed."""
        code = self._process.wait(LIMIT)
        return code, self._output.read_text()

    def kill(self):
        """Kill all processes that are left."""
        if self.is_running():
            for each in [*self._process.children(recursive=True), self._process]:
                each.kill()
            self._process.wait()
