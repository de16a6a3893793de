"""Tests of MLflowLogger with a real server and a real database."""

import argparse
import inspect
import json
import math
import threading
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from glowplug import Engine, Events, RunOutcome
from glowplug.loggers import Counts, OptimizerParamsHandler, WeightsHistHandler
from glowplug_mlflow import MLflowLogger, system_metrics
from glowplug_mlflow.artifacts import upload
from glowplug_mlflow.keys import unescape


@pytest.fixture(params=["server", "database"])
def uri(request):
    """The tracking URI of a server or of a local database."""
    if request.param == "server":
        return request.getfixturevalue("server").uri
    return f"sqlite:///{request.getfixturevalue('database')}"


def make(uri, **options):
    """Create a logger with a timeout for slow machines."""
    return MLflowLogger(uri, timeout=60, **options)


def history(client, run_id, key):
    """Read step and value of a metric."""
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, key)]


def artifact(client, run_id, path):
    """Read an artifact as text."""
    return Path(client.download_artifacts(run_id, path)).read_text(encoding="utf-8")


def engine_with(logger, step=lambda engine, batch: batch / 4):
    """Create an engine that logs its iterations."""
    engine = Engine(step)
    logger.attach_output_handler(
        engine, Events.ITERATION_COMPLETED, "training", output_transform=lambda loss: {"loss": loss}
    )
    return engine


def test_whole_run(uri):
    """A run has its metrics with steps and times, its parameters and tags, and ends as FINISHED (L-041)."""
    began = time.time() * 1000
    with make(uri, experiment_name="whole", run_name="mine", tags={"model": "mlp", "layers": 2}) as logger:
        trainer, evaluator = engine_with(logger), Engine(lambda engine, batch: batch)
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.5)
        logger.attach(trainer, Events.EPOCH_STARTED, OptimizerParamsHandler(optimizer))
        logger.attach_output_handler(evaluator, Events.COMPLETED, "validation", output_transform=float)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([7]))
        logger.log_params({"optimizer": {"name": "SGD", "lr": 0.5}, "seed": 3})
        trainer.run([1, 2], max_epochs=2)
        assert logger.counts.dropped == 0
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("whole")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (logger.run_id, "mine", "FINISHED")
    assert run.data.params == {"optimizer/name": "SGD", "optimizer/lr": "0.5", "seed": "3"}
    assert (run.data.tags["model"], run.data.tags["layers"]) == ("mlp", "2")
    assert history(client, logger.run_id, "training/loss") == [(1, 0.25), (2, 0.5), (3, 0.25), (4, 0.5)]
    assert history(client, logger.run_id, "lr/group_0") == [(1, 0.5), (2, 0.5)]
    assert history(client, logger.run_id, "validation/output") == [(1, 7.0), (2, 7.0)]
    times = [metric.timestamp for metric in client.get_metric_history(logger.run_id, "training/loss")]
    assert began - 1 <= times[0] <= times[-1] <= run.info.end_time
    assert mlflow.active_run() is None


