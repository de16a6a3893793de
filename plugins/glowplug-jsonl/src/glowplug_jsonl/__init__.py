"""JSON Lines and CSV loggers for glowplug engines."""

from typing import TYPE_CHECKING

from glowplug.plugins import lazy_exports
from glowplug_jsonl._version import __version__ as __version__

if TYPE_CHECKING:
    from glowplug_jsonl.csv_table import CsvLogger
    from glowplug_jsonl.json_lines import JsonLinesLogger

__all__ = ["CsvLogger", "JsonLinesLogger"]

# Loading the plugin imports this package, so its modules are imported lazily.
__getattr__, __dir__ = lazy_exports(
    __name__,
    {"glowplug_jsonl.csv_table": ("CsvLogger",), "glowplug_jsonl.json_lines": ("JsonLinesLogger",)},
)
