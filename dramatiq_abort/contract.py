"""A test suite for event backends, for pytest 7 or later.

Subclass ``BackendContract``, and add a fixture ``make_backend``.

::

    import pytest

    from dramatiq_abort.contract import BackendContract


    class TestMyBackend(BackendContract):
        @pytest.fixture
        def make_backend(self, tmp_path):
            return lambda: MyBackend(tmp_path / "events")
"""

import pytest

# Before the import, so that failing asserts show the compared values.
pytest.register_assert_rewrite("dramatiq_abort._contract")

from ._contract import BackendContract  # noqa: E402

__all__ = ["BackendContract"]
