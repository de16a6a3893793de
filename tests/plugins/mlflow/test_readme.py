"""Tests of the README and of lazy imports."""

import re
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

README = Path(__file__).parents[3] / "plugins" / "glowplug-mlflow" / "README.md"


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged and creates a finished run."""
    script = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1]
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "training/loss")) == 30


def test_imports_are_lazy():
    """Discovery and construction do not import torch, mlflow, requests or numpy."""
    script = (
        "import sys, glowplug_mlflow._plugin; from glowplug_mlflow import MLflowLogger;"
        "MLflowLogger();"
        "print({'torch', 'mlflow', 'requests', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
