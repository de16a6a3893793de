"""Writes the page of known plugins, docs/reference/plugin-index.md, from the catalogue of the core."""

from distributions import ROOT

from glowplug.plugins import CATALOGUE, PublishedPlugin

PAGE = ROOT / "docs" / "reference" / "plugin-index.md"

INTRODUCTION = """\
# Plugin index

<!-- Written by .ci/plugin_index.py from core/src/glowplug/plugins/catalogue.json. -->

This version of glowplug knows the following plugins. `glowplug plugins search WORD ...` searches them on the command line, without a network connection.

"""

ADDING = """
## Add a plugin

Open a pull request that adds your plugin to `core/src/glowplug/plugins/catalogue.json`, below the plugins of this project and in
alphabetical order, and run `python .ci/plugin_index.py`. An entry has the name of the distribution, a summary in one sentence, the
address of the plugin's page, and the names of its offers:

```json
{
  "distribution": "acme-glowplug-csv",
  "summary": "Writes the metrics of a run to a CSV file",
  "url": "https://example.org/acme-glowplug-csv",
  "offers": ["AcmeCsvLogger"]
}
```

A plugin is added if:

- it is published on the package index under a name that does not begin with `glowplug-`, with a licence that the Open Source
  Initiative has approved;
- `glowplug plugins check` finds no problem in it;
- its tests contain the contract for each kind of offer; see [testing-kit.md](testing-kit.md).

The list is part of the core, so a new entry appears in `glowplug plugins search` with the next version. An entry is not a
recommendation: maintainers check these three points once, and do not review later versions. A plugin that no longer works with the
current version of glowplug is removed.
"""


def page() -> str:
    """Return the page."""
    rows = "".join(map(row, CATALOGUE))
    return f"{INTRODUCTION}| distribution | what it does | offers |\n|---|---|---|\n{rows}{ADDING}"


def row(plugin: PublishedPlugin) -> str:
    """Return the row of a plugin."""
    offers = ", ".join(f"`{name}`" for name in sorted(plugin.offers, key=str.lower))
    return f"| [{plugin.distribution}]({plugin.url}) | {plugin.summary} | {offers} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
