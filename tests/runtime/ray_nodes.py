"""A Ray cluster on loopback, whose nodes tests add and kill."""

import os
import shutil
import signal
import tempfile
import time

import pytest

from tff_transfer.runtime.cluster import connection

MIB = 2**20


class Nodes:
    """A head without processors, to which this process is connected, and nodes."""

    def __init__(self):
        pytest.importorskip('ray', reason='Ray is not installed')
        os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
        from ray import cluster_utils

        # Ray's sockets lie in it, so its path must be short.
        self.folder = tempfile.mkdtemp(prefix='ray', dir='/tmp')
        self._store = {
            'node_ip_address': '127.0.0.1',
            'object_store_memory': 200 * MIB,
        }
        self._cluster = cluster_utils.Cluster(
            initialize_head=True,
            head_node_args={
                **self._store,
                'num_cpus': 0,
                'include_dashboard': False,
                'temp_dir': self.folder,
                # A node that is killed is missed after half a second, not fifteen.
                '_system_config': {
                    'health_check_initial_delay_ms': 500,
                    'health_check_period_ms': 200,
                    'health_check_timeout_ms': 1000,
                    'health_check_failure_threshold': 2,
                },
            },
        )
        self.address = self._cluster.address
        # While there is no other node, so that it is the head's that serves this
        # process, and no node that is killed.
        connection.connect(self.address)
        self.nodes = []

    def add(self, **options):
        """Adds a node, with one processor if nothing else is said."""
        node = self._cluster.add_node(**{**self._store, 'num_cpus': 1, **options})
        self.nodes.append(node)
        return node

    def kill(self, node):
        """Kills a node's raylet; its workers end when they notice."""
        os.kill(node.all_processes['raylet'][0].process.pid, signal.SIGKILL)
        self.nodes.remove(node)

    def close(self):
        """Ends all of it."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)


def ends(pid, seconds=20):
    """Returns whether a process ends within some seconds."""
    for _ in range(seconds * 20):
        try:
            with open(f'/proc/{pid}/stat') as file:
                if file.read().rpartition(')')[2].split()[0] == 'Z':
                    return True
        except OSError:
            return True
        time.sleep(0.05)
    return False
