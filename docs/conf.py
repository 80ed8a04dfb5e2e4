"""Configure Sphinx: ``make docs`` builds the site from the installed package, without the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dramatiq_abort import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "dramatiq-abort"
author = "The dramatiq-abort authors"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

# Links to headings, as on GitHub: `[Limits](guarantees.md#limits)`.
myst_heading_anchors = 3
# Pictures with a width, which Markdown cannot express.
myst_enable_extensions = ["html_image"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
pygments_dark_style = "a11y-high-contrast-dark"

autodoc_member_order = "bysource"
maximum_signature_line_length = 88
napoleon_use_rtype = False  # on one line with the description of the result

# Names in the reference that this site does not document. Links to the sites that do would need the network, which this
# build does not use.
nitpicky = True
nitpick_ignore = [
    # The standard library.
    ("py:class", "CompletedProcess"),
    ("py:class", "subprocess.CompletedProcess"),
    ("py:exc", "CalledProcessError"),
    ("py:exc", "TimeoutExpired"),
    ("py:class", "WSGIApplication"),
    # dramatiq.
    ("py:class", "Actor"),
    ("py:class", "Message"),
    # Names of types that are not classes, described where they are parameters.
    ("py:class", "AnyShield"),
    ("py:class", "By"),
    ("py:class", "Targets"),
    # The same, if the site is built with the pure-Python core, whose functions have annotations.
    ("py:class", "FrameType"),
    ("py:class", "_R"),
    ("py:class", "dramatiq_abort._core.shield.AnyShield"),
]


def keep_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001, PLR0917
    """Keep napoleon from reading the text before the first colon of an attribute's docstring as its type."""
    if what in {"attribute", "property"}:
        lines[:0] = ["..", ""]  # an empty comment without a colon


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
