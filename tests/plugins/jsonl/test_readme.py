"""Tests of the README and of lazy imports."""

from new_process import imported_by, run_readme_script


def test_readme_script_runs(tmp_path):
    """The script of the README runs unchanged with warnings as errors and writes both files."""
    run_readme_script("glowplug-jsonl", tmp_path)
    assert [path.name for path in sorted(tmp_path.glob("logs/*"))] == ["run.csv", "run.jsonl"]


def test_imports_are_lazy():
    """Discovery and construction import neither torch nor numpy."""
    script = (
        "import glowplug_jsonl._plugin; from glowplug_jsonl import CsvLogger, JsonLinesLogger;"
        "JsonLinesLogger('never'); CsvLogger('never')"
    )
    assert imported_by(script, ["torch", "numpy"]) == "set()"
