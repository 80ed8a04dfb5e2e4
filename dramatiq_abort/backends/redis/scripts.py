"""The scripts run by Redis: each is one round trip and one atomic step.

A script about tombstones has three keys, in one slot of a cluster. All times are on the server's clock, in milliseconds
since 1970.

=========  ==========  ============================================================================
index      sorted set  the keys of the live tombstones, scored by their end. Half a millisecond is added to the
                       end of those with a value, because they are void if their value is missing
values     hash        the values of the tombstones that have one
log        stream      every change, in order: ``v``, the value; ``n``, the time; then each key with its end
                       (0: revoked). Entries are kept for as long as a reader may be disconnected
=========  ==========  ============================================================================

Messages and broadcasts each have their own index and values. They share the log, in which the prefix of a key tells
them apart.

A server that runs out of memory may evict any of these keys on its own. Data of another type under one of these keys is
deleted, because it would block the backend permanently. Malformed entries inside them are left for the readers to
ignore.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from ..._protocol.request import MAX_TIME

__all__ = ["GET_REPLIES", "LATEST", "LOOK_UP", "PAGE", "PUT_REPLIES", "REVOKE", "SIGNAL", "WORKERS", "Script"]

#: Latest plausible time of a server's clock, in ms. A log entry with a later id is not from this package.
LATEST: Final = 10**15


class Script:
    """A script, and the SHA-1 digest by which the server caches it."""

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
