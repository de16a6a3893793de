"""Run Python scripts in forked processes, which inherit the large libraries that are already imported."""

import atexit
import os
import runpy
import subprocess
import sys
import tempfile
import threading
import warnings as python_warnings
from pathlib import Path

from forkserver import PROCESSES

LIMIT = 240


class ForkedScript:
    """A script that runs in a folder, as ``python -W <warnings> <path> <arguments>`` would run it.

    Use ``subprocess`` where a test is about what the interpreter imports.
    """

    def __init__(self, path, *arguments, folder, warnings="error", **environment):
        self._folder = tempfile.TemporaryDirectory()
        self._output = Path(self._folder.name)
        command = (str(path), *map(str, arguments))
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self._process = PROCESSES.Process(
            target=_run, args=(command, str(folder), warnings, environment, self._output)
        )
        self._process.start()

    @property
    def stderr(self):
        """What the script has printed to stderr."""
        return self._text("stderr")

    @property
    def is_running(self):
        """Whether the process has not ended."""
        return self._process.is_alive()

    def kill(self):
        """Kill the process, and return the finished process."""
        self._process.kill()
        return self.end()

    def end(self):
        """Wait for the end of the script, and return the finished process."""
        self._process.join(LIMIT)
        if self.is_running:
            self._process.kill()
            self._process.join()
        with self._folder:
            return subprocess.CompletedProcess(
                (), self._process.exitcode, self._text("stdout"), self._text("stderr")
            )

    def _text(self, name):
        path = self._output / name
        return path.read_text() if path.exists() else ""


def run_script(path, *arguments, folder, **options):
    """Run a script to its end, and return the finished process."""
    return ForkedScript(path, *arguments, folder=folder, **options).end()


def _run(command, folder, warnings, environment, output):
    """Run a script in this process, and do what an interpreter does at its end."""
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = command
    sys.path.insert(0, str(Path(command[0]).parent))
    python_warnings.simplefilter(warnings)
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        threading._shutdown()
        atexit._run_exitfuncs()
