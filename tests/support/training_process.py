"""Training processes for the tests of reliability.

    python training_process.py /path/of/a/socket [MODULE ...]

The script imports the loggers and the given modules once, which takes seconds. Then it serves any number of connections to its socket: for each line,
which is a job as JSON, it forks a process, and answers with the process id, and with the exit status when the process has
ended. The job runs at the top level of the process, so that the process ends like any script. Keys of a job:

- folder: folder of the job, for all its files: ``output`` (standard output and error), ``calls-<process id>`` (a line with step
  and time after each log call), ``state`` (the engine's state) and ``result`` (what the process found at its end);
- action: name of a function of this module;
- environment: environment variables;
- all other keys are arguments of the action.
"""

import atexit
import contextlib
import importlib
import json
import logging
import os
import pickle
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path

# Set by the exit of a job.
exit_code = 0


def leave():
    """End the process without taking down the interpreter, which takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1 if hasattr(sys, "last_value") else exit_code)


# The hook that is registered first runs last.
atexit.register(leave)

from glowplug import Engine, Events  # noqa: E402
from glowplug.phase import Phase  # noqa: E402

LOGGERS = {
    "mlflow": ("glowplug_mlflow.logger", "MLflowLogger", "tracking_uri"),
    "tensorboard": ("glowplug_tensorboard.logger", "TensorboardLogger", "log_dir"),
    "jsonl": ("glowplug_jsonl.json_lines", "JsonLinesLogger", "path"),
    "csv": ("glowplug_jsonl.csv_table", "CsvLogger", "path"),
}


def make_logger(kind, target, options):
    """Create a logger."""
    module, name, argument = LOGGERS[kind]
    return getattr(sys.modules[module], name)(**{argument: target}, **options)


class Save:
    """Saves the engine's state, as a save handler would."""

    phase = Phase.CHECKPOINT

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, engine):
        (self.folder / "new").write_bytes(pickle.dumps(engine.state_dict()))
        (self.folder / "new").rename(self.folder / "state")


def train(
    folder,
    kind,
    target,
    *,
    options=None,
    epochs=10_000,
    pace=0.002,
    save_every=0,
    file_limit=None,
    raise_at=None,
    raise_after=False,
    terminate_at=None,
):
    """Train for epochs of 100 iterations, and log the loss at each; continue from the state in the folder if there is one.

    With ``raise_at``, an exception ends the run, and with ``raise_after``, an exception of the script ends the process after the
    run. ``file_limit`` is the maximum size of a file, as on a full disk; the file ``space`` in the folder removes it.
    """
    logger = make_logger(kind, target, {"timeout": 10.0, **(options or {})})
    trainer = Engine(lambda engine, batch: {"loss": 1 / (1 + engine.state.iteration)})
    durations, last_call = [], [0.0]
    calls = os.open(folder / f"calls-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def log_loss(engine, logger, event_name):
        step = engine.state.iteration
        before = time.perf_counter()
        logger.log_scalars({"training/loss": engine.state.output["loss"]}, step)
        durations.append(time.perf_counter() - before)
        os.write(calls, b"%d %.6f\n" % (step, time.time()))
        last_call[0] = time.monotonic()

    logger.attach(trainer, Events.ITERATION_COMPLETED, log_loss)
    if save_every:
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=save_every), Save(folder))

    @trainer.on(Events.ITERATION_COMPLETED)
    def control(engine):
        if engine.state.iteration == raise_at:
            raise RuntimeError("injected")
        if engine.state.iteration == terminate_at:
            engine.terminate()
        if engine.state.iteration % 20 == 0 and file_limit is not None and (folder / "space").exists():
            limit_files(resource.RLIM_INFINITY)
        time.sleep(pace)

    if (folder / "state").exists():
        trainer.load_state_dict(pickle.loads((folder / "state").read_bytes()))
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit_files(file_limit)
    trainer.run(range(100), max_epochs=epochs)
    if raise_after:
        raise RuntimeError("injected after the run")
    logger.close()
    ending = time.monotonic() - last_call[0]
    os.close(calls)
    limit_files(resource.RLIM_INFINITY)
    return {
        "iterations": trainer.state.iteration,
        "ending": ending,
        "counts": list(logger.counts),
        "durations": sorted(durations),
    }


def train_preemptible(folder, kind, target, **arguments):
    """Train until a signal comes; see ``preemptible_training.py``."""
    import preemptible_training

    return preemptible_training.train_preemptible(folder, kind, target, make_logger, **arguments)


def train_digits(folder, **arguments):
    """Train on the digits as a rank; see ``digits_ranks.py``."""
    import digits_ranks

    return digits_ranks.train(folder, **arguments)