class TestStatus:
    @pytest.mark.parametrize(
        ("action", "status"),
        [
            (lambda engine: None, "FINISHED"),
            (lambda engine: engine.terminate(), "FINISHED"),
            (lambda engine: engine.interrupt(), "KILLED"),
            (lambda engine: 1 / 0, "FAILED"),
        ],
        ids=["completed", "terminated", "interrupted", "failed"],
    )
    def test_status(self, server, action, status):
        """The MLflow run ends with the status of the engine's run (L5)."""
        logger = make(server.uri)
        engine = engine_with(logger)
        engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), action)
        try:
            engine.run([1, 2, 3])
        except ZeroDivisionError:
            assert status == "FAILED"
        assert MlflowClient(server.uri).get_run(logger.run_id).info.status == "RUNNING"
        logger.close()
        assert MlflowClient(server.uri).get_run(logger.run_id).info.status == status

    def test_failed_run_is_continued(self, uri):
        """A failed run becomes RUNNING while a second logger continues it, and then FINISHED (L5)."""
        first = make(uri)
        engine_with(first).run([1])
        first.close(RunOutcome.FAILED)
        client = MlflowClient(uri)
        second = make(uri, run_id=first.run_id, tags={"resumed": True})
        second.log_scalars({"training/loss": 9.0}, 2)
        second.flush()
        assert client.get_run(first.run_id).info.status == "RUNNING"
        second.close(RunOutcome.COMPLETED)
        run = client.get_run(first.run_id)
        assert (run.info.status, run.data.tags["resumed"]) == ("FINISHED", "True")
        assert history(client, first.run_id, "training/loss") == [(1, 0.25), (2, 9.0)]
        assert len(client.search_runs([run.info.experiment_id], f"attributes.run_id = '{first.run_id}'")) == 1

    def test_run_of_a_crashed_process(self, server):
        """A logger that continues the RUNNING run of a killed logger ends it (L5)."""
        crashed = make(server.uri)
        crashed.log_scalars({"a": 1.0}, 1)
        crashed.flush()
        with make(server.uri, run_id=crashed.run_id) as resumed:
            resumed.log_scalars({"a": 2.0}, 2)
        assert MlflowClient(server.uri).get_run(crashed.run_id).info.status == "FINISHED"
        crashed.close()

    def test_foreign_run_stays_open(self, uri):
        """A RUNNING run that no logger opened receives metrics and stays RUNNING (L5)."""
        client = MlflowClient(uri)
        run_id = client.create_run("0").info.run_id
        with make(uri, run_id=run_id) as logger:
            engine_with(logger).run([1])
        assert client.get_run(run_id).info.status == "RUNNING"
        assert history(client, run_id, "training/loss") == [(1, 0.25)]
        client.set_terminated(run_id)


class TestActiveRun:
    def test_active_run_is_used_and_stays_open(self, uri):
        """Without arguments the logger uses the active run and leaves it active (L-041)."""
        mlflow.set_tracking_uri(uri)
        with mlflow.start_run() as run:
            with MLflowLogger(timeout=60) as logger:
                engine_with(logger).run([1])
            assert logger.run_id == run.info.run_id
            assert mlflow.active_run().info.run_id == run.info.run_id
            client = MlflowClient(uri)
            assert client.get_run(run.info.run_id).info.status == "RUNNING"
            assert history(client, run.info.run_id, "training/loss") == [(1, 0.25)]
        assert client.get_run(run.info.run_id).info.status == "FINISHED"

    def test_active_run_opened_by_a_logger(self, server):
        """A run that a logger opened stays open once the user has started it again (L-041)."""
        with make(server.uri) as first:
            first.log_scalars({"a": 1.0}, 1)
        mlflow.set_tracking_uri(server.uri)
        with mlflow.start_run(run_id=first.run_id):
            with MLflowLogger(timeout=60) as logger:
                logger.log_scalars({"a": 2.0}, 2)
            assert logger.run_id == first.run_id
            assert MlflowClient(server.uri).get_run(first.run_id).info.status == "RUNNING"

    def test_new_run_beside_an_active_one(self, server, tmp_path):
        """A new run in another store changes neither the active run nor the global tracking URI (L-041)."""
        other = f"sqlite:///{tmp_path}/other.db"
        mlflow.set_tracking_uri(other)
        with mlflow.start_run() as run:
            with make(server.uri, run_name="beside") as logger:
                engine_with(logger).run([1])
            assert mlflow.get_tracking_uri() == other
            assert mlflow.active_run().info.run_id == run.info.run_id
            assert logger.run_id != run.info.run_id
        assert MlflowClient(other).get_run(run.info.run_id).data.metrics == {}
        assert MlflowClient(server.uri).get_run(logger.run_id).info.status == "FINISHED"

    def test_nested_run(self, server):
        """nested=True creates a child of the active run, and is refused without one (L-041)."""
        mlflow.set_tracking_uri(server.uri)
        with mlflow.start_run() as parent, MLflowLogger(nested=True, timeout=60) as child:
            child.log_scalars({"a": 1.0}, 1)
        tags = MlflowClient(server.uri).get_run(child.run_id).data.tags
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        with pytest.raises(ValueError, match=r"nested=True requires an active run.*mlflow\.start_run"):
            MLflowLogger(nested=True)


