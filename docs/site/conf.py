"""Sphinx's settings of the site: pages stay where the checkout has them, and their folders are its navigation.

`make docs` runs `sphinx-build -W -c docs/site . site`: a link or an anchor that leads nowhere is a warning, which ends the build.
"""

import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the package whose docstrings are read is that of the pages

from ultrarefiner_monai import __version__  # noqa: E402

project = "ultrarefiner_monai"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

root_doc = "docs/README"
include_patterns = ["*.md", "docs/**/*.md", "docs/*.md", "docs/tutorials/*.ipynb", "bundles/*/docs/*.md"]
PAGED = ("bundles", "docs")  # data, environments and runs are never walked
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in PAGED]
exclude_patterns += ["bundles/*/models*", "bundles/*/runs"]

NAVIGATION = {  # caption -> pages, from docs/
    "Tutorials": ["tutorials/quickstart", "tutorials/*"],
    "How to": ["how-to/*", "faq", "troubleshooting"],
    "Reference": ["reference/*", "glossary"],
    "Explanation": ["concepts", "concepts/*", "explanation/*"],
    "Results": ["results/*"],
    "Project": ["/README", "/CHANGELOG", "/CONTRIBUTING", "/bundles/*/docs/README"],
}

myst_heading_anchors = 6  # GitHub's, of headings of every level
nb_execution_mode = "off"  # a test executes the notebook; the site shows it as it is committed
default_role = "literal"  # docstrings have code in single backticks
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"

html_theme = "furo"  # its fonts and scripts lie within the site
html_title = f"ultrarefiner {version}"
html_additional_pages = {"index": "index.html"}
templates_path = ["."]
html_show_copyright = False
html_copy_source = False
html_show_search_summary = False  # fetched from pages, which browsers refuse for files
html_show_sphinx = False


def add_navigation(app: Sphinx, page: str, source: list[str]) -> None:
    """Append the tables of contents of all folders to the first page, which a reader of the checkout does without."""
    if page == root_doc:
        for caption, pages in NAVIGATION.items():
            source[0] += "\n".join(
                ["", "```{toctree}", f":caption: {caption}", ":glob:", ":hidden:", "", *pages, "```", ""]
            )


def skip_aliases(app: Sphinx, kind: str, name: str, found: object, skip: bool, options: object) -> bool | None:
    """Leave out what Python says of a named tuple's fields, "Alias for field number 0": their class explains them."""
    return True if (found.__doc__ or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("autodoc-skip-member", skip_aliases)
