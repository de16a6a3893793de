"""Other scripts of docs/examples for several processes, started by their launchers."""

import math
import re
import runpy

import pytest
import torch
from example_runs import EXAMPLES, TORCHRUN, evaluate, evaluate_digits, printed

from glowplug_model_checkpoint import ModelCheckpoint, ShardedSaver

# The ranks fail at the first start and at the first restart.
FAILING = """\
import os
import torch
from ddp_digits import start_process_group
from glowplug import Engine

start_process_group()
attempt, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])

def step(engine, batch):
    torch.distributed.all_reduce(torch.ones(1))
    if attempt < 2 and rank == attempt and engine.state.iteration == 5:
        raise ValueError(f"failure {attempt}")

print(f"rank {rank} ended at iteration {Engine(step).run(range(100)).iteration}", flush=True)
torch.distributed.destroy_process_group()
"""


def test_fsdp2(run, tmp_path):
    """Two ranks of torchrun train a sharded model, and one process continues the run with the whole model (D2, L5)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "runs" / "fsdp2_lm"
    script = runpy.run_path(str(EXAMPLES / "fsdp2_lm.py"))
    _, validation, num_characters = script["load_text"]()
    for launcher, iterations in ((TORCHRUN, 25), ((), 50)):
        output = run(tmp_path, *launcher, EXAMPLES / "fsdp2_lm.py", "--iterations", iterations)
        model = script["LanguageModel"](num_characters)
        latest = ModelCheckpoint.latest(ShardedSaver(folder / "checkpoints"))
        assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"checkpoint_{iterations}.dcp"]
        ModelCheckpoint.load_objects({"model": model}, latest)
        accuracy, loss = evaluate(model, *script["shift"](validation, torch.device("cpu")))
        step, *values = printed(output)[-1]
        assert (int(step), values[0]) == (iterations, f"{accuracy:.4f}")
        assert float(values[1]) == pytest.approx(math.exp(loss), rel=1e-4)
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    points = events.Scalars("validation/accuracy")
    assert [point.step for point in points] == [25, 50]
    assert points[-1].value == torch.tensor(accuracy).item()
    assert len({path.name for path in (folder / "tensorboard").iterdir()}) == 2


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # in MLflow's own queries
def test_accelerate(run, tmp_path):
    """Two ranks of accelerate train one run of MLflow with one checkpoint, and one process continues it (D2, L5)."""
    from mlflow import MlflowClient

    folder = tmp_path / "runs" / "accelerate_digits"
    options = ("--num_processes", 2, "--num_machines", 1, "--mixed_precision", "no", "--dynamo_backend", "no")
    # Without a GPU, accelerate starts several processes only with --multi_gpu.
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", *options)
    for launcher, epochs in ((launch, 2), ((), 3)):
        output = run(tmp_path, *launcher, EXAMPLES / "accelerate_digits.py", "--epochs", epochs)
        assert [path.name for path in (folder / "checkpoints").iterdir()] == [f"checkpoint_{25 * epochs}.pt"]
        accuracy, loss = evaluate_digits("accelerate_digits.py", folder / "checkpoints")
        assert printed(output)[-1] == (str(epochs), f"{accuracy:.4f}", f"{loss:.4f}")
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("accelerate_digits").experiment_id])
    assert found.info.status == "FINISHED"
    history = client.get_metric_history(found.info.run_id, "validation/accuracy")
    assert [metric.step for metric in history] == [1, 2, 3]
    assert history[-1].value == accuracy


def test_restart_after_exceptions(start, tmp_path):
    """A job whose ranks raise exceptions is restarted; the failures of the former processes do not end the new ones (D1)."""
    (tmp_path / "failing.py").write_text(FAILING)
    code, output = start(
        tmp_path, *TORCHRUN, "--max-restarts", 4, "failing.py", PYTHONPATH=str(EXAMPLES)
    ).end()
    assert code == 0, output
    assert "RankFailedError: rank 0 failed at iteration 5: ValueError: failure 0" in output
    assert "RankFailedError: rank 1 failed at iteration 5: ValueError: failure 1" in output
    assert sorted(re.findall(r"^rank \d ended at iteration \d+$", output, re.MULTILINE)) == [
        "rank 0 ended at iteration 100",
        "rank 1 ended at iteration 100",
    ]