def test_run_id_excludes_new_run_arguments():
    """run_id with an argument of a new run raises an error that names them."""
    with pytest.raises(ValueError, match=r"run_id='abc' continues an existing run; remove experiment_name"):
        MLflowLogger(run_id="abc", run_name="new")


def test_kind_of_a_new_experiment(uri):
    """A new experiment is one of training runs; an existing one keeps its tags."""
    client = MlflowClient(uri)
    client.create_experiment("mine", tags={"owner": "me"})
    for name in ("new", "mine"):
        with make(uri, experiment_name=name) as logger:
            logger.log_params({"lr": 0.1})
    kind = client.get_experiment_by_name("new").tags["mlflow.experimentKind"]
    assert kind == "custom_model_development"
    assert client.get_experiment_by_name("mine").tags == {"owner": "me"}


def test_page_url(server, tmp_path):
    """The address of the page names the server and the experiment, without credentials."""
    for uri, start in (
        (server.uri, server.uri),
        (server.uri.replace("://", "://me:secret@"), server.uri),
        (f"sqlite:///{tmp_path}/local.db", "http://127.0.0.1:5000"),
    ):
        with make(uri, experiment_name="paged") as logger:
            logger.log_params({"lr": 0.1})
        number = MlflowClient(uri).get_experiment_by_name("paged").experiment_id
        assert logger.page_url() == f"{start}/#/experiments/{number}?workflowType=machine_learning"
    assert logger.page_url("http://my.host:81/").startswith("http://my.host:81/#/experiments/")


def test_default_store(tmp_path):
    """Without a URI, runs go to MLflow's default database in the current folder."""
    with make(None) as logger:
        logger.log_scalars({"a": 1.0}, 1)
    assert (tmp_path / "mlflow.db").exists()
    assert mlflow.get_run(logger.run_id).data.metrics == {"a": 1.0}


class TestLimits:
    def test_non_finite_metrics(self, uri):
        """NaN is stored as NaN, and infinities as the largest floats of MLflow's databases (L4)."""
        with make(uri) as logger:
            logger.log_scalars({"nan": math.nan, "plus": math.inf, "minus": -math.inf}, 1)
        client = MlflowClient(uri)
        metrics = {key: history(client, logger.run_id, key)[0][1] for key in ("nan", "plus", "minus")}
        assert math.isnan(metrics["nan"])
        assert metrics["plus"] >= 1.79e308
        assert metrics["minus"] <= -1.79e308

    def test_many_large_values(self, uri):
        """Metrics, parameters and tags that exceed the size of one request are all stored (L4)."""
        names = [f"layer {number}/" + "é" * 200 for number in range(2500)]
        params = {f"p{number}": "ü" * 5000 for number in range(250)}
        tags = {f"t{number}": "ö" * 7000 for number in range(120)}
        with make(uri, tags=tags) as logger:
            logger.log_scalars(dict.fromkeys(names, 1.0), 1)
            logger.log_params(params)
            assert logger.flush()
            assert logger.counts == Counts(2, 0, 0)
        data = MlflowClient(uri).get_run(logger.run_id).data
        assert set(data.metrics) == set(names)
        assert data.params == params
        assert {name: value for name, value in data.tags.items() if name in tags} == tags

    def test_many_records(self, server):
        """1,500 records with two metrics each are stored completely, each at its step (L4)."""
        with make(server.uri) as logger:
            for step in range(1500):
                logger.log_scalars({"a": float(step), "b": -float(step)}, step, 1_000.0 + step)
        client = MlflowClient(server.uri)
        assert history(client, logger.run_id, "a") == [(step, float(step)) for step in range(1500)]
        assert client.get_metric_history(logger.run_id, "b")[7].timestamp == 1_007_000


