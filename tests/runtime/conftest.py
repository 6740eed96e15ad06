"""What tests of the runtimes share."""

import pytest
import ray_nodes


@pytest.fixture(scope='session')
def cluster():
    """A cluster with two nodes of one processor."""
    nodes = ray_nodes.Nodes()
    try:
        nodes.add()
        nodes.add()
        yield nodes
    finally:
        nodes.close()
