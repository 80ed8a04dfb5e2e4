"""The result of ``Scope.interrupt()``, the same for every kind of scope."""

import enum

__all__ = ["InterruptResult"]


class InterruptResult(enum.Enum):
    """What became of one call of ``Scope.interrupt()``."""

    RAISED = "raised"
    """The exception has been raised in the scope, or is pending in its thread."""

    DEFERRED = "deferred"
    """The exception will be raised when the shield ends, or as soon as the scope opens."""

    ARMED = "armed"
    """The scope's thread is at no safe point: the exception will be raised at the next one. Ask again after a while."""

    PROTECTED = "protected"
    """The scope's thread is at no safe point, and cannot be followed: nothing was done. Try again."""

    SLOT_BUSY = "slot busy"
    """Another exception is pending in this thread: nothing was done. Try again."""

    CLOSED = "closed"
    """The scope is closed: nothing was done, and trying again is of no use."""

    UNSUPPORTED = "unsupported"
    """This interpreter cannot raise an exception in another thread: nothing was done."""