BAD_NAMES = [
    "f1=max",
    "acc@0.5",
    "a//b",
    "/lead",
    "trail/",
    "../up",
    "%",
    "_x3D_",
    "",
    "tab\t",
    "ünï/цифры",
    "a\nb",
]


def test_names_are_escaped_reversibly(uri):
    """Names that MLflow refuses are stored escaped and can be restored (L4)."""
    with make(uri, tags={"is it=so": "yes"}) as logger:
        logger.log_scalars({name: float(number) for number, name in enumerate(BAD_NAMES)}, 1)
        logger.log_params({f"p{name}": number for number, name in enumerate(BAD_NAMES)})
    data = MlflowClient(uri).get_run(logger.run_id).data
    assert {unescape(key): value for key, value in data.metrics.items()} == {
        name: float(number) for number, name in enumerate(BAD_NAMES)
    }
    assert {unescape(key): value for key, value in data.params.items()} == {
        f"p{name}": str(number) for number, name in enumerate(BAD_NAMES)
    }
    assert data.tags["is it_x3D_so"] == "yes"


def test_long_texts_become_artifacts(uri, caplog):
    """Long names, parameters and tags are cut, stored in full as artifacts, and reported (L4)."""
    name, text = "n" * 400, "v" * 9000
    with make(uri, tags={"note": text}) as logger:
        for step in (1, 2):
            logger.log_scalars({name: 1.0, name + "2": 2.0}, step)
        logger.log_params({"config/a=b": text})
    client = MlflowClient(uri)
    data = client.get_run(logger.run_id).data
    full_names = {
        artifact(client, logger.run_id, f"glowplug/long_names/{key.rpartition('-')[2]}.txt"): value
        for key, value in data.metrics.items()
    }
    assert full_names == {name: 1.0, name + "2": 2.0}
    assert all(len(key) == 250 for key in data.metrics)
    assert artifact(client, logger.run_id, "params/config/a_x3D_b.txt") == text
    assert artifact(client, logger.run_id, "tags/note.txt") == text
    assert len(data.params["config/a_x3D_b"]) == 6000
    assert data.params["config/a_x3D_b"].endswith(
        "(all 9000 characters are in the artifact params/config/a_x3D_b.txt)"
    )
    assert len(data.tags["note"]) == 8000
    messages = [message for message in caplog.messages if "MLflowLogger" in message]
    assert len(messages) == 4
    assert "the value of 'config/a=b' is 9000 characters long and was shortened to 6000" in messages[3]


def test_long_names_of_two_processes(server):
    """A logger that continues a run retains the full names that an earlier logger stored (L4)."""
    with make(server.uri) as first:
        first.log_scalars({"a" * 300: 1.0}, 1)
    with make(server.uri, run_id=first.run_id) as second:
        second.log_scalars({"b" * 300: 1.0}, 1)
    client = MlflowClient(server.uri)
    files = [file.path for file in client.list_artifacts(first.run_id, "glowplug/long_names")]
    assert {artifact(client, first.run_id, file) for file in files} == {"a" * 300, "b" * 300}


def test_changed_parameter_is_refused_alone(uri, caplog):
    """A changed parameter is refused and reported; the other parameters of the call are stored."""
    with make(uri) as logger:
        logger.log_params({"lr": 0.1})
        logger.log_params({"lr": 0.2, "seed": 3})
        assert logger.flush()
        assert logger.counts == Counts(1, 1, 0)
    assert MlflowClient(uri).get_run(logger.run_id).data.params == {"lr": "0.1", "seed": "3"}
    assert (
        "MLflow refused the parameters lr=0.2 (logged: 0.1); the value of a logged parameter cannot change"
        in caplog.text
    )


