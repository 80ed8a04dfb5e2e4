"""How the documentation site is built: ``make docs``, from the installed package and without the network."""

from __future__ import annotations

from dramatiq_abort import __version__

project = "dramatiq-abort"
author = "The dramatiq-abort authors"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Links to headings, as GitHub has them: `[Limits](guarantees.md#limits)`.
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = html_show_sourcelink = False

autodoc_member_order = "bysource"
