"""Run pytest under gevent's monkey patching: ``python tests/under_gevent.py [ARGUMENTS OF PYTEST]``.

Worker threads and all other threads of the tests are then greenlets: the fixture ``core`` is the scope for
greenlets, and tests that need real threads are skipped (``needs_threads`` in support.py).
"""

# ruff: noqa: E402 - patching comes first
from gevent import monkey

monkey.patch_all()

import sys

import gevent
import pytest


class Patience:
    """Ends a test that waits too long, where it waits.

    pytest-timeout cannot: its signal is handled in gevent's hub, which continues, and its timer ends the process.
    """

    def pytest_timeout_set_timer(self, item, settings):
        failure = pytest.fail.Exception(f"Timeout (>{settings.timeout}s) under gevent")
        self.timer = gevent.Timeout.start_new(settings.timeout, failure)
        return True

    def pytest_timeout_cancel_timer(self, item):
        self.timer.close()
        return True


#: gevent's timers cannot fire in a test that computes and never waits: a thread in C ends it.
WATCHDOG = ["-o", "faulthandler_timeout=300", "-o", "faulthandler_exit_on_timeout=true"]

if __name__ == "__main__":
    sys.exit(pytest.main([*WATCHDOG, "-m", "not unpatched", *sys.argv[1:]], plugins=[Patience()]))
