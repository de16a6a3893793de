"""Kill processes at random moments of a save and examine the files.

    python kill_campaign.py --kills 1000 --seed 1 --state-megabytes 2 --store s3

The parent process imports torch. In each round it forks a child that trains and saves to a new folder. The child acknowledges
each save through a pipe when SAVED_CHECKPOINT fires. It is killed with SIGKILL at a random moment within the three saves after the
second one. With the store s3, the folder is on the S3 server of the environment, in the bucket ``runs``. The script prints counts
as JSON:

- kills, and kills in a save;
- torn: files with a final name that cannot be loaded;
- empty: rounds without a loadable file;
- lost: rounds in which the last acknowledged save is missing;
- unswept: temporary files that the next save handler did not remove.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch import nn

from glowplug import Engine, Events
from glowplug_model_checkpoint import (
    Checkpoint,
    DiskSaver,
    FsspecSaver,
    KeepBest,
    KeepLast,
    ModelCheckpoint,
    ShardedSaver,
)


class DeletesFirst(DiskSaver):
    """Removes the old file before it saves the new one, which the campaign must detect."""

    def save(self, checkpoint, filename, metadata=None):
        for path in self.dirname.glob("*.pt"):
            path.unlink()
        super().save(checkpoint, filename, metadata)


def make_saver(options, place):
    """Return the real saver or a broken variant."""
    if options.store == "shards":
        return ShardedSaver(place)
    if options.store != "disk":
        return FsspecSaver(place)
    if options.variant == "in-place":
        return DiskSaver(place, atomic=False, require_empty=False)
    classes = {"real": DiskSaver, "deletes-first": DeletesFirst}
    return classes[options.variant](place, require_empty=False)


POLICIES = {
    "last": KeepLast(1),
    "best and last": KeepLast(1)
    | KeepBest(1, by=lambda engine: (engine.state.iteration * 7) % 5, name="score"),
}


def sharded(model, place, rank):
    """Shard a model over two processes."""
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", init_method=f"file://{place}.ranks", rank=rank, world_size=2)
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (2,)))


def train(place, options, pipe, rank):
    """Save and acknowledge after each iteration until the process is killed."""
    model = nn.Linear(1024, 256 * options.state_megabytes)
    if options.store == "shards":
        sharded(model, place, rank)
    trainer = Engine(lambda engine, batch: None)
    saver = make_saver(options, place)
    checkpoint = Checkpoint(
        {"model": model, "trainer": trainer},
        saver,
        keep=POLICIES[options.policy],
        async_save=options.asynchronous,
    )
    checkpoint.attach(trainer, Events.ITERATION_COMPLETED)

    @trainer.on(Checkpoint.SAVED_CHECKPOINT)
    def acknowledge(engine):
        # With an asynchronous save, the trainer is already further.
        if rank == 0:
            os.write(pipe, b"%d\n" % checkpoint.saved[-1].iteration)

    trainer.run(max_epochs=1, epoch_length=1_000_000)


def loadable(saver, name):
    """Return whether a file loads and its content matches its name."""
    try:
        content = saver.load(name)
    except Exception:
        return False
    return content["trainer"]["iteration"] == iteration_of(name)


def iteration_of(name):
    """Return the iteration in a file name."""
    return int(re.search(r"(?:step=|checkpoint_)(\d+)", str(name))[1])


def until_next_save(reader):
    """Wait for two acknowledged saves; return the bytes that were read and the seconds per save."""
    received = os.read(reader, 4096)
    began, first = time.monotonic(), received.count(b"\n")
    while received.count(b"\n") == first:
        read = os.read(reader, 4096)
        assert read, "the child has ended"
        received += read
    return received, (time.monotonic() - began) / (received.count(b"\n") - first)


def kill_one(place, options, moment):
    """Fork a child or one for each rank, kill them some saves after the second one, and return the acknowledged iterations."""
    reader, writer = os.pipe()
    children = []
    for rank in range(2 if options.store == "shards" else 1):
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                train(place, options, writer, rank)
            finally:
                os._exit(1)
        children.append(child)
    os.close(writer)
    try:
        # On a busy machine, each save takes longer.
        received, seconds = until_next_save(reader)
        time.sleep(moment * seconds)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as pipe:
        received += pipe.read()
    return [int(line) for line in received.decode().splitlines()]


def temporaries(folder):
    """Return the temporary files of the folder, and those of uploads."""
    return [*folder.glob(".glowplug-*"), *Path(tempfile.gettempdir()).glob(".glowplug-*")]


def listing(saver):
    """Return the names of the checkpoints in a place."""
    return sorted(name for name in saver.list() if name.endswith(f".{saver.extension}"))


def examine(folder, place, options, acknowledged):
    """Return the counts for one place after a kill."""
    kept = 1 if options.policy == "last" else 2
    left = temporaries(folder)
    saver = make_saver(options, place)
    if options.store in ("file", "s3"):
        saver.prepare()
    # A server may complete an upload of the killed process after the files were listed.
    files, listed = None, listing(saver)
    while files != listed:
        files = listed
        good = {iteration_of(name) for name in files if loadable(saver, name)}
        # With warnings as errors, so that no file is skipped.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            newest = ModelCheckpoint.latest(saver) if len(files) == len(good) else None
        listed = listing(saver)
    is_newest = newest is not None and iteration_of(newest) == max(good, default=0)
    return {
        "torn": len(files) - len(good),
        "empty": not good or not is_newest,
        "lost": max(good, default=0) < max(acknowledged),
        "unswept": len(temporaries(folder)),
        "in a save": bool(left) or len(files) > 2 or (kept == 1 and len(files) > 1),
    }


def campaign(options):
    """Run all rounds and return the summed counts."""
    chance = random.Random(options.seed)
    counts = dict.fromkeys(("kills", "saves", "in a save", "torn", "empty", "lost", "unswept"), 0)
    began = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="glowplug-kills-", dir=options.folder))
    try:
        for number in range(options.kills):
            folder = root / str(number)
            folder.mkdir()
            places = {"file": f"file://{folder}", "s3": f"s3://runs/{root.name}/{number}"}
            place = places.get(options.store, folder)
            acknowledged = kill_one(place, options, chance.uniform(0, 3))
            found = examine(folder, place, options, acknowledged)
            for key, value in {**found, "kills": 1, "saves": len(acknowledged)}.items():
                counts[key] += value
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return {
        **counts,
        "seconds": round(time.monotonic() - began, 1),
        "seed": options.seed,
        "policy": options.policy,
        "store": options.store,
        "TMPDIR": tempfile.gettempdir(),
    }


def main():
    """Run the campaign from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state-megabytes", type=int, default=2)
    parser.add_argument("--variant", default="real", choices=["real", "in-place", "deletes-first"])
    parser.add_argument("--store", default="disk", choices=["disk", "file", "s3", "shards"])
    parser.add_argument("--policy", default="last", choices=POLICIES)
    parser.add_argument("--asynchronous", action="store_true", help="save in the background")
    parser.add_argument("--folder", help="folder for the checkpoints (other temporary files go to TMPDIR)")
    torch.set_num_threads(1)
    print(json.dumps(campaign(parser.parse_args())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
