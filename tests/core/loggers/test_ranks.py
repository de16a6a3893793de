"""Loggers on several ranks: which rank logs, and which run a rank continues."""

import json
import subprocess
import sys

import pytest
from ranks import run_on_ranks

from glowplug.loggers import Logger

pytest.importorskip("torch")

KILLED = """
import json, os, sys
from pathlib import Path
from glowplug.loggers import Logger

class Store(Logger):
    def run_info(self):
        return {"run": "seven"}

    def write_scalars(self, scalars, step, timestamp):
        raise ConnectionError("the server is gone")

logger = Store(all_ranks=sys.argv[2] == "all")
for step in range(1, 11):
    logger.log_scalars({"a": 1.0}, step)
    if step == 5:
        Path(sys.argv[1]).write_text(json.dumps(logger.state_dict()))
logger._delivery.save()
os._exit(9)
"""


@pytest.fixture
def leave_state(state_folder):
    """Return a function that lets rank 0 log 10 steps and save its state at step 5, and then kills it."""

    def leave(which):
        command = [sys.executable, "-c", KILLED, str(state_folder / "state.json"), which]
        assert subprocess.run(command, timeout=60, check=False).returncode == 9

    return leave


def resume(rank):
    """Load the state that rank 0 has left, on rank 1 first; log steps 6 to 12 and return what was written."""
    import os
    from pathlib import Path

    import torch.distributed as dist

    from glowplug.loggers import Logger

    folder = Path(os.environ["GLOWPLUG_HOME"])
    state = json.loads((folder / "state.json").read_text())
    written = []

    class Store(Logger):
        run = None

        def run_info(self):
            return {"run": self.run} if self.run else {}

        def continue_run(self, info):
            self.run = info["run"]

        def open_backend(self):
            self.run = self.run or f"new run of rank {dist.get_rank()}"

        def write_scalars(self, scalars, step, timestamp):
            written.append(step)

        def close_backend(self, outcome):
            written.append("closed")

    logger = Store(all_ranks=(folder / "all").exists(), timeout=20)
    if rank == 0:
        dist.barrier()
    logger.load_state_dict(state)
    if rank == 1:
        logger.flush()
        dist.barrier()
    for step in range(6, 13):
        logger.log_scalars({"a": 1.0}, step)
    logger.flush()
    dist.barrier()
    saved = logger.state_dict()
    logger.close()
    return [written, logger.run, saved["spool"] == state["spool"], saved.get("rank")]


def test_another_rank_loads_the_state(run_ranks, leave_state):
    """If rank 1 loads the state of a killed rank 0 first, rank 0 still delivers the waiting records, each once (L3)."""
    leave_state("one")
    first, second = run_ranks(resume)
    assert first == [[*range(1, 13), "closed"], "seven", True, 0]
    assert second == [[], None, True, 0]


def test_all_ranks_load_the_state_of_rank_zero(run_ranks, leave_state, state_folder):
    """With all_ranks=True, rank 1 that loads the state of rank 0 logs to its own run (L3)."""
    leave_state("all")
    (state_folder / "all").touch()
    first, second = run_ranks(resume)
    assert first == [[*range(1, 13), "closed"], "seven", True, 0]
    assert second == [[*range(6, 13), "closed"], "new run of rank 1", False, 1]


def test_each_rank_resumes_its_own_run(run_ranks):
    """With all_ranks=True, a rank that loads its own state continues its run (L3)."""

    def scenario(rank):
        from glowplug.loggers import Logger

        class Store(Logger):
            run = None

            def run_info(self):
                return {"run": self.run} if self.run else {}

            def continue_run(self, info):
                self.run = info["run"]

            def open_backend(self):
                self.run = self.run or f"run of rank {rank}"

            def write_scalars(self, scalars, step, timestamp):
                pass

        with Store(all_ranks=True) as logger:
            logger.log_scalars({"a": 1.0}, 1)
            logger.flush()
            state = logger.state_dict()
        with Store(all_ranks=True) as logger:
            logger.load_state_dict(state)
            logger.log_scalars({"a": 1.0}, 2)
            return [logger.flush(), logger.run, logger.run_key == state["spool"]]

    assert run_ranks(scenario) == [[True, f"run of rank {rank}", True] for rank in range(2)]


@pytest.mark.parametrize(("folder", "continued"), [("given", ["given"]), ("other", []), (None, [])])
def test_same_folder_on_all_ranks(folder, continued):
    """A rank that loads another rank's state continues the run only if the logger was created for this run (L3)."""

    class File(Logger):
        uses_spool = False
        continued = []

        def run_info(self):
            return {"folder": folder} if folder else {}

        def continue_run(self, info):
            self.continued.append(info["folder"])

        def write_scalars(self, scalars, step, timestamp):
            pass

    state = {"last_number": 3, "rank": 1, "run": {"folder": "given"}, "spool": "", "steps": {"scalars:a": 5}}
    with File(all_ranks=True) as logger:
        logger.load_state_dict(state)
        assert logger.continued == continued
        assert logger.state_dict()["steps"] == {}


CREATED_BEFORE_THE_GROUP = """
import torch.distributed as dist
from glowplug.loggers import Logger


class Store(Logger):
    uses_spool = False
    def write_scalars(self, scalars, step, timestamp):
        pass


loggers = [Store()]


def work(rank):
    loggers.append(Store())
    loggers[0].log_scalars({"a": 1.0}, 1)
    dist.destroy_process_group()
    for logger in loggers:
        logger.log_scalars({"a": 1.0}, 2)
        logger.flush()
    return [rank, [logger.rank for logger in loggers], [logger.counts.sent for logger in loggers]]
"""


def test_rank_after_destroy_process_group(tmp_path, monkeypatch):
    """A logger of rank 1 does not log after destroy_process_group(), also without torchrun's RANK (L-007)."""
    monkeypatch.delenv("RANK", raising=False)
    results = run_on_ranks(CREATED_BEFORE_THE_GROUP, "work", tmp_path, 2)
    assert results == [[0, [0, 0], [2, 1]], [1, [1, 1], [0, 0]]]
