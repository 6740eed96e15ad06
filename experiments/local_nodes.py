"""A Ray cluster on this machine's loopback, for demonstrations, tests and benchmarks.

It has neither encryption nor a token, and nothing outside this machine reaches it.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import tempfile
from collections.abc import Iterator

from tff_transfer.cluster import environment
from tff_transfer.runtime.cluster import connection

_SETTINGS = {
    # Ray gives its workers less of a processor than others get who want it too.
    'worker_niceness': 0,
    # A node that is killed is missed after about half a second, not after fifteen.
    'health_check_initial_delay_ms': 500,
    'health_check_period_ms': 200,
    'health_check_timeout_ms': 1000,
    'health_check_failure_threshold': 2,
}


class Nodes:
    """A head without processors, to which this process is connected, and nodes.

    Attributes:
      address: The head's.
      nodes: Those that are alive, as `ray.cluster_utils` has them.
    """

    def __init__(self, folder: pathlib.Path, store_bytes: int):
        """Starts the head.

        Args:
          folder: A folder for logs and sockets, of a short path.
          store_bytes: What the object store of each node holds.

        Raises:
          UserError: Ray is not installed.
        """
        environment.require_ray()
        os.environ.update(environment.variables(environment.LOOPBACK, None))
        from ray import cluster_utils
        from ray._common import utils

        # Ray writes the cluster's address there, and it need not be there.
        os.makedirs(utils.get_ray_temp_dir(), exist_ok=True)
        self._store_bytes = store_bytes
        self._cluster = cluster_utils.Cluster(
            initialize_head=True,
            head_node_args={
                'node_ip_address': environment.LOOPBACK,
                'object_store_memory': store_bytes,
                'num_cpus': 0,
                'include_dashboard': False,
                'temp_dir': str(folder),
                '_system_config': environment.SETTINGS | _SETTINGS,
            },
        )
        self.address = self._cluster.address
        self.nodes = []
        # While there is no other node, so that it is the head's that serves this
        # process, and no node that is killed.
        connection.connect(self.address)

    def add(self, processors: int = 1):
        """Adds a node, and returns it."""
        node = self._cluster.add_node(
            node_ip_address=environment.LOOPBACK,
            object_store_memory=self._store_bytes,
            num_cpus=processors,
        )
        self.nodes.append(node)
        return node

    def kill(self, node) -> None:
        """Kills a node; its workers end when they notice."""
        os.kill(node.all_processes['raylet'][0].process.pid, signal.SIGKILL)
        self.nodes.remove(node)

    def close(self) -> None:
        """Ends all of it."""
        connection.disconnect()
        self._cluster.shutdown()


@contextlib.contextmanager
def opened(nodes: int, *, store_bytes: int = 200 * 2**20) -> Iterator[Nodes]:
    """Gives a cluster of so many nodes of one processor, which ends with the block."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix='ray', dir='/tmp'))
    try:
        with contextlib.closing(Nodes(folder, store_bytes)) as found:
            for _ in range(nodes):
                found.add()
            yield found
    finally:
        shutil.rmtree(folder, ignore_errors=True)
