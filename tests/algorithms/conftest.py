"""What tests of methods share, a module at a time."""

import pytest
import test_methods


@pytest.fixture(scope='module', autouse=True)
def processes():
    """Lets go of the processes that a module's tests shared: they take much memory."""
    yield
    test_methods.COMPOSED.clear()
