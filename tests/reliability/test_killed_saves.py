"""Tests of checkpoints under SIGKILL (C1).

Each test run has short campaigns of kill_campaign.py and of resumed runs; GLOWPLUG_CAMPAIGN sets the full counts.
"""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from glowplug_model_checkpoint import ModelCheckpoint

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

CAMPAIGN = Path(__file__).with_name("kill_campaign.py")
SHARE = float(os.environ.get("GLOWPLUG_CAMPAIGN", "0"))


def run_campaign(folder, *options, limit, temporary=None):
    """Run the script in a subprocess and return its counts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary or folder)}
    result = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--folder", str(folder), *map(str, options)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    # Gloo of torch 2.10 also prints lines to stdout.
    return json.loads(result.stdout.splitlines()[-1])


def assert_promise(found):
    """Assert that no file is incomplete or lost, one always loads, and leftovers are removed."""
    assert {key: found[key] for key in ("torn", "empty", "lost", "unswept")} == {
        "torn": 0,
        "empty": 0,
        "lost": 0,
        "unswept": 0,
    }, found


@pytest.mark.parametrize("more", [[], ["--asynchronous"]], ids=["at once", "in the background"])
@pytest.mark.parametrize("policy", ["last", "best and last"])
def test_60_kills(tmp_path, policy, more):
    """60 kills, most of them during a save, lose or damage no checkpoint (C1)."""
    found = run_campaign(tmp_path, "--kills", 60, "--policy", policy, *more, limit=300)
    assert_promise(found)
    assert found["kills"] == 60
    assert found["in a save"] >= 15


@pytest.mark.parametrize("store", ["file", "s3"])
def test_kills_at_an_address(tmp_path, store, request, monkeypatch):
    """Kills during saves through fsspec lose or damage no checkpoint, in a folder and on an S3 server (C1)."""
    if store == "s3":
        for key, value in request.getfixturevalue("s3_server").environment.items():
            monkeypatch.setenv(key, value)
    kills = round(250 * SHARE) or 25
    seed = os.environ.get("GLOWPLUG_SEED", "7")
    # With a larger state, more kills are during a save.
    options = ("--store", store, "--state-megabytes", 2 if store == "s3" else 8, "--seed", seed)
    found = run_campaign(tmp_path, "--kills", kills, *options, limit=60 + 10 * kills)
    print(f"C1: {found}")
    assert_promise(found)
    assert found["kills"] == kills
    assert found["in a save"] >= kills / 4


def test_kills_of_all_ranks(tmp_path):
    """Kills of both ranks during saves of their parts lose or damage no checkpoint (C1)."""
    kills = round(250 * SHARE) or 12
    seed = os.environ.get("GLOWPLUG_SEED", "7")
    options = ("--store", "shards", "--state-megabytes", 48, "--seed", seed)
    found = run_campaign(tmp_path, "--kills", kills, *options, limit=60 + 20 * kills)
    print(f"C1: {found}")
    assert_promise(found)
    assert found["kills"] == kills
    assert found["in a save"] >= kills / 4


@pytest.mark.parametrize(
    ("variant", "megabytes", "noticed"), [("in-place", 32, "torn"), ("deletes-first", 2, "lost")]
)
def test_campaign_detects_broken_savers(tmp_path, variant, megabytes, noticed):
    """The campaign detects a saver that writes in place and one that removes first (C1)."""
    found = run_campaign(
        tmp_path,
        "--kills",
        15,
        "--variant",
        variant,
        "--state-megabytes",
        megabytes,
        limit=120,
    )
    assert found[noticed] > 0


@pytest.mark.skipif(not SHARE, reason="long: set GLOWPLUG_CAMPAIGN=1")
@pytest.mark.parametrize("more", [[], ["--asynchronous"]], ids=["at once", "in the background"])
@pytest.mark.parametrize("policy", ["last", "best and last"])
@pytest.mark.parametrize("temporary", ["beside", "elsewhere"])
def test_1000_kills(tmp_path, temporary, policy, more):
    """1000 kills, half of them with TMPDIR on another file system, lose or damage no checkpoint; as many in the background (C1)."""
    elsewhere = Path("/dev/shm") if temporary == "elsewhere" else None
    if elsewhere is not None and (
        not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev
    ):
        pytest.skip("needs /dev/shm on another file system")
    kills = round(250 * SHARE)
    found = run_campaign(
        tmp_path,
        *("--kills", kills, "--policy", policy, "--seed", os.environ.get("GLOWPLUG_SEED", "7"), *more),
        limit=2400,
        temporary=elsewhere,
    )
    print(json.dumps(found))
    assert_promise(found)


# A run as in the README: the latest checkpoint on the trainer, the best on an evaluator, deterministic.
TRAINING = """
import sys
import torch
from torch import nn
from glowplug import Engine, Events
from glowplug_model_checkpoint import ModelCheckpoint

