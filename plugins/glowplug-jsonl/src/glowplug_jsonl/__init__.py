"""JSON Lines logger for glowplug engines."""

from acme_glowplug_jsonl.logger import JsonLinesLogger

__all__ = ["JsonLinesLogger"]
