"""The tests for event backends, and the class that combines them."""

from ._aborts import Aborts
from ._broadcasts import Broadcasts
from ._receipts import Receipts
from ._refusals import Refusals
from ._reply_stores import ReplyStores
from ._revocations import Revocations
from ._signals import Signals
from ._threads import Threads
from ._values import Values
from ._waits import Waits

__all__ = ["BackendContract"]


# pytest runs the tests of the last base class first, so that basic features are tested first.
class BackendContract(
    Aborts, Refusals, ReplyStores, Broadcasts, Revocations, Values, Threads, Receipts, Waits, Signals
):
    """The tests for an event backend. Subclass it in a test module.

    The subclass or its module needs a fixture ``make_backend``: a function without parameters that returns a backend.
    Each call returns a new object, except for a backend confined to one object, for which it returns the same one. All
    backends of one test carry their events to each other, and have nothing in common with those of another test.

    An optional feature is tested if the class overrides ``wake``, ``read``, ``signal`` and ``read``, ``age``, or
    ``revoke``, and if it has ``receives_all``, ``supports_broadcast`` or a ``reply_store``. Otherwise its tests are
    skipped, and another test checks that calls that need the feature are refused.
    """