def limit_files(size):
    """Limit the size of the files that this process writes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def train_rank(folder, rank, size, is_early, **arguments):
    """Train as a rank of a process group, which exists before the logger, or only after it has logged."""
    import datetime as dt

    import torch.distributed as dist

    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), GLOO_SOCKET_IFNAME="lo")
    limit = dt.timedelta(seconds=60)

    def join():
        dist.init_process_group(
            "gloo", init_method=f"file://{folder.parent}/store", rank=rank, world_size=size, timeout=limit
        )

    if is_early:
        join()
    result = train(folder, **arguments)
    if not is_early:
        join()
    dist.barrier()
    dist.destroy_process_group()
    return result


def resident():
    """Return the resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def size_of(folder):
    """Return the size of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def fill(folder, kind, target, *, records, options, pace):
    """Log many records, and measure memory and disk. The pause keeps the records slower than the disk."""
    home = Path(os.environ["GLOWPLUG_HOME"])
    logger = make_logger(kind, target, options)
    memory, disk, began = [], [], time.monotonic()
    for step in range(records):
        logger.log_scalars({"training/loss": 0.5, "training/accuracy": 0.25}, step)
        if step % 50 == 0:
            time.sleep(max(0.0, began + step * pace - time.monotonic()))
        if step % (records // 50) == records // 100:
            memory.append(resident())
            disk.append(size_of(home))
    seconds = time.monotonic() - began
    logger.close()
    memory.append(resident())
    disk.append(size_of(home))
    return {"memory": memory, "disk": disk, "counts": list(logger.counts), "seconds": seconds}


def open_files():
    """Return what the open file descriptors of this process refer to."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(f"{entry.name} {entry.readlink()}")
    return set(found)


def leave_nothing(folder, kind, target, options):
    """Log records of all kinds in four runs, close the loggers, and return what is left: threads and open files."""
    import gc

    import numpy as np

    (folder / "artifact").write_text("content")
    threads, files = set(threading.enumerate()), open_files()
    for _ in range(4):
        logger = make_logger(kind, target, options)
        with logger:
            for step in range(20):
                logger.log_scalars({"training/loss": 0.5}, step)
            for method, *arguments in (
                ("log_params", {"lr": 0.1}),
                ("log_text", "note", "text", 1),
                ("log_histogram", "weights", np.arange(9.0), 1),
                ("log_image", "sample", np.zeros((4, 4)), 1),
                ("log_artifact", str(folder / "artifact")),
            ):
                if logger.takes(method):
                    getattr(logger, method)(*arguments)
    gc.collect()
    return {
        "counts": list(logger.counts),
        "threads": [thread.name for thread in threading.enumerate() if thread not in threads],
        "files": sorted(open_files() - files),
    }


def show_all(folder, target, options):
    """Show and save everything that a logger shows and saves."""
    import traceback

    import torch

    logger = make_logger("mlflow", target, options)
    trainer = Engine(lambda engine, batch: {"loss": 1.0})
    logger.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED, "training", output_transform=lambda output: output
    )
    shown = [
        lambda: logger.log_params({"lr": 0.1}),
        lambda: trainer.run(range(3), max_epochs=1),
        lambda: logger.log_params({"lr": 0.2}),
        lambda: print(logger.run_id),
        lambda: print(logger.page_url()),
        logger.flush,
        lambda: print(repr(logger), vars(logger), logger.tracking_uri, logger.replay_options()),
        lambda: torch.save(trainer.state_dict(), folder / "checkpoint"),
        lambda: (folder / "pickle").write_bytes(pickle.dumps(logger)),
        logger.close,
    ]
    for call in shown:
        try:
            call()
        except Exception:
            traceback.print_exc()
    return {"counts": list(logger.counts)}


def replay(folder):
    """Run ``glowplug spool replay``, and return its exit code."""
    return command(folder, ["spool", "replay", "--timeout", "60"])


def command(folder, arguments):
    """Run the command ``glowplug``, and return its exit code."""
    from glowplug.cli import main

    sys.argv = ["glowplug", *arguments]
    try:
        main()
    except SystemExit as ended:
        return {"code": ended.code or 0}
    return {"code": 0}


def serve(path):
    """Fork a process for each job of each connection; return the job in the new process."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        listener.close()
        with connection, connection.makefile() as lines:
            for line in lines:
                process = os.fork()
                if not process:
                    return json.loads(line)
                connection.sendall(b"%d\n" % process)
                connection.sendall(b"%d\n" % os.waitpid(process, 0)[1])
        sys.exit(0)


def prepare(job):
    """Set up the forked process, and return the arguments of its action."""
    folder = Path(job["folder"])
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for target in (1, 2):
        os.dup2(output, target)
    os.close(output)
    os.environ.update(job.pop("environment", {}))
    os.environ["GLOWPLUG_HOME"] = job.pop("home")
    if job.pop("is_verbose", False):
        logging.basicConfig(level=logging.DEBUG)
    return Path(job.pop("folder"))


def import_modules(more):
    """Import what the jobs need."""
    for module in (
        *more,
        *(module for module, _, _ in LOGGERS.values()),
        "glowplug.cli._main",
        "glowplug.cli._spool",
        "glowplug_tensorboard.event_file",
        "mlflow.store.tracking.rest_store",
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.tracking.context.registry",
        "mlflow.tracking.default_experiment.registry",
        "torch.distributed",
    ):
        importlib.import_module(module)


if __name__ == "__main__":
    import_modules(sys.argv[2:])
    JOB = serve(sys.argv[1])
    FOLDER = prepare(JOB)
    try:
        RESULT = globals()[JOB.pop("action")](FOLDER, **JOB)
    except SystemExit as ended:
        exit_code = ended.code
        raise
    (FOLDER / "result").write_text(json.dumps(RESULT))
