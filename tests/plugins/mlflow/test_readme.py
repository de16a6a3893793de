"""Tests of the README and of lazy imports."""

from mlflow import MlflowClient
from new_process import imported_by, run_readme_script


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged and creates a finished run."""
    run_readme_script("glowplug-mlflow", tmp_path, warnings="default")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "training/loss")) == 30


def test_imports_are_lazy():
    """Discovery and construction do not import torch, mlflow, requests or numpy."""
    script = "import glowplug_mlflow._plugin; from glowplug_mlflow import MLflowLogger; MLflowLogger()"
    assert imported_by(script, ["torch", "mlflow", "requests", "numpy"]) == "set()"
