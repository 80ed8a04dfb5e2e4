"""The classes for writing an event backend: subclass ``EventBackend``."""

from ._protocol.event import BROADCAST_PREFIX, MAX_EVENTS, Event
from ._protocol.reply import MAX_REPLIES, MAX_REPLY, Reply
from .backends.base import EventBackend
from .backends.replies import ReplyStore

__all__ = ["BROADCAST_PREFIX", "MAX_EVENTS", "MAX_REPLIES", "MAX_REPLY", "Event", "EventBackend", "Reply", "ReplyStore"]
