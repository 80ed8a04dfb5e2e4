"""How the documentation site is built: ``make docs``, from the installed package and without the network."""

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

# Links to headings, as GitHub has them: `[Limits](guarantees.md#limits)`.
myst_heading_anchors = 3
# Pictures whose width is given, which Markdown cannot.
myst_enable_extensions = ["html_image"]

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
pygments_dark_style = "a11y-high-contrast-dark"

autodoc_member_order = "bysource"
maximum_signature_line_length = 88
napoleon_use_rtype = False  # in one line with what is returned

# What the reference names and does not have: to look it up at its own site would take the network, and this build does
# without.
nitpicky = True
nitpick_ignore = [
    # The standard library's.
    ("py:class", "CompletedProcess"),
    ("py:class", "subprocess.CompletedProcess"),
    ("py:exc", "CalledProcessError"),
    ("py:exc", "TimeoutExpired"),
    ("py:class", "WSGIApplication"),
    # dramatiq's.
    ("py:class", "Actor"),
    ("py:class", "Message"),
    # Names for types that are no classes, described where they are parameters.
    ("py:class", "AnyShield"),
    ("py:class", "By"),
    ("py:class", "Targets"),
    # The same where the site is built with the pure-Python core, whose functions have annotations.
    ("py:class", "FrameType"),
    ("py:class", "_R"),
    ("py:class", "dramatiq_abort._core.shield.AnyShield"),
]


def keep_colons(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:  # noqa: ARG001, PLR0917
    """Keep napoleon from taking what is in front of the first colon of an attribute's text for its type."""
    if what in {"attribute", "property"}:
        lines[:0] = ["..", ""]  # an empty comment, which has no colon


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # before napoleon