def test_texts_images_figures_and_artifacts(uri, tmp_path):
    """Texts, images, figures and files become artifacts with their name and step."""
    figures = pytest.importorskip("matplotlib.figure")
    (tmp_path / "model.txt").write_text("weights")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner.txt").write_text("inner")
    with make(uri) as logger:
        logger.log_text("note=1", "hello", 3)
        logger.log_image("sample", torch.zeros(3, 5, 4), 3)
        logger.log_image("gray", np.zeros((5, 4), dtype=np.uint8), 3)
        logger.log_figure("curve", figures.Figure(figsize=(2, 1), dpi=10), 4)
        logger.log_artifact(tmp_path / "model.txt")
        logger.log_artifact(tmp_path / "folder", "more")
        assert logger.flush()
        assert logger.counts == Counts(6, 0, 0)
    client = MlflowClient(uri)
    assert artifact(client, logger.run_id, "texts/note_x3D_1/3.txt") == "hello"
    assert artifact(client, logger.run_id, "model.txt") == "weights"
    assert artifact(client, logger.run_id, "more/inner.txt") == "inner"
    names = [
        file.path for file in client.list_artifacts(logger.run_id, "images") if file.path.endswith(".png")
    ]
    assert sorted(name.split("/")[1].split("%")[0].split("+")[0] for name in names) == [
        "curve",
        "gray",
        "sample",
    ]


def test_histograms(uri):
    """A histogram becomes an artifact with its counts, edges and sums."""
    with make(uri) as logger:
        logger.log_histogram("weights/layer=1", torch.tensor([0.0, 1.0, 1.0, math.nan]), 2, 1_000.0)
        logger.attach(
            engine_with(logger), Events.EPOCH_COMPLETED, WeightsHistHandler(torch.nn.Linear(1, 1))
        ).remove()
        assert logger.flush()
        assert logger.counts == Counts(1, 0, 0)
    stored = json.loads(artifact(MlflowClient(uri), logger.run_id, "histograms/weights/layer_x3D_1/2.json"))
    assert (stored["minimum"], stored["maximum"], stored["total"], stored["timestamp"]) == (0, 1, 2, 1000)
    assert (sum(stored["counts"]), stored["counts"][0], stored["counts"][-1]) == (3, 1, 2)
    assert len(stored["edges"]) == len(stored["counts"]) + 1


