"""The cost of imports, each in a separate process."""

from harness import FLOOR, GLOWPLUG, IGNITE, Goal, Row, in_new_process

IMPORT = """
import importlib, sys, time

for name in sys.argv[2:]:
    importlib.import_module(name)
started = time.perf_counter()
for name in sys.argv[1].split(","):
    importlib.import_module(name)
print((time.perf_counter() - started) * 1e3)
"""


def import_of(names, *after):
    """Return a function that measures the import of these modules, after others."""
    return lambda: in_new_process(IMPORT, names, *after)


def rows():
    """Yield the rows of this theme."""
    yield Row(
        "import of the core (by hand: pluggy and importlib.metadata; ignite: after torch was imported)",
        {
            FLOOR: import_of("pluggy,importlib.metadata"),
            IGNITE: import_of("ignite.engine", "torch"),
            GLOWPLUG: import_of("glowplug"),
        },
        (Goal(80),),
        unit="ms",
        rounds=7,
    )
