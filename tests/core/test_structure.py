"""The import rules of the repository, checked on its source."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "src"
PLUGINS = sorted(
    path.parent
    for pattern in ("plugins", "docs/examples/plugins")
    for path in ROOT.glob(f"{pattern}/*/src/*/__init__.py")
)

GROUND = (
    "events state stash handles phase typing exceptions deprecation distributed hookspecs "
    "_finding _folders _lazy _save_handler _version"
)
# Floors from bottom to top. Packages on one floor do not import each other, except on the ground floor and among the
# modules that re-export names.
FLOORS = (
    tuple(f"glowplug.{name}" for name in GROUND.split()),
    ("glowplug.plugins", "glowplug.utils"),
    ("glowplug.engine",),
    ("glowplug.loggers", "glowplug.metrics"),
    ("glowplug.supervised",),
    ("glowplug", "glowplug.handlers", "glowplug.testing"),
    ("glowplug.cli",),
    ("glowplug.__main__",),
)
FLOOR_OF = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}
MIXED = {0, 5}
MAX_FLOORS = 8
# Scripts written for ignite import create_supervised_trainer and similar names from the package engine. When a script first
# accesses such a name, glowplug.engine imports it from glowplug.supervised.
COMPATIBILITY = [("glowplug.engine", "glowplug.supervised", "lazy")]


class Arrow(NamedTuple):
    """One import: its source, its target, and when it is executed."""

    source: str
    line: int
    target: str
    when: str
    """``module``, ``function``, ``lazy`` (a name in a table of lazy exports) or ``typing``."""

    def __str__(self):
        return f"{self.source}:{self.line} -> {self.target} ({self.when})"


def modules_below(folder):
    """Map dotted module names below a source folder to paths."""
    names = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        if "templates" not in parts:
            names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


class ImportCollector(ast.NodeVisitor):
    """Collects the imports of one module, in source order."""

    def __init__(self, module, is_package, modules):
        self.module, self.is_package, self.modules = module, is_package, modules
        self.arrows = []
        self.when = "module"
        self.is_lazy = False

    def add(self, node, target, when=None):
        # ``from package import name`` imports the submodule of that name if it exists, otherwise the package.
        while target and target not in self.modules:
            target = target.rpartition(".")[0]
        if target and target != self.module:
            self.arrows.append(Arrow(self.module, node.lineno, target, when or self.when))

    def within(self, when, nodes):
        before, self.when = self.when, when if self.when == "module" else self.when
        for node in nodes:
            self.visit(node)
        self.when = before

    def visit_Import(self, node):
        for alias in node.names:
            self.add(node, alias.name)

    def visit_ImportFrom(self, node):
        base = node.module or ""
        if node.level:
            parents = self.module.split(".")
            dropped = node.level - self.is_package
            base = ".".join([*parents[: len(parents) - dropped], *filter(None, [node.module])])
        for alias in node.names:
            self.add(node, f"{base}.{alias.name}")

    def visit_If(self, node):
        is_typing = "TYPE_CHECKING" in ast.unparse(node.test)
        self.within("typing" if is_typing else self.when, node.body)
        self.within(self.when, node.orelse)

    def visit_FunctionDef(self, node):
        self.within("function", node.body)

    def visit_AsyncFunctionDef(self, node):
        self.visit_FunctionDef(node)

    def visit_Module(self, node):
        names = {getattr(part, "id", getattr(part, "name", None)) for part in ast.walk(node)}
        self.is_lazy = bool(names & {"__getattr__", "lazy_exports"})
        self.generic_visit(node)

    def visit_Dict(self, node):
        """Collect module names in a table of lazy exports."""
        for part in [*node.keys, *node.values] if self.is_lazy else ():
            if isinstance(part, ast.Constant) and part.value in self.modules:
                self.add(part, part.value, "lazy")
        self.generic_visit(node)


def arrows_of(modules):
    """Return every import between the modules."""
    arrows = []
    for name, path in modules.items():
        collector = ImportCollector(name, path.name == "__init__.py", modules)
        collector.visit(ast.parse(path.read_text(encoding="utf-8")))
        arrows += collector.arrows
    return list(dict.fromkeys(arrows))


@functools.cache
def core():
    """Return the modules of the core and their imports."""
    modules = modules_below(CORE)
    return modules, arrows_of(modules)


def layered():
    """Return the imports of the core that the rules apply to."""
    return [arrow for arrow in core()[1] if (arrow.source, arrow.target, arrow.when) not in COMPATIBILITY]


def unit_of(module):
    """Return the package or module directly below `glowplug`."""
    return ".".join(module.split(".")[:2])


def cycles_of(arrows):
    """Return the import cycles of the modules (Tarjan)."""
    graph = {}
    for arrow in arrows:
        graph.setdefault(arrow.source, set()).add(arrow.target)
    index, low, stack, groups = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                groups.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def upward(arrows):
    """Return the imports whose target is not on a lower floor."""
    found = []
    for arrow in arrows:
        source, target = unit_of(arrow.source), unit_of(arrow.target)
        if source == target:
            continue
        above, below = FLOOR_OF[source], FLOOR_OF[target]
        if above < below or (above == below and above not in MIXED):
            found.append(str(arrow))
    return found


def is_within(module, package):
    """Return whether a module is a package or inside it."""
    return module == package or module.startswith(f"{package}.")


def private_imports(arrows):
    """Return the imports of private modules from outside their package."""
    found = []
    for arrow in arrows:
        parts = arrow.target.split(".")
        private = [i for i, part in enumerate(parts) if part.startswith("_") and not part.endswith("__")]
        if any(not is_within(arrow.source, ".".join(parts[:i])) for i in private):
            found.append(str(arrow))
    return found


def floors_of(arrows):
    """Return the floor of each package: one more than the highest floor that the package imports from."""
    below = {}
    for arrow in arrows:
        source, target = unit_of(arrow.source), unit_of(arrow.target)
        if arrow.when == "module" and source != target:
            below.setdefault(source, set()).add(target)

    @functools.cache
    def floor(unit):
        return 1 + max(map(floor, below.get(unit, ())), default=0)

    return {unit: floor(unit) for unit in sorted(below)}


def refuse(violations):
    """Fail with one violation per line."""
    if violations:
        pytest.fail("\n".join(["", *map(str, violations)]), pytrace=False)


class TestCore:
    """The modules of the distribution glowplug."""

    def test_no_import_cycle(self):
        """The imports form no cycle, not even through imports for typing, in functions, or of lazy exports."""
        refuse(cycles_of(layered()))

    def test_every_module_has_a_floor(self):
        """Every package and top-level module is in the table of floors."""
        refuse(sorted({unit_of(module) for module in core()[0]} - set(FLOOR_OF)))

    def test_arrows_point_down(self):
        """Every import, including lazy and typing imports, points to a lower floor."""
        refuse(upward(layered()))

    def test_few_floors(self):
        """The longest import chain is at most MAX_FLOORS packages long."""
        # Upward imports are omitted, because packages in a cycle have no floor; test_arrows_point_down reports them.
        arrows = [arrow for arrow in core()[1] if not upward([arrow])]
        refuse([f"{unit}: floor {floor}" for unit, floor in floors_of(arrows).items() if floor > MAX_FLOORS])

    def test_private_modules_stay_in_their_package(self):
        """Private modules are imported by their own package only."""
        refuse(private_imports(core()[1]))


class TestPlugins:
    """The modules of every plugin in the repository."""

    @pytest.mark.parametrize("package", PLUGINS, ids=lambda path: path.name)
    def test_public_names_of_the_core_only(self, package):
        """Plugins import no private module or name of the core."""
        private = []
        for path in sorted(package.rglob("*.py")):
            for line, name in imported_names(path):
                parts = name.split(".")
                if parts[0] == "glowplug" and any(is_private(part) for part in parts):
                    private.append(f"{path.relative_to(ROOT)}:{line} {name}")
        refuse(private)

    @pytest.mark.parametrize("package", PLUGINS, ids=lambda path: path.name)
    def test_no_other_plugin(self, package):
        """Plugins do not import each other."""
        others = {path.name for path in PLUGINS} - {package.name}
        found = [
            f"{path.relative_to(ROOT)}:{line} {name}"
            for path in sorted(package.rglob("*.py"))
            for line, name in imported_names(path)
            if name.split(".")[0] in others
        ]
        refuse(found)


def is_private(name):
    """Return whether a name starts with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def imported_names(path):
    """Yield line and dotted name of every absolute import."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


class TestRules:
    """The rules, checked on small packages that break them."""

    @pytest.fixture
    def arrows(self, tmp_path):
        """Return a function that writes modules and returns their imports."""

        def write(**sources):
            for name, source in sources.items():
                path = tmp_path.joinpath(*name.split("__")).with_suffix(".py")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(source, encoding="utf-8")
            for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
                (folder / "__init__.py").touch()
            return arrows_of(modules_below(tmp_path))

        return write

    def test_cycle(self, arrows):
        """Two modules that import each other are found in every spelling."""
        found = arrows(
            glowplug__events="from . import state", glowplug__state="from glowplug.events import Events"
        )
        assert cycles_of(found) == [["glowplug.events", "glowplug.state"]]

    def test_deferred_imports_form_cycles_too(self, arrows):
        """Imports in functions or for typing count: a reader follows them like any other."""
        deferred = (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import glowplug.state\n"
            "def f():\n    import glowplug.state"
        )
        found = arrows(glowplug__events=deferred, glowplug__state="import glowplug.events")
        assert cycles_of(found) == [["glowplug.events", "glowplug.state"]]
        assert [arrow.when for arrow in found] == ["typing", "function", "module"]

    @pytest.mark.parametrize(
        "source",
        [
            "from glowplug.engine import Engine",
            "import glowplug.engine._loop",
            "def f():\n    from glowplug import engine",
            "from ..engine import Engine",
            "_LAZY = {'Engine': 'glowplug.engine'}\ndef __getattr__(name): ...",
            "f = lazy_exports(__name__, {'glowplug.engine': ('Engine',)})",
        ],
    )
    def test_upward(self, arrows, source):
        """An import of a higher floor is found in every spelling."""
        assert len(upward(arrows(glowplug__plugins___registry=source, glowplug__engine___loop=""))) == 1

    def test_text_is_no_import(self, arrows):
        """A table of module names is an import only in a module with lazy exports."""
        source = "SEE = {'engine': 'glowplug.engine'}"
        assert upward(arrows(glowplug__plugins___registry=source, glowplug__engine___loop="")) == []

    def test_beside(self, arrows):
        """Packages on one floor do not import each other, except on the ground floor."""
        found = arrows(
            glowplug__metrics___metric="import glowplug.loggers",
            glowplug__loggers___step="import glowplug.state",
            glowplug__state="import glowplug.events",
            glowplug__events="",
        )
        assert upward(found) == ["glowplug.metrics._metric:1 -> glowplug.loggers (module)"]

    def test_private(self, arrows):
        """A private module can be imported by its own package only, but a private top-level module by all packages."""
        found = arrows(
            glowplug__metrics___metric="import glowplug._lazy\nimport glowplug.engine._loop",
            glowplug__engine___loop="import glowplug.engine._stop",
            glowplug__engine___stop="",
            glowplug___lazy="",
        )
        assert private_imports(found) == ["glowplug.metrics._metric:2 -> glowplug.engine._loop (module)"]

    def test_floors(self, arrows):
        """Floors are counted from the lowest package."""
        found = arrows(
            glowplug__cli="import glowplug.engine",
            glowplug__engine="import glowplug.state\nfrom glowplug.events import Events",
            glowplug__state="import glowplug.events",
            glowplug__events="",
        )
        assert floors_of(found) == {"glowplug.cli": 4, "glowplug.engine": 3, "glowplug.state": 2}
