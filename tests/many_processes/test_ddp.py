"""The script ddp_digits.py under torchrun, undisturbed and with ranks that are killed."""

import re
import time

import pytest
from example_runs import EXAMPLES, TORCHRUN, evaluate_digits, logged, printed

CURVES = ("training/loss", "validation/accuracy", "validation/loss")
EPOCHS_PER_KILL = 10


@pytest.fixture(scope="module")
def script(count):
    """The command line of the script, without the launcher."""
    return EXAMPLES / "ddp_digits.py", "--epochs", EPOCHS_PER_KILL * count(1, 20)


@pytest.fixture(scope="module")
def whole(run, script, tmp_path_factory):
    """The folder and the output of a run on two ranks."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, run(folder, *TORCHRUN, *script)


def test_metrics(whole, script):
    """Two ranks print and log the metrics of one process, in one log and with one checkpoint (D2, L5)."""
    folder, output = whole[0] / "runs" / "ddp_digits", whole[1]
    epochs = script[-1]
    accuracy, loss = evaluate_digits("ddp_digits.py", folder)
    assert [int(epoch) for epoch, *_ in printed(output)] == list(range(1, epochs + 1))
    assert printed(output)[-1] == (str(epochs), f"{accuracy:.4f}", f"{loss:.4f}")
    assert logged(folder / "log.jsonl", "validation/accuracy")[-1] == (25 * epochs, accuracy)
    assert logged(folder / "log.jsonl", "validation/loss")[-1] == (25 * epochs, pytest.approx(loss, rel=1e-6))
    assert logged(folder / "log.jsonl", "training/loss")[-1][0] == 25 * epochs
    assert sorted(path.name for path in folder.iterdir()) == [f"checkpoint_{25 * epochs}.pt", "log.jsonl"]


def test_killed_ranks(whole, script, start, count, moments, tmp_path):
    """A job of torchrun whose ranks are killed ends with the weights and the log of a job that was not disturbed (D3, L3)."""
    kills = count(1, 20)
    # On a busy machine, the connection of the ranks may fail, too.
    job = start(tmp_path, *TORCHRUN, "--max-restarts", 2 * kills + 2, *script)
    logs = [folder / "runs" / "ddp_digits" / "log.jsonl" for folder in (whole[0], tmp_path)]
    assert disturb(job, logs[1], kills, moments()) == kills
    code, output = job.end()
    assert code == 0, output
    assert output.count(" failed (exitcode: ") >= kills
    assert weights(output) == weights(whole[1])
    expected, found = ([logged(log, name) for name in CURVES] for log in logs)
    assert found == expected
    assert len(list(logs[1].parent.glob("*.pt"))) == 1


def disturb(job, log, kills, moments):
    """Kill random ranks, each after a random number of further iterations; return the number of kills when the job has ended."""
    done, goal = 0, moments.randrange(10, 100)
    while job.is_running():
        time.sleep(0.02)
        step, ranks = last_step(log), job.ranks()
        if len(ranks) == 2 and done < kills and step >= goal:
            ranks[moments.choice((0, 1))].kill()
            done, goal = done + 1, step + moments.randrange(10, 100)
    return done


def last_step(log):
    """Return the step of the last record of the training loss."""
    steps = logged(log, "training/loss") if log.exists() else []
    return steps[-1][0] if steps else 0


def weights(output):
    """Return the digest of the weights that a script has printed."""
    (digest,) = re.findall(r"SHA-256 of the weights: (\w{64})", output)
    return digest


def test_one_process(whole, run, script):
    """The same script continues the run as a single process, in the same log (D2)."""
    epochs = script[-1] + 1
    output = run(whole[0], *script[:-1], epochs)
    folder = whole[0] / "runs" / "ddp_digits"
    assert re.search(rf"resumed from +runs/ddp_digits/checkpoint_{25 * script[-1]}.pt", output)
    accuracy, loss = evaluate_digits("ddp_digits.py", folder)
    assert printed(output) == [(str(epochs), f"{accuracy:.4f}", f"{loss:.4f}")]
    steps = [step for step, _ in logged(folder / "log.jsonl", "validation/accuracy")]
    assert steps == list(range(25, 25 * epochs + 1, 25))
    assert sorted(path.name for path in folder.iterdir()) == [f"checkpoint_{25 * epochs}.pt", "log.jsonl"]
