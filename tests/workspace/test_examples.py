"""The scripts of docs/examples, and their pages."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from forked_script import ForkedScript, run_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
PAGES = sorted(page.stem for page in EXAMPLES.glob("*.md") if page.with_suffix(".py").exists())
# The scripts that belong to a page in docs/.
TOPICS = {
    "accelerate_digits": "many-processes",
    "averaged_weights": "how-to/averaged-weights",
    "ddp_digits": "many-processes",
    "fsdp2_lm": "many-processes",
    "lr_finder": "how-to/finding-a-learning-rate",
    "monitoring": "how-to/monitoring",
    "profilers": "how-to/profiling",
    "ray_digits": "many-processes",
    "schedules": "how-to/learning-rate-schedules",
}


def run_example(name, *arguments, folder, warnings="error"):
    """Run a script in an empty folder, by default with warnings as errors, and return the finished process."""
    return run_script(EXAMPLES / name, *arguments, folder=folder, warnings=warnings)


def printed(name, *arguments, folder, whole=True, warnings="error", errors=False):
    """Run a script and check that it prints what its page shows, except for the numbers.

    With ``errors=True``, the page also shows what the script prints to stderr. With ``whole=False``, the script may print only the beginning, because its arguments make it end early.
    """
    ended = run_example(f"{name}.py", *arguments, folder=folder, warnings=warnings)
    assert ended.returncode == 0, ended.stderr
    (shown, *_) = re.findall(r"^```console\n\$ python .+?\n(.+?)^```", page(name), re.MULTILINE | re.DOTALL)
    shown, output = without_figures(shown), without_figures(ended.stdout + ended.stderr * errors)
    assert output == shown if whole else shown.startswith(output)
    return ended.stdout + ended.stderr * errors


def page(name):
    """Return the text of a script's page."""
    return page_of(name).read_text(encoding="utf-8")


def page_of(name):
    """Return the page of a script: its own, or that of its topic."""
    return EXAMPLES.parent / f"{TOPICS[name]}.md" if name in TOPICS else EXAMPLES / f"{name}.md"


def without_figures(text):
    """Return a text in which ``#`` replaces each number."""
    return re.sub(r"[\d.]*\d[\d.]*", "#", re.sub(r" +", " ", text)).strip()


def figures(pattern, text):
    """Return the numbers that a pattern finds."""
    return [float(number) for number in re.findall(pattern, text)]


def drawn(path):
    """Return whether a script has drawn a picture that is more than an empty plot."""
    return path.stat().st_size > 10_000


