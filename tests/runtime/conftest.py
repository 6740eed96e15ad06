"""What tests of the runtimes share."""

import pytest

from experiments import local_nodes


@pytest.fixture(scope='session')
def cluster():
    """A cluster with two nodes of one processor."""
    pytest.importorskip('ray', reason='Ray is not installed')
    with local_nodes.opened(2) as nodes:
        yield nodes
