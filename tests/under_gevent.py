"""pytest under gevent's monkey patching: ``python tests/under_gevent.py [ARGUMENTS OF PYTEST]``.

Worker threads are greenlets then, and so is every other thread of the tests: the fixture ``core`` is the scope for
greenlets, and what only real threads have is skipped (``needs_threads`` in support.py).
"""

# ruff: noqa: E402 - patching comes first
from gevent import monkey

monkey.patch_all()

import sys

import gevent
import pytest


class Patience:
    """Ends a test that waits for too long where it waits.

    pytest-timeout's own ways would not: its signal is handled in gevent's hub, which goes on, and its timer ends all.
    """

    def pytest_timeout_set_timer(self, item, settings):
        failure = pytest.fail.Exception(f"Timeout (>{settings.timeout}s) under gevent")
        self.timer = gevent.Timeout.start_new(settings.timeout, failure)
        return True

    def pytest_timeout_cancel_timer(self, item):
        self.timer.close()
        return True


#: A test that computes and never waits lets no timer of gevent's come up: that one a thread in C has to end.
WATCHDOG = ["-o", "faulthandler_timeout=300", "-o", "faulthandler_exit_on_timeout=true"]

if __name__ == "__main__":
    sys.exit(pytest.main([*WATCHDOG, "-m", "not unpatched", *sys.argv[1:]], plugins=[Patience()]))
