"""Settings of the documentation site. To build it, run ``tox run -e docs``."""

import sys
from pathlib import Path

from glowplug import __version__

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "glowplug"
project_copyright = "the glowplug developers"
release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "api_pages",
    "generated_pages",
    "repository_links",
]
exclude_patterns = ["_build", "README.md", "examples/README.md"]

html_theme = "furo"
html_title = "glowplug"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).parent / "search_scorer.js")
html_copy_source = False

# Anchors of headings as GitHub makes them, so that a link works in the repository and on the site.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"

napoleon_use_ivar = True

nitpicky = True
nitpick_ignore_regex = [
    # Other libraries, whose inventories the build would have to download.
    (r"py:.*", r"(?!glowplug)\w+(\.\w+)+"),
    # Types in annotations: names that modules import for type checkers only, and types that are not exported.
    (r"py:(class|obj)", r"\w+"),
    (r"py:(class|obj)", r"glowplug.*\._\w+.*|glowplug_\w+\.\w+\.\w+|glowplug\.stash\.[TD]"),
]
