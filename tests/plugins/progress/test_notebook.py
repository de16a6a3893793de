"""Bars in a notebook, which a kernel executes."""

import json
import re
import sys

import pytest

# Only the environment of this plugin has these libraries.
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SETUP = """
import sys
import time
from glowplug import Engine, Events
from glowplug_progress import ProgressBar

trainer = Engine(lambda engine, batch: time.sleep(0.01))
evaluator = Engine(lambda engine, batch: time.sleep(0.01))
evaluator.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.state.metrics.update(accuracy=0.5))
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run([1, 2]))
bar = ProgressBar(style={style!r}, best="accuracy", persist={persist}, mininterval=0)
bar.attach(trainer, event_name=Events.EPOCH_COMPLETED, closing_event_name=Events.COMPLETED, name="fit")
bar.attach(trainer)
bar.attach(evaluator)
trainer.add_event_handler(Events.EPOCH_STARTED, lambda: print("printed"));
"""
WITHOUT_WIDGETS = """
import sys
sys.modules["ipywidgets"] = None
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """A folder with a kernel of this environment."""
    folder = tmp_path_factory.mktemp("jupyter")
    kernel = folder / "kernels" / "here"
    kernel.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": command, "display_name": "here", "language": "python"}), encoding="utf-8"
    )
    return folder


class Recorder(nbclient.NotebookClient):
    """Client that records what the cells display, including what replaces other outputs."""

    def __init__(self, notebook):
        super().__init__(notebook, timeout=120, kernel_name="here")
        self.displayed = []

    def process_message(self, message, cell, cell_index):
        if message["msg_type"] in ("display_data", "update_display_data"):
            self.displayed.append(re.sub(r"\x1b\[[\d;]*m", "", message["content"]["data"]["text/plain"]))
        return super().process_message(message, cell, cell_index)


@pytest.fixture
def execute(kernels, monkeypatch):
    """Execute cells in a new kernel; return the outputs of the last cell and the client."""
    monkeypatch.setenv("JUPYTER_PATH", str(kernels))
    monkeypatch.setenv("IPYTHONDIR", str(kernels / "ipython"))

    def run(*cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        client = Recorder(notebook)
        client.execute()
        assert not [output for cell in notebook.cells[:-1] for output in cell.outputs]
        return notebook.cells[-1].outputs, client

    return run


def streams_of(outputs, name):
    """Return the text that a cell has written to a stream."""
    return "".join(
        output.text for output in outputs if output.output_type == "stream" and output.name == name
    )


LINES = [
    "printed",
    "fit [1/2]  accuracy=0.5 (best)",
    "printed",
    "fit [2/2]  accuracy=0.5 (best 0.5 in epoch 1)",
]


def lines_of(outputs):
    """Return the lines on sys.stdout, without durations."""
    text = streams_of(outputs, "stdout")
    return [re.sub(r" \| [\d.]+ s$", "", line) for line in text.splitlines()]


@pytest.mark.parametrize("persist", [False, True])
def test_tqdm(execute, persist):
    """A notebook shows bars as widgets and lines as text, without errors and warnings."""
    pytest.importorskip("ipywidgets")
    outputs, client = execute(
        SETUP.format(style="tqdm", persist=persist), "trainer.run(range(5), max_epochs=2);"
    )
    assert streams_of(outputs, "stderr") == ""
    assert lines_of(outputs) == LINES
    kinds = {output.output_type for output in outputs}
    assert kinds == {"stream", "display_data"}
    widgets = client.nb.metadata.widgets
    states = widgets["application/vnd.jupyter.widget-state+json"]["state"].values()
    bars = [one["state"] for one in states if one["model_name"] == "FloatProgressModel"]
    # The epochs, and for each epoch the iterations and the evaluation.
    assert [bar["value"] for bar in bars if bar["max"] == 5] == [5, 5]
    assert len(bars) == 5


def test_tqdm_without_widgets(execute):
    """Without ipywidgets, tqdm's bars are text, and no warning appears."""
    outputs, _ = execute(
        WITHOUT_WIDGETS, SETUP.format(style="tqdm", persist=False), "trainer.run(range(5), max_epochs=2);"
    )
    assert lines_of(outputs) == LINES
    bars = streams_of(outputs, "stderr")
    assert "[5/5] 100%" in bars
    assert "arning" not in bars


@pytest.mark.parametrize(("has_widgets", "file"), [(True, "sys.stdout"), (False, "None")])
def test_rich(execute, has_widgets, file):
    """A notebook shows bars of rich in one output that is replaced, without ipywidgets and for the file sys.stdout too."""
    setup = SETUP.format(style="rich", persist=False).replace("mininterval=0", f"mininterval=0, file={file}")
    cells = [setup] if has_widgets else [WITHOUT_WIDGETS, setup]
    outputs, client = execute(*cells, "trainer.run(range(5), max_epochs=2);")
    assert streams_of(outputs, "stderr") == ""
    assert lines_of(outputs) == LINES
    frames = [
        [" ".join(row.split()) for row in text.splitlines() if row.strip()] for text in client.displayed
    ]
    bars = (
        r"fit ━+╺━+ 1/2 [\d:<]+ [\d.]+epoch/s",
        r"Epoch \[2/2\] ━+ 5/5 [\d:<]+ [\d.]+it/s",
        r"Iteration ━.* \d/2 .*",
    )
    assert any(len(rows) == len(bars) and all(map(re.fullmatch, bars, rows)) for rows in frames), frames
    # At the end, the output is empty.
    shown = [output for output in outputs if output.output_type == "display_data"]
    assert [output.data["text/plain"].strip() for output in shown] == [""]


FILE = """
import io

for style in ("rich", "tqdm"):
    file = io.StringIO()
    again = Engine(lambda engine, batch: None)
    ProgressBar(style=style, epoch_lines=True, persist=True, file=file).attach(again)
    again.run(range(5), max_epochs=2)
    print(style, file.getvalue().split("\\n"));
"""


def test_file(execute):
    """In a notebook, lines and bars for a file are written to the file and not to the cell."""
    outputs, client = execute(SETUP.format(style="rich", persist=False), FILE)
    assert client.displayed == []
    text = re.sub(r"  [\d.]+ s'", "'", streams_of(outputs, "stdout"))
    rich, tqdm = text.splitlines()
    assert tqdm == "tqdm ['Epoch [1/2]', 'Epoch [2/2]', '']"
    assert re.fullmatch(
        r"rich \['Epoch \[1/2\] ━+ 5/5 .*', 'Epoch \[1/2\]', 'Epoch \[2/2\] ━+ 5/5 .*', 'Epoch \[2/2\]', ''\]",
        rich,
    )


def test_failed_run(execute):
    """After an error, no bar is left above the traceback."""
    fail = "trainer.add_event_handler(Events.ITERATION_COMPLETED(once=7), lambda: 1 / 0);"
    setup = SETUP.format(style="rich", persist=False)
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="ZeroDivisionError"):
        execute(setup + fail, "trainer.run(range(5), max_epochs=2);")