def test_from_config(tmp_path):
    """A run created from a file is stopped, shown, logged and saved, and its checkpoint classifies irises."""
    ended = run_example("from_config.py", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    epochs = int(re.search(r"^terminated after (\d+) epochs$", ended.stdout, re.MULTILINE)[1])
    assert 20 < epochs < 500
    accuracy, best = re.search(
        r"^validation accuracy ([\d.]+) with (.+)$", ended.stdout, re.MULTILINE
    ).groups()
    assert float(accuracy) > 0.9
    assert [tmp_path / best] == list((tmp_path / "runs" / "iris").iterdir())
    assert f"iris [{epochs}/500]" in ended.stderr
    for handler in ("TerminateOnNan", "EarlyStopping", "ModelCheckpoint"):
        assert re.search(rf"\b{handler} +\S+ \(glowplug-", ended.stdout)
    logged = re.findall(
        r"^(\d+),validation/(\w+),", (tmp_path / "runs" / "iris.csv").read_text(), re.MULTILINE
    )
    names = ("accuracy", "loss", "recall")
    assert sorted(logged) == sorted((str(epoch), name) for epoch in range(1, epochs + 1) for name in names)


def test_from_config_does_what_the_file_says(tmp_path):
    """Another file changes the run, and a misspelt option raises an error with a suggestion."""
    text = (EXAMPLES / "from_config.toml").read_text()
    config = tmp_path / "other.toml"
    config.write_text(text.replace("patience = 10", "patience = 2\nthreshold = 1000"))
    ended = run_example("from_config.py", config, folder=tmp_path)
    assert "terminated after 3 epochs" in ended.stdout, ended.stderr
    config.write_text(text.replace("patience", "patiense"))
    ended = run_example("from_config.py", config, folder=tmp_path)
    assert ended.returncode == 1
    assert "EarlyStopping" in ended.stderr
    assert "Did you mean patience?" in ended.stderr
    config.write_text(text.replace('name = "Recall"', 'name = "Recal"'))
    ended = run_example("from_config.py", config, folder=tmp_path)
    assert "Did you mean Recall?" in ended.stderr
    config.write_text(text.replace("clip_norm = 5.0", "clip_norm = -1"))
    ended = run_example("from_config.py", config, folder=tmp_path)
    assert "clip_norm must be positive, got -1" in ended.stderr


def test_tbptt(tmp_path):
    """The network learns to repeat its input across chunks, also on unseen sequences."""
    output = printed("tbptt", folder=tmp_path)
    chunks = re.findall(r"^batch +(\d+)  chunk +(\d+)  loss ([\d.]+)$", output, re.MULTILINE)
    assert [(int(batch), int(chunk)) for batch, chunk, _ in chunks] == [(3 * n, 30 * n) for n in range(1, 11)]
    assert float(chunks[0][2]) > 0.5
    assert (
        float(chunks[-1][2]) < 0.05
    )  # The loss would be at least 0.2 if each chunk of 20 steps ignored the 4 steps before it.
    whole = re.search(r"^whole test sequences of 200 steps: loss ([\d.]+)$", output, re.MULTILINE)
    assert float(whole[1]) < 0.05


@pytest.mark.parametrize("name", [*PAGES, *TOPICS])
def test_pages_are_whole(name):
    """A page links to its script, and the pictures on the page exist."""
    folder = page_of(name).parent
    assert (EXAMPLES / f"{name}.py").is_file()
    assert f"]({os.path.relpath(EXAMPLES / f'{name}.py', folder)})" in page(name)
    for picture in re.findall(r"!\[.+?\]\((.+?)\)", page(name)):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_classification(tmp_path):
    """The classifier learns, and each epoch prints four metrics for both sets."""
    output = printed("classification", folder=tmp_path)
    accuracies = figures(r"validation: accuracy ([\d.]+)", output)
    assert len(accuracies) == 5
    assert accuracies[-1] > 0.9


def test_iou_metric(tmp_path):
    """The network finds the flower in the half of the photograph that was not used for training."""
    pytest.importorskip("matplotlib")
    output = printed("iou_metric", "--picture", "found.png", folder=tmp_path)
    assert figures(r"IoU at 0.5 ([\d.]+)", output)[-1] > 0.75
    assert drawn(tmp_path / "found.png")


def test_f1(tmp_path):
    """All ways to compute F1 agree with scikit-learn."""
    output = printed("f1", folder=tmp_path)
    values = figures(r"F1, .+? ([\d.]+)\n", output)
    assert len(values) == 4
    assert len(set(values)) == 1
    assert values[0] > 0.9


def test_per_class(tmp_path):
    """The script evaluates the best model, and resuming from this model repeats the epochs after it."""
    pytest.importorskip("matplotlib")
    output = printed("per_class", "--picture", "confusion.png", folder=tmp_path)
    assert drawn(tmp_path / "confusion.png")
    epochs = re.findall(r"^epoch +(\d+): .+ accuracy ([\d.]+)$", output, re.MULTILINE)
    best, accuracy = max(epochs, key=lambda each: float(each[1]))
    assert f"best model (epoch {best}):" in output
    assert [path.name for path in (tmp_path / "runs/per_class").iterdir()] == [
        f"best_checkpoint_{best}_accuracy={accuracy}.pt"
    ]
    assert len(set(figures(r"rate ([\d.]+)", output))) > 1
    again = run_example("per_class.py", "--resume", folder=tmp_path).stdout
    assert f"resuming after epoch {best}, with an accuracy of {accuracy}\n" in again
    assert re.findall(r"^epoch.+$", again, re.MULTILINE) == [
        line for line in re.findall(r"^epoch.+$", output, re.MULTILINE) if int(line[6:8]) > int(best)
    ]
    assert again.split("best model (")[1] == output.split("best model (")[1]


def test_regression_fit(tmp_path):
    """TensorBoard's file has the graph, the training loss and both average losses at their steps."""
    pytest.importorskip("matplotlib")
    output = printed("regression_fit", "--picture", "losses.png", folder=tmp_path)
    assert figures(r"explained: ([\d.]+)", output)[0] > 0.35
    events = EventAccumulator(str(tmp_path / "runs" / "regression")).Reload()
    assert events.Tags()["graph"]
    assert [scalar.step for scalar in events.Scalars("training/loss")] == list(range(5, 331, 5))
    for name in ("training", "validation"):
        averages = events.Scalars(f"{name}/average_loss")
        assert [scalar.step for scalar in averages] == list(range(1, 31))
        assert f"{name} {averages[-1].value:.4f}" in output


def test_gan(tmp_path):
    """The accuracy of the critic stays near chance."""
    output = printed("gan", "--epochs", 40, folder=tmp_path, whole=False)
    accuracy = figures(r"accuracy ([\d.]+)", output)[-1]
    assert 0.45 < accuracy < 0.75


def test_outputs(tmp_path):
    """The accuracy does not depend on the type of the step's output."""
    values = figures(r"'accuracy': ([\d.]+)", printed("outputs", folder=tmp_path))
    assert len(values) == 4
    assert len(set(values)) == 1


def test_events(tmp_path):
    """Handlers run at the firings that their filters select."""
    output = printed("events", folder=tmp_path)
    assert re.findall(r"^after=1, before=4 +epoch (\d)$", output, re.MULTILINE) == ["2", "3"]
    assert re.findall(r"has stepped (\d+) times", output) == ["8", "16"]
    assert re.findall(r"^once.+iteration (\d)", output, re.MULTILINE) == ["1", "5"]


def test_three_sets(tmp_path):
    """The second metric is attached for the test set only."""
    lines = printed("three_sets", folder=tmp_path).splitlines()
    assert ["among the first two" in line for line in lines] == [False, False, True, False, False]
    assert lines[1] == lines[4]
    accuracy, mistakes = figures(r"accuracy': ([\d.]+)", lines[2])[0], figures(r": (\d+)$", lines[3])[0]
    assert round(297 * (1 - accuracy)) == mistakes


def test_metrics_alone(tmp_path):
    """The accuracy is computed separately for each epoch, and improves."""
    accuracies = figures(r"accuracy ([\d.]+)", printed("metrics_alone", folder=tmp_path))
    assert accuracies == sorted(accuracies)
    assert accuracies[-1] > 0.5


def test_cnn(tmp_path):
    """The averaged model learns, and a run that was killed in epoch 4 ends as the run that was not."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    output = printed("cnn", folder=whole, errors=True)
    assert figures(r"accuracy=([\d.]+) \(best\)", output)[-1] > 0.97
    script = ForkedScript(EXAMPLES / "cnn.py", folder=parts, warnings="default")
    while "Epoch [3/8]" not in script.stderr and script.is_running:
        time.sleep(0.02)
    assert script.kill().returncode == -signal.SIGKILL
    again = run_example("cnn.py", folder=parts)
    assert "resumed from" in again.stdout
    resumed = lines_of_epochs(again.stderr)
    assert 4 <= len(resumed) <= 5
    assert resumed == lines_of_epochs(output)[-len(resumed) :]
    assert sorted(path.name for path in (parts / "runs/cnn").iterdir()) == sorted(
        path.name for path in (whole / "runs/cnn").iterdir()
    )


def lines_of_epochs(text):
    """Return the lines of a progress bar about epochs, without their durations."""
    return re.findall(r"^(Epoch .+) \| ", text, re.MULTILINE)


def test_language_model(tmp_path):
    """The perplexity falls at each validation, and the last one is saved as the best."""
    output = printed("language_model", folder=tmp_path)
    perplexities = figures(r"perplexity ([\d.]+)", output)
    assert perplexities == sorted(perplexities, reverse=True)
    assert perplexities[-1] < 12
    best, latest = sorted(path.name for path in (tmp_path / "runs/language_model").glob("*.pt"))
    assert best.startswith("best_model_epoch=1_step=400_loss=")
    assert latest == "checkpoint_400.pt"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow uses deprecated functions of SQLAlchemy
def test_cross_validation(tmp_path):
    """MLflow has a run for each setting, and below it a run for each fold, with its accuracies."""
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient
    from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

    # The libraries of MLflow warn.
    output = printed("cross_validation", folder=tmp_path, warnings="default")
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    runs = client.search_runs([client.get_experiment_by_name("wine").experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    parents = {run.info.run_id: run for run in runs if MLFLOW_PARENT_RUN_ID not in run.data.tags}
    assert len(parents) == 4
    for number, parent in parents.items():
        folds = [run for run in runs if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == number]
        assert sorted(run.info.run_name for run in folds) == ["fold 0", "fold 1", "fold 2"]
        mean = sum(run.data.metrics["validation/accuracy"] for run in folds) / 3
        assert parent.data.metrics["accuracy"] == pytest.approx(mean)
        assert f"{parent.info.run_name}: mean accuracy {mean:.3f}\n" in output
        assert [each.step for each in client.get_metric_history(folds[0].info.run_id, "training/loss")] == [
            *range(1, 6)
        ]


def test_schedules(tmp_path):
    """The printed learning rates are those of the page, to the last digit, because nothing in them is random."""
    pytest.importorskip("matplotlib")
    output = printed("schedules", "--picture", "rates.png", folder=tmp_path)
    assert output.strip() in page("schedules")
    assert drawn(tmp_path / "rates.png")


def test_lr_finder(tmp_path):
    """The network learns with the suggested learning rate, and hardly with the lowest one."""
    pytest.importorskip("matplotlib")
    output = printed("lr_finder", "--picture", "curve.png", folder=tmp_path)
    assert 0.01 < figures(r"suggested learning rate: ([\d.]+)", output)[0] < 1
    lowest, suggested = figures(r"learning rate of [\d.]+: ([\d.]+)", output)
    assert lowest < 0.3
    assert suggested > 0.9
    assert drawn(tmp_path / "curve.png")


def test_averaged_weights(tmp_path):
    """With the averaged weights, the accuracy is higher and varies less."""
    pytest.importorskip("matplotlib")
    output = printed("averaged_weights", "--picture", "accuracies.png", folder=tmp_path)
    own, averaged = figures(r"mean ([\d.]+)", output)
    assert averaged > own + 0.005
    own, averaged = figures(r"deviation ([\d.]+)", output)
    assert averaged < own / 2
    assert drawn(tmp_path / "accuracies.png")


def test_monitoring(tmp_path):
    """The file has the four values of each iteration, and the run waits for data from the fourth epoch on."""
    pytest.importorskip("matplotlib")
    output = printed("monitoring", "--picture", "run.png", folder=tmp_path)
    rows = re.findall(r"^(\d+),run/([^,]+),", (tmp_path / "runs/monitoring.csv").read_text(), re.MULTILINE)
    names = {name for _, name in rows}
    assert names == {"lr", "gradient_norm", "samples/s", "data_wait"}
    iterations = {int(step) for step, name in rows if name == "lr"}
    assert iterations == set(range(1, 175))
    waiting = figures(r"(\d+)% waiting", output)
    assert max(waiting[:3]) < min(waiting[3:])
    assert drawn(tmp_path / "run.png")


def test_profilers(tmp_path):
    """Both tables have a line for each event or handler, and the trace names the handlers."""
    ended = run_example("profilers.py", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (shown,) = re.findall(
        r"^```console\n\$ python .+?\n(.+?)^```", page("profilers"), re.MULTILINE | re.DOTALL
    )
    # The table is sorted by times, which vary.
    assert sorted(without_figures(ended.stdout).split("\n")) == sorted(without_figures(shown).split("\n"))
    (trace,) = (tmp_path / "runs" / "profilers" / "traces").iterdir()
    named = {event.get("name") for event in json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]}
    assert "RunningAverage.iteration_completed at Events.ITERATION_COMPLETED" in named
