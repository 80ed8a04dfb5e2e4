"""What ``Scope.interrupt()`` answers, the same for every kind of scope."""

import enum

__all__ = ["InterruptResult"]


class InterruptResult(enum.Enum):
    """What became of one call of ``Scope.interrupt()``."""

    RAISED = "raised"
    """The exception has been raised in the scope, or is on its way into it."""

    DEFERRED = "waiting"
    """The exception will be raised when the shield ends, or as soon as the scope opens."""

    ARMED = "armed"
    """The scope's thread is where nothing may be raised: it will be raised where it may. Ask again after a while."""

    PROTECTED = "protected"
    """The scope's thread is where nothing may be raised, and cannot be followed: nothing was done, try again."""

    SLOT_BUSY = "taken"
    """Somebody else's exception is on its way into this thread: nothing was done, try again."""

    CLOSED = "closed"
    """The scope is not open any more: nothing was done, and nothing can be done."""

    UNSUPPORTED = "unsupported"
    """This interpreter cannot raise an exception in another thread: nothing was done."""