folder, epochs = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5), nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)


def step(engine, batch):
    optimizer.zero_grad()
    loss = (model(batch + torch.randn_like(batch)) ** 2).mean()
    loss.backward()
    optimizer.step()
    return loss.item()


trainer, evaluator = Engine(step), Engine(lambda engine, batch: None)
data = [torch.ones(4, 64) * number for number in range(5)]


@evaluator.on(Events.EPOCH_COMPLETED)
def score():
    # Goes up and down, so that the best is often replaced and often not.
    evaluator.state.metrics["score"] = float(model[0].weight.detach().sum().sin())


trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1]))
to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
best = ModelCheckpoint(folder, "best", score_name="score", n_saved=2, require_empty=False, to_save={"model": model})
best.attach(evaluator, Events.COMPLETED)
latest = ModelCheckpoint(folder, resume="auto", to_save=to_save)
trainer.attach(latest)
print("ready", trainer.state.epoch, flush=True)
trainer.add_event_handler(latest.SAVED_CHECKPOINT, lambda: print("saved", flush=True))
trainer.run(data, max_epochs=epochs)
print("done", flush=True)
"""


def train(folder, epochs, delay=None):
    """Run the script; with a delay, kill it so many seconds after its first save. Return whether it was killed."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", TRAINING, str(folder), str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        if delay is not None:
            while process.stdout.readline() not in {"saved\n", "done\n", ""}:
                pass
            time.sleep(delay)
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
    assert process.returncode == (0 if delay is None else -signal.SIGKILL) or delay is not None
    return process.returncode == -signal.SIGKILL


def test_killed_and_resumed_runs(tmp_path):
    """A run that is killed at random and resumed ends with the best, files and weights of the run that was never killed (C1)."""
    kills, epochs = max(4, round(50 * SHARE)), max(60, round(700 * SHARE))
    train(tmp_path / "whole", epochs)
    seed = int(os.environ.get("GLOWPLUG_SEED") or random.randrange(1_000_000))
    print(f"repeat with GLOWPLUG_SEED={seed}")
    chance, killed = random.Random(seed), 0
    for _ in range(kills):
        killed += train(tmp_path / "killed", epochs, chance.uniform(0, 0.12))
    train(tmp_path / "killed", epochs)
    whole, resumed = (
        [path.name for path in sorted(folder.iterdir())] for folder in sorted(tmp_path.iterdir())[::-1]
    )
    print(f"C1: {killed} of {kills} runs killed, {epochs} epochs, files {resumed}")
    assert killed >= kills / 2
    assert resumed == whole
    best = {ModelCheckpoint.best(folder, "best").name for folder in tmp_path.iterdir()}
    assert len(best) == 1
    for name in whole:
        first, second = (
            torch.load(tmp_path / folder / name, weights_only=True) for folder in ("whole", "killed")
        )
        first, second = first.get("model", first), second.get("model", second)
        assert all(torch.equal(first[key], second[key]) for key in first), name


SAVES = """
import sys
from torch import nn
from glowplug.testing import FakeEngine
from glowplug_model_checkpoint import ModelCheckpoint

fake = FakeEngine()
checkpoint = ModelCheckpoint(sys.argv[1], to_save={"model": nn.Linear(1024, 1024)})
for fake.state.iteration in (1, 2, 3):
    checkpoint(fake)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_system_calls(tmp_path):
    """The system calls of a save are write, fsync, rename, fsync of the folder, and only then unlink of the old file (C1)."""
    trace, folder = tmp_path / "trace", tmp_path / "run"
    traced = "trace=openat,write,pwrite64,writev,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat"
    command = ["strace", "-f", "-y", "-e", traced, "-o", str(trace), sys.executable, "-c", SAVES, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode and "ptrace" in done.stderr.lower():
        pytest.skip("this machine does not allow tracing")
    assert done.returncode == 0, done.stderr
    calls = []
    for line in trace.read_text().splitlines():
        name = re.match(r"\d+\s+(\w+)\(", line)
        if name is None or str(folder) not in line:
            continue
        of_file = ".tmp" in line
        kind = {
            "fsync": "fsync file" if of_file else "fsync folder",
            **dict.fromkeys(("write", "pwrite64", "writev"), "write"),
            **dict.fromkeys(("rename", "renameat", "renameat2"), "rename"),
            **dict.fromkeys(("unlink", "unlinkat"), "unlink"),
        }.get(name[1])
        if kind and calls[-1:] != [kind]:
            calls.append(kind)
    save = ["write", "fsync file", "rename", "fsync folder"]
    assert calls == [*save, *save, "unlink", *save, "unlink"]
