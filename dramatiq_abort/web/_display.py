"""What the templates have besides the data: filters, the style and the script, and the policy for those two.

The style and the script are part of the page, and the policy has their hashes. Served as files, they would need the
policy ``'self'``, which allows every script of the site that the page is mounted in.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from jinja2 import StrictUndefined
from markupsafe import Markup

from .._protocol.request import printable
from ._view import is_message_id

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["add_display", "moment", "span"]

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def add_display(app: Flask) -> str:
    """Add it to an application, and return the content security policy."""
    files = {}
    for name in ("style.css", "script.js"):
        with app.open_resource(f"static/{name}", "r", encoding="utf-8") as file:
            files[name] = file.read()
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.finalize = _visible
    app.jinja_env.trim_blocks = True
    app.jinja_env.filters |= {"moment": moment, "span": span}
    app.jinja_env.tests["message_id"] = is_message_id
    app.jinja_env.globals |= {"style": files["style.css"], "script": files["script.js"]}
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {_hash(files['style.css'])}",
            f"script-src {_hash(files['script.js'])}",
            "img-src data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


def moment(milliseconds: int) -> datetime | None:
    """Return a time since 1970 in UTC, or None if no calendar has it."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None


def span(milliseconds: float) -> str:
    """Return a duration in its two largest units."""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    left = int(milliseconds // 1000)
    parts = []
    for seconds, unit in _UNITS:
        count, left = divmod(left, seconds)
        if count:
            parts.append(f"{count} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def _visible(value: Any) -> Any:
    """Write out what cannot be seen in a text, such as control characters; Jinja then escapes the rest."""
    return value if isinstance(value, Markup) else printable(str(value))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
