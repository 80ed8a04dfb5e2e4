"""What runs inside of Redis: each script is one round trip and one atomic step.

Each has three keys, in one slot of a cluster. All times are the server's, in milliseconds since 1970.

=========  ==========  ============================================================================
index      sorted set  the keys of the live tombstones, by the time at which they end; and half a millisecond
                       more for those that say something: without their value they are nothing
values     hash        what those tombstones say that say something
log        stream      every change, as it was made: ``v``, the value; ``n``, the time; and then each key with its
                       end (0: taken back). Kept for as long as a reader may be away
=========  ==========  ============================================================================

There are two indexes, each with its values: that of the messages, and that of what is for all workers. They share the
log, where the beginning of a key tells which of them it is in.

A server that runs out of memory may evict any of the three by itself. What others have put in their place is removed,
since it would be in the way for ever; what they have put into them is left to the readers to ignore.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from ..._protocol.request import MAX_TIME

__all__ = ["GET_REPLIES", "LATEST", "LOOK_UP", "PAGE", "PUT_REPLIES", "REVOKE", "SIGNAL", "WORKERS", "Script"]

#: No server's clock gets this far, in ms: an entry of the log with a later id is not ours.
LATEST: Final = 10**15


class Script:
    """A script, and the name by which the server keeps it."""

    def __init__(self, lua: str) -> None:
        self.lua: Final = lua
        self.sha: Final = hashlib.sha1(lua.encode(), usedforsecurity=False).hexdigest()


def _source(name: str) -> str:
    return (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


_TOMBSTONES: Final = _source("tombstones").replace("MAX_TTL", str(MAX_TIME)).replace("LATEST", str(LATEST))

SIGNAL: Final = Script(_TOMBSTONES + _source("signal"))
LOOK_UP: Final = Script(_TOMBSTONES + _source("look_up"))
REVOKE: Final = Script(_TOMBSTONES + _source("revoke"))
PAGE: Final = Script(_TOMBSTONES + _source("page"))

PUT_REPLIES: Final = Script(_source("put_replies"))
GET_REPLIES: Final = Script(_source("get_replies"))
WORKERS: Final = Script(_source("workers"))
