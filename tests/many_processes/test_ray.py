"""The script ray_digits.py on a real cluster of Ray, which listens on 127.0.0.1 only and ends with the test."""

import ast
import json
import re
import secrets
import tempfile

import psutil
import pytest
from example_runs import EXAMPLES, evaluate_digits, logged

# Runs the script twice on one cluster, and shows the processes of the cluster.
CLUSTER = """\
import json, runpy, sys

import psutil
import ray

# The folder of a cluster needs a short path, because it contains sockets.
ray.init(num_cpus=2, include_dashboard=False, _temp_dir=sys.argv[1], object_store_memory=80_000_000)
for epochs in ("2", "3"):
    sys.argv[1:] = ["--epochs", epochs]
    runpy.run_path({script!r}, run_name="__main__")
print("processes:", json.dumps([each.pid for each in psutil.Process().children(recursive=True)]))
"""


def test_ray(run, tmp_path):
    """Two workers of Ray train one run with one log and one checkpoint, and continue it; the cluster then ends (D2, L5)."""
    local = {
        # The cluster listens on 127.0.0.1 only.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER.format(script=str(EXAMPLES / "ray_digits.py")))
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        output = run(tmp_path, script, folder, **local)
    (processes,) = re.findall(r"^processes: (.+)$", output, re.MULTILINE)
    _, alive = psutil.wait_procs(
        [psutil.Process(pid) for pid in json.loads(processes) if psutil.pid_exists(pid)], 20
    )
    for process in alive:
        process.kill()
    assert alive == []

    folder = tmp_path / "runs" / "ray_digits"
    accuracy, loss = evaluate_digits("ray_digits.py", folder / "checkpoints")
    found = [ast.literal_eval(line) for line in re.findall(r"^\{'accuracy.+$", output, re.MULTILINE)]
    assert [each["accuracy"] for each in found] == [
        value for _, value in logged(folder / "log.jsonl", "validation/accuracy")[1:]
    ]
    assert found[-1] == {"accuracy": accuracy, "loss": pytest.approx(loss, rel=1e-6)}
    assert "resumed from" in output
    assert [step for step, _ in logged(folder / "log.jsonl", "validation/accuracy")] == [25, 50, 75]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["checkpoint_75.pt"]
