"""The scripts of docs/examples, run as a user runs them."""

import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run_example(name, *arguments, folder):
    """Run a script in an empty folder, with warnings as errors; return how it ended."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_from_config(tmp_path):
    """Handlers made from a file stop the run, show its progress, and keep a checkpoint that classifies irises."""
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


def test_from_config_does_what_the_file_says(tmp_path):
    """Another file makes another run, and a misspelt option is an error that names the one that was meant."""
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


def test_tbptt(tmp_path):
    """The network learns to echo across the borders of chunks, and does so on whole sequences that it has not seen."""
    ended = run_example("tbptt.py", folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    chunks = re.findall(r"^batch +(\d+)  chunk +(\d+)  loss ([\d.]+)$", ended.stdout, re.MULTILINE)
    assert [(int(batch), int(chunk)) for batch, chunk, _ in chunks] == [(3 * n, 30 * n) for n in range(1, 11)]
    assert float(chunks[0][2]) > 0.5
    assert (
        float(chunks[-1][2]) < 0.05
    )  # 0.2 at least, if each chunk of 20 began without the 4 steps before it
    whole = re.search(r"^whole test sequences of 200 steps: loss ([\d.]+)$", ended.stdout, re.MULTILINE)
    assert float(whole[1]) < 0.05
