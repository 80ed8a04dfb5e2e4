"""Pytest under gevent's monkey patching: ``python tests/under_gevent.py [ARGS]``, with pytest's own arguments."""

# ruff: noqa: E402 - patching comes first
from gevent import monkey

monkey.patch_all()

import sys

import pytest

sys.exit(pytest.main(sys.argv[1:]))
