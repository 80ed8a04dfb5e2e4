"""The tests of the contract, and the class that has them all."""

from ._aborts import Aborts
from ._announcements import Announcements
from ._boards import Boards
from ._receipts import Receipts
from ._refusals import Refusals
from ._revocations import Revocations
from ._signals import Signals
from ._threads import Threads
from ._values import Values
from ._waits import Waits

__all__ = ["BackendContract"]


# The last one's tests are run first: what is plain comes before what is made of it.
class BackendContract(Aborts, Refusals, Boards, Announcements, Revocations, Values, Threads, Receipts, Waits, Signals):
    """The tests of an event backend, for a test class of its own.

    A subclass has a fixture ``make_backend``, or its module has one: a function without parameters that returns a
    backend. Those of one test carry their events to each other, and have heard of nothing that another test does. Each
    call makes a new one; only a backend that goes no further than one object returns the same.

    What a backend may do besides is asked of it when its class overrides ``wake``, ``read``, ``signal`` and ``read``,
    ``age``, or ``revoke``, and when it has ``hears_all``, ``tells_all`` or a ``board``. The rest is skipped; and that
    it is refused when somebody asks for it is a test, too.
    """
