"""The script of the README runs as it stands, and the library waits for the first record."""

import re
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

README = Path(__file__).parents[3] / "plugins" / "glowplug-mlflow" / "README.md"


def test_the_script_of_the_readme_runs(tmp_path):
    """The README's script runs as it stands and leaves a finished run behind."""
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


def test_neither_discovery_nor_construction_imports_a_heavy_library():
    """Libraries wait for the first record."""
    script = (
        "import sys, glowplug_mlflow._plugin; from glowplug_mlflow import MLflowLogger;"
        "MLflowLogger();"
        "print({'torch', 'mlflow', 'requests', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
