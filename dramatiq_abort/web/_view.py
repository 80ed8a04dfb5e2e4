"""What the address of the page says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from .._protocol.request import key_of

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

__all__ = ["NOTICES", "View", "is_message_id"]

#: How many aborts are followed at once, and the length of their part of the address: every server accepts 4,094.
_MAX_FOLLOWED: Final = 10
_MAX_QUERY: Final = 2_000

#: What is shown once, after a form was sent. The address has only the key, so that a link cannot show other words.
NOTICES: Final = {
    "asked": "",  # the outcome is shown
    "restored": "Restored: the abort no longer applies.",
    "late": "There was nothing to restore: the abort has taken effect, has expired, or was restored already.",
}


@dataclass(frozen=True)
class View:
    """The state of the page. Only the address has it, so any process can serve any request.

    Parameters:
      asked: The messages whose aborts are followed, the latest first.
      paused: Whether the page stays as it is.
      said: The key of a notice that is shown once.
    """

    asked: tuple[str, ...] = ()
    paused: bool = False
    said: str | None = None

    @classmethod
    def of(cls, fields: MultiDict[str, str]) -> View:
        """Read the query of an address, and ignore what is not valid."""
        said = fields.get("said", "")
        asked = tuple(dict.fromkeys(filter(is_message_id, fields.getlist("asked"))))
        return cls(asked[:_MAX_FOLLOWED], "paused" in fields, said if said in NOTICES else None)

    def follow(self, message_id: str) -> View:
        """Add the latest abort, and drop the oldest ones if there is no room."""
        asked = [message_id, *(each for each in self.asked if each != message_id)][:_MAX_FOLLOWED]
        while len(asked) > 1 and len(urlencode({"asked": asked}, doseq=True)) > _MAX_QUERY:
            asked.pop()
        return replace(self, asked=tuple(asked), said="asked")

    def query(self) -> str:
        """Return the query of its address."""
        fields = [("asked", each) for each in self.asked]
        fields += [("paused", "1")] if self.paused else []
        fields += [("said", self.said)] if self.said else []
        return f"?{urlencode(fields)}" if fields else ""


def is_message_id(name: str) -> bool:
    """Say whether a message can have this id, so that its abort can be requested."""
    try:
        key_of(name)
    except ValueError:
        return False
    return True
