"""The example digits.py, run as a script."""

import random
import re
import time
from pathlib import Path

import pytest
import torch
from forked_script import ForkedScript, run_script
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "digits.py"


def run(folder, *options):
    """Run the script to its end, and return what it printed."""
    options = ("--epochs", 8, "--output", folder, *options)
    ended = run_script(SCRIPT, *options, folder=folder.parent, warnings="default")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def table(printed):
    """Return the epoch and accuracy in each row of the final table."""
    rows = re.findall(r"│ (at the end|best checkpoint, reloaded)\s*│\s+(\d+) │\s+([\d.]+) │", printed)
    return {name: (int(epoch), accuracy) for name, epoch, accuracy in rows}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder and the output of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "digits"
    return folder, run(folder)


def test_accuracy_and_the_best_checkpoint_reloaded(whole):
    """The accuracy exceeds 0.97, and the reloaded best checkpoint has the accuracy in its name."""
    folder, printed = whole
    _, accuracy = table(printed)["best checkpoint, reloaded"]
    assert float(accuracy) > 0.97
    best = re.search(r"best checkpoint   (\S+)", printed)[1]
    assert f"accuracy={accuracy}.pt" in best
    assert Path(best).is_file()
    assert len(list((folder / "checkpoints").glob("*.pt"))) == 3


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # in MLflow's own queries
def test_table_says_why_the_run_ended_and_when_it_was_best(whole):
    """The output names the reason why the run ended, and each row of the final table shows an epoch."""
    folder, printed = whole
    assert "all 8 epochs are done" in printed
    rows = table(printed)
    assert rows["at the end"][0] == 8
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("digits").experiment_id
    (found,) = client.search_runs([experiment])
    history = {m.step: m.value for m in client.get_metric_history(found.info.run_id, "validation/accuracy")}
    assert history[rows["best checkpoint, reloaded"][0]] == max(history.values())
    assert f"#/experiments/{experiment}?workflowType=machine_learning" in printed


def test_early_stopping_is_named(tmp_path):
    """If early stopping ends the run, the output says so."""
    printed = run(tmp_path / "digits", "--patience", "1", "--learning-rate", "0")
    assert "early stopping after epoch 2: patience exhausted: no improvement on" in printed


def test_tensorboard_has_scalars_and_weights(whole):
    """The event file holds losses, learning rate and validation metrics at the trainer's steps, and the weights."""
    (file,) = (whole[0] / "tensorboard").glob("events.*")
    events = EventAccumulator(str(file), size_guidance={"histograms": 0}).Reload()
    assert {"training/batch_loss", "training/loss", "lr/group_0"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("validation/accuracy")] == list(range(1, 9))
    assert len(events.Histograms("weights/0/weight")) == 8


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # in MLflow's own queries
def test_mlflow_has_parameters_and_metrics(whole):
    """MLflow has one finished run with the parameters and the accuracy of each epoch."""
    client = MlflowClient(f"sqlite:///{whole[0] / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params["learning_rate"] == "0.002"
    history = client.get_metric_history(found.info.run_id, "validation/accuracy")
    assert [metric.step for metric in history] == list(range(1, 9))


def test_killed_and_resumed_ends_with_the_same_weights(whole, tmp_path):
    """A run that is killed and resumed ends with exactly the weights of the uninterrupted run (C4)."""
    folder = tmp_path / "digits"
    job = ForkedScript(SCRIPT, "--epochs", 8, "--output", folder, folder=tmp_path, warnings="default")
    while not list((folder / "checkpoints").glob("*.pt")) and job.is_running:
        time.sleep(0.02)
    time.sleep(random.random())
    job.kill()
    assert "resuming from" in run(folder, "--resume")
    expected, actual = torch.load(whole[0] / "model.pt"), torch.load(folder / "model.pt")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


def test_second_run_has_its_own_folder(tmp_path):
    """Each run without options has a new folder; --resume continues the last run, or starts one if there is none."""
    printed = []
    for options in (["--resume"], [], ["--resume"]):
        ended = run_script(SCRIPT, "--epochs", 1, *options, folder=tmp_path, warnings="default")
        assert ended.returncode == 0, ended.stderr
        printed.append(ended.stdout)
    assert "this is a new run" in printed[0]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["digits-1", "digits-2"]
    assert "resuming from runs/digits-2" in printed[2]
