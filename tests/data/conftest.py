import contextlib

import pytest

from tff_transfer.errors import UserError


@pytest.fixture
def refused():
    """Expects a `UserError` of one line that names all the given words."""

    @contextlib.contextmanager
    def expect(*words):
        with pytest.raises(UserError) as raised:
            yield
        message = str(raised.value)
        assert '\n' not in message
        for word in words:
            assert str(word) in message

    return expect
