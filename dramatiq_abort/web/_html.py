"""Markup that cannot be forgotten to be escaped: a text is escaped unless its type says that it is markup."""

from __future__ import annotations

from html import escape
from typing import Final

__all__ = ["Html", "tag"]

#: The elements that have no end.
_VOID: Final = {"input", "link", "meta"}


class Html(str):
    """What is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | bool) -> Html:
    """Return an element with these in it.

    Parameters:
      name: Its name.
      *children: Markup, which is taken as it is, and texts, which are escaped.
      **attributes: ``class_`` is ``class``, and other underscores are hyphens. True: without a value; False: left out.
    """
    said = ""
    for key, value in attributes.items():
        if value is not False:
            said += f" {key.rstrip('_').replace('_', '-')}"
            said += "" if value is True else f'="{_escaped(value)}"'
    inside = "".join(child if isinstance(child, Html) else _escaped(child) for child in children)
    return Html(f"<{name}{said}>" if name in _VOID else f"<{name}{said}>{inside}</{name}>")


def _escaped(text: str) -> str:
    """Write a text so that all of it is seen.

    What cannot be seen is written out: control characters, those that turn the direction of what follows, and halves
    of characters, which UTF-8 cannot have.
    """
    return escape("".join(char if char.isprintable() else ascii(char)[1:-1] for char in text))