def test_repeated_image(server):
    """An image that is sent twice, because the answer was lost, is stored once, with its pixels."""
    image = pytest.importorskip("PIL.Image")
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    with make(server.uri) as logger:
        logger.log_text("t", "opens the run", 1)
        assert logger.flush()
        for _ in range(2):
            logger.write_image("samples/first", pixels, 1, 1_000.0)
    client = MlflowClient(server.uri)
    files = [file.path for file in client.list_artifacts(logger.run_id, "images")]
    assert sorted(path.rpartition(".")[2] for path in files) == ["png", "webp"]
    (png,) = [path for path in files if path.endswith(".png")]
    assert png.startswith("images/samples~first+step+1+timestamp+1000000+")
    stored = np.asarray(image.open(client.download_artifacts(logger.run_id, png)))
    assert (stored == pixels).all()
    assert client.get_run(logger.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_tags(uri, caplog):
    """Tags pass the queue, may change, and are escaped; a value that MLflow refuses costs no other one."""
    with make(uri) as logger:
        logger.log_tags({"stage": "warm-up", "nested": {"a=b": 1}})
        logger.set_tags({"stage": "training"})
        logger.set_tag("mlflow.runName", "renamed")
        logger.log_scalars({"a": 1.0}, 1)
        assert logger.flush()
        assert logger.counts == Counts(4, 0, 0)
        with pytest.raises(TypeError, match="log_tags: tags must be a mapping, got 'stage'"):
            logger.log_tags("stage")
    run = MlflowClient(uri).get_run(logger.run_id)
    assert (run.data.tags["stage"], run.data.tags["nested/a_x3D_b"]) == ("training", "1")
    assert run.info.run_name == "renamed"
    assert run.data.params == {}


def test_calls_of_ignite(server):
    """What ignite's scripts call on a logger works, or names the method to use."""
    with make(server.uri) as logger:
        logger.log_params(argparse.Namespace(lr=0.1, layers=[8, 8]))
        for name, instead in (
            ("log_metrics", "log_scalars"),
            ("log_metric", "log_scalars"),
            ("log_param", "log_params"),
            ("log_dict", "log_text"),
            ("log_artifacts", r"log_artifact\(path\), which also accepts a folder"),
            ("log_table", r"the client of MLflow .*log_table\(logger\.run_id, \.\.\.\)"),
            ("log_input", "the client of MLflow"),
            ("get_artifact_uri", "the client of MLflow"),
            ("active_run", r"run_id of MLflowLogger, as in mlflow\.start_run\(run_id=logger\.run_id\)"),
            ("start_run", "run_id of MLflowLogger"),
            ("end_run", "run_id of MLflowLogger"),
            ("log_model", r"log_artifact\(path, name\) for a model that mlflow\.pytorch\.save_model"),
        ):
            with pytest.raises(AttributeError, match=f"{name}.*Use {instead}"):
                getattr(logger, name)
    assert MlflowClient(server.uri).get_run(logger.run_id).data.params == {"lr": "0.1", "layers": "[8, 8]"}


def test_bad_values(uri, caplog):
    """Values that cannot be stored cost no other value, and are named."""
    with make(uri) as logger:
        for step in range(200):
            logger.log_scalars({"good": float(step)}, step)
            for bad in ({"x": None}, {"x": "low"}, {"x": 1j}, {"x": torch.ones(2)}, {math.nan: 1.0}):
                if step % 50 == 0:
                    with pytest.raises(TypeError):
                        logger.log_scalars(bad, step)
            if step % 70 == 0:
                logger.log_scalars({"far": 1.0}, 2**63 + step)
                logger.log_scalars({"when": 1.0}, step, math.inf)
        assert logger.flush()
        assert logger.counts == Counts(200, 6, 0)
    client = MlflowClient(uri)
    assert history(client, logger.run_id, "good") == [(step, float(step)) for step in range(200)]
    assert "scalars far at step 9223372036854775808 was refused" in caplog.text
    assert "scalars when at step 0 was refused" in caplog.text


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
def test_model(uri, tmp_path):
    """A saved model that is logged as an artifact can be loaded from the run."""
    mlflow_pytorch = pytest.importorskip("mlflow.pytorch")
    model = torch.nn.Linear(2, 1)
    # Recent versions of MLflow trace the model by default, which needs an example of its input.
    has_formats = "serialization_format" in inspect.signature(mlflow_pytorch.save_model).parameters
    options = {"serialization_format": "pickle"} if has_formats else {}
    mlflow_pytorch.save_model(model, tmp_path / "saved", pip_requirements=[], **options)
    with make(uri) as logger:
        logger.log_artifact(tmp_path / "saved", "model")
    mlflow.set_tracking_uri(uri)
    loaded = mlflow_pytorch.load_model(f"runs:/{logger.run_id}/model")
    assert torch.equal(loaded.weight, model.weight)


def test_system_metrics(server, monkeypatch):
    """System metrics pass the queue, from the start of the run to its end."""
    pytest.importorskip("psutil")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    before = threading.enumerate()
    with make(server.uri, log_system_metrics=True) as logger:
        logger.log_scalars({"a": 1.0}, 1)
        assert logger.flush()
        time.sleep(0.5)
    assert logger.counts.dropped == 0
    names = MlflowClient(server.uri).get_run(logger.run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/disk_usage_percentage"} <= set(names)
    assert len(history(MlflowClient(server.uri), logger.run_id, "system/cpu_utilization_percentage")) >= 3
    assert not [
        thread for thread in threading.enumerate() if "system metrics" in thread.name and thread not in before
    ]


def test_system_metrics_hide_no_error(database, monkeypatch):
    """An error of the backend is raised in the script even if the thread of the system metrics logs first."""

    class Constant:
        def collect_metrics(self):
            pass

        def aggregate_metrics(self):
            return {"constant": 1.0}

        def clear_metrics(self):
            pass

    monkeypatch.setattr(system_metrics, "_monitors", lambda: [Constant()])
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    logger = make(f"sqlite:///{database}", on_error="raise")
    # The argument would need psutil.
    logger.log_system_metrics = True
    logger.log_scalars({"a": 1.0}, 1)
    assert logger.flush()
    logger.log_params({"lr": 0.1})
    logger.log_params({"lr": 0.2})
    deadline = time.monotonic() + 60
    while logger._system_metrics._error is None and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(RuntimeError, match="lr"):
        logger.close()


def test_slow_system_metrics(database, monkeypatch):
    """A slow measurement does not extend the time limit of close, and its metrics are not logged after close."""

    class Slow:
        def collect_metrics(self):
            measuring.set()
            time.sleep(3)

        def aggregate_metrics(self):
            return {"slow": 1.0}

        def clear_metrics(self):
            pass

    measuring = threading.Event()
    monkeypatch.setattr(system_metrics, "_monitors", lambda: [Slow()])
    logger = make(f"sqlite:///{database}")
    # The argument would need psutil.
    logger.log_system_metrics = True
    logger.log_scalars({"a": 1.0}, 1)
    assert logger.flush()
    assert measuring.wait(60)
    thread = logger._system_metrics._thread
    began = time.monotonic()
    logger.close()
    assert time.monotonic() - began < 2.5
    thread.join(60)
    assert logger.counts == Counts(1, 0, 0)


def test_folder_with_a_refused_file(server, tmp_path, caplog):
    """A file of a folder that cannot be uploaded costs no other file."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    for name in ("a.txt", "inner/b.txt", "c.txt"):
        (folder / name).write_text(name)

    class Client(MlflowClient):
        def log_artifact(self, run_id, local_path, artifact_path=None):
            if local_path.endswith("a.txt"):
                raise FileNotFoundError(2, "gone", local_path)
            super().log_artifact(run_id, local_path, artifact_path)

    client = Client(server.uri)
    run_id = client.create_run("0").info.run_id
    with pytest.raises(RuntimeError, match=r"1 of 3 files in folder could not be uploaded: a.txt \(.*gone"):
        upload(client, run_id, str(folder), "data")
    assert artifact(client, run_id, "data/inner/b.txt") == "inner/b.txt"
    assert artifact(client, run_id, "data/c.txt") == "c.txt"
    client.set_terminated(run_id)


def test_two_ranks_create_one_run(run_ranks, server, monkeypatch):
    """Of two ranks, only rank 0 opens a run (L5)."""
    monkeypatch.setenv("TEST_TRACKING_URI", server.uri)

    def log_on(rank):
        import os

        from glowplug import Engine, Events
        from glowplug_mlflow import MLflowLogger

        engine = Engine(lambda engine, batch: batch)
        with MLflowLogger(os.environ["TEST_TRACKING_URI"], "two ranks", timeout=60) as logger:
            logger.attach_output_handler(engine, Events.ITERATION_COMPLETED, "t", output_transform=float)
            engine.run([1, 2])
        return list(logger.counts)

    assert run_ranks(log_on) == [[2, 0, 0], [0, 0, 0]]
    client = MlflowClient(server.uri)
    assert len(client.search_runs([client.get_experiment_by_name("two ranks").experiment_id])) == 1
