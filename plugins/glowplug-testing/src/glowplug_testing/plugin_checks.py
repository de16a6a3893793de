"""The check of a plugin module that all contracts share: that discovery does not have to wait for it."""

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
own = {"glowplug", "pluggy", "packaging", sys.argv[1].partition(".")[0]} | set(sys.stdlib_module_names)
brought = {name.partition(".")[0] for name in set(sys.modules) - before} - own
brought |= {name for name in heavy if name in sys.modules}
print("RESULT " + json.dumps([sorted(brought), getattr(module, "GLOWPLUG_API", None)]))
"""


def plugin_module_is_light(case: Any) -> None:
    """An import of the plugin module, in a fresh interpreter, brings no library along."""
    plugin = case.plugin or _plugin_of(case)
    if plugin is None:
        raise CheckSkipped(
            f'{type(case).__name__}(plugin="acme_shout._plugin") would have the plugin module looked at; there is none to be found'
        )
    arguments = [plugin, json.dumps(list(case.heavy)), json.dumps(sys.path)]
    done = subprocess.run(  # noqa: S603 - it is this interpreter
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
        f"import {plugin} imports {', '.join(brought)}, and everybody who has the plugin installed waits for that, whether it is "
        f"used or not. Import it where it is used (in open(), or in the module of the class), and let {plugin} and the "
        "package's __init__.py import nothing but glowplug.hookspecs",
    )
    require(
        api == 1,
        f"{plugin} must state the version of the hooks that it is written for: GLOWPLUG_API = 1; it says {api!r}",
    )


def _plugin_of(case: Any) -> str | None:
    """Return the plugin module that stands beside what the case makes, if there is one."""
    made = case.make()
    package = type(made).__module__.partition(".")[0]
    if package in {"glowplug", "__main__"}:
        return None
    try:
        found = importlib.util.find_spec(f"{package}._plugin")
    except (ImportError, ValueError):
        return None
    return None if found is None else found.name
