"""The pages of docs/: their snippets print what they show, their links resolve, their tables are complete."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FOLDERS = [DOCS, *(DOCS / name for name in ("tutorial", "how-to", "reference", "explanation", "examples"))]
WITH_SNIPPETS = [
    "../README",
    "explanation/compatibility",
    "explanation/design",
    "how-to/averaged-weights",
    "how-to/checkpoint-and-resume",
    "how-to/coming-from-ignite",
    "how-to/coming-from-keras",
    "how-to/coming-from-lightning",
    "how-to/configuration-files",
    "how-to/finding-a-learning-rate",
    "how-to/gpu-and-mixed-precision",
    "how-to/iteration-based-training",
    "how-to/learning-rate-schedules",
    "how-to/monitoring",
    "how-to/notebooks",
    "how-to/profiling",
    "how-to/sweeps",
    "how-to/training-setup",
    "how-to/training-step",
    "reference/events",
    "reference/metrics",
    "tutorial/coming-from-a-plain-loop",
    "tutorial/first-handler",
    "tutorial/first-run",
]
# Training on real data: the last digits depend on the processor, and durations on the machine.
WITH_VARYING_NUMBERS = {"tutorial/first-run"}
SNIPPET = re.compile(
    r"^(?:`(?P<file>[\w-]+\.\w+)`:\n+```\w+|```python)\n(?P<code>.*?)^```$(?:\n+```text\n(?P<shown>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)")
PAGES = sorted(
    [
        *(page for folder in FOLDERS for page in folder.glob("*.md")),
        *ROOT.glob("*.md"),
        ROOT / "changelog.d" / "README.md",
    ]
)
# Facts have ids such as E-014, and promises have ids such as C1. In the name of a test, an underscore replaces the hyphen.
FACT = re.compile(r"(?<![A-Za-z0-9])([EHLMDU])[-_](\d{3}a?)(?![0-9A-Za-z])")
PROMISE = re.compile(r"(?:def test_|\(|, )([CLSDP]\d)(?=[_,)])")


def run_snippets(name):
    """Run the snippets of a page in one namespace; yield the line, the output and the shown output of each.

    If the line above a snippet names a file, the snippet is written to this file instead.
    """
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    for match in SNIPPET.finditer(page):
        if match["file"]:
            Path(match["file"]).write_text(match["code"], encoding="utf-8")
            continue
        line = page.count("\n", 0, match.start("code"))
        # Because of the empty lines above the code, line numbers in a traceback are those of the page.
        code = compile("\n" * line + match["code"], f"{name}.md", "exec")
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(code, namespace)
        yield line + 1, printed.getvalue(), match["shown"] or ""


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # in MLflow's own queries
@pytest.mark.parametrize("name", WITH_SNIPPETS)
def test_snippets_print_what_is_shown(name, tmp_path, monkeypatch):
    """Each snippet runs without a warning and prints the shown output."""
    monkeypatch.chdir(tmp_path)
    results = list(run_snippets(name))
    assert results
    comparable = without_numbers if name in WITH_VARYING_NUMBERS else str
    assert [(line, comparable(printed)) for line, printed, _ in results] == [
        (line, comparable(shown)) for line, _, shown in results
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in the libraries of Jupyter
def test_notebook_page_in_a_notebook(tmp_path, monkeypatch):
    """The cells of the page on notebooks print the shown output in a real kernel."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    for variable in ("IPYTHONDIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    snippets = list(SNIPPET.finditer((DOCS / "how-to" / "notebooks.md").read_text(encoding="utf-8")))
    cells = [nbformat.v4.new_code_cell(snippet["code"]) for snippet in snippets]
    notebook = nbformat.v4.new_notebook(cells=cells)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=resources).execute()
    printed = ["".join(output.get("text", "") for output in cell.outputs) for cell in notebook.cells]
    assert printed == [snippet["shown"] or "" for snippet in snippets]


def without_numbers(text):
    """Return a text in which ``#`` replaces each number."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


def anchors(path):
    """Return the anchors of a page's headings, as its host makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_resolve(page):
    """The target of each link within the repository exists; if the link has an anchor, so does the heading."""
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), f"{target}{anchor}"


def test_every_page_is_listed():
    """The index and the gallery list all pages and all scripts."""
    listed = {
        (index.parent / target).resolve()
        for index in (DOCS / "README.md", DOCS / "examples" / "README.md")
        for target, _ in LINK.findall(index.read_text(encoding="utf-8"))
    }
    there = [path for folder in FOLDERS for path in folder.glob("*.md") if path.stem != "index"]
    there += (DOCS / "examples").glob("*.py")
    assert {*there} - listed == {DOCS / "README.md"}


def test_metrics_page_is_complete():
    """The table of metrics names every metric that glowplug-metrics offers."""
    import glowplug_metrics._plugin as plugin

    table = (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8").split("## The metrics\n")[1]
    names = {spec.name for spec in plugin.glowplug_offers()}
    assert names - set(re.findall(r"`(\w+)`", table)) == set()


def test_cited_ids_are_explained():
    """Every id that a test or a contract cites has a row in behaviour.md."""
    page = (DOCS / "behaviour.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\| ([A-Z]-?\d+a?) \|", page, re.MULTILINE))
    cited = set()
    for path in [*ROOT.glob("tests/**/*.py"), *ROOT.glob("plugins/glowplug-testing/src/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        cited |= {"-".join(parts) for parts in FACT.findall(text)} | set(PROMISE.findall(text))
    assert {"E-014", "C4"} <= cited
    assert cited - explained == set()
