"""Plugin hooks of this distribution; imports only the hook specifications."""

from glowplug.hookspecs import Offer, hookimpl

GLOWPLUG_API = 1


@hookimpl
def glowplug_offers() -> list[Offer]:
    """Return the names that this distribution offers."""
    return [
        Offer(
            "JsonLinesLogger",
            "glowplug_jsonl.json_lines:JsonLinesLogger",
            kind="logger",
            summary="Writes all records to a JSON Lines file, with images and artifacts beside it.",
        ),
        Offer(
            "CsvLogger",
            "glowplug_jsonl.csv_table:CsvLogger",
            kind="logger",
            summary="Writes scalars to a CSV file, one row for each number.",
        ),
    ]
