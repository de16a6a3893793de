"""The check of a plugin module; all contracts except ``EngineContract`` include this check."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

from glowplug_testing.checks import CheckSkipped, require

_SCRIPT = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[3])
import glowplug.hookspecs
before = set(sys.modules)
module = importlib.import_module(sys.argv[1])
heavy = json.loads(sys.argv[2])
allowed = {"glowplug", "pluggy", "packaging", sys.argv[1].partition(".")[0]} | set(sys.stdlib_module_names)
brought = {name.partition(".")[0] for name in set(sys.modules) - before} - allowed
brought |= {name for name in heavy if name in sys.modules}
print("RESULT " + json.dumps([sorted(brought), getattr(module, "GLOWPLUG_API", None)]))
"""


def plugin_module_is_light(case: Any) -> None:
    """The plugin module sets GLOWPLUG_API and imports no third-party library except glowplug, so that it loads quickly."""
    plugin = case.plugin or _plugin_of(case)
    if plugin is None:
        raise CheckSkipped(
            "this check found no plugin module; if you have such a module, pass its name, as in "
            f'{type(case).__name__}(plugin="acme_shout._plugin")'
        )
    arguments = [plugin, json.dumps(list(case.heavy)), json.dumps(sys.path)]
    done = subprocess.run(  # noqa: S603 - runs this interpreter
        [sys.executable, "-c", _SCRIPT, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    require(
        done.returncode == 0 and lines,
        f"import {plugin} failed in a fresh interpreter:\n{done.stderr.strip()}",
    )
    brought, api = json.loads(lines[-1].removeprefix("RESULT "))
    require(
        not brought,
        f"{plugin} imports {', '.join(brought)}, which delays every script that loads the plugin; in this module and in the "
        "package's __init__.py, import nothing but glowplug.hookspecs and the standard library",
    )
    require(
        api == 1,
        f"{plugin} must define GLOWPLUG_API = 1, the version of the hooks, got {api!r}",
    )


def _plugin_of(case: Any) -> str | None:
    """Return the full name of the ``_plugin`` module in the object's package, or ``None`` if there is no such module."""
    made = case.make()
    package = type(made).__module__.partition(".")[0]
    if package in {"glowplug", "__main__"}:
        return None
    try:
        found = importlib.util.find_spec(f"{package}._plugin")
    except (ImportError, ValueError):
        return None
    return None if found is None else found.name
