"""What every event backend holds, as tests: whoever writes one runs them, with pytest 7 or later.

::

    import pytest

    from dramatiq_abort.contract import BackendContract


    class TestMyBackend(BackendContract):
        @pytest.fixture
        def make_backend(self, tmp_path):
            return lambda: MyBackend(tmp_path / "events")
"""

import pytest

# Before they are imported, or their asserts would not say what they have seen.
pytest.register_assert_rewrite("dramatiq_abort._contract")

from ._contract import BackendContract  # noqa: E402

__all__ = ["BackendContract"]
