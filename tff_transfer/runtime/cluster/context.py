"""The cluster as TFF's default runtime."""

from tff_transfer.runtime import keys, sessions
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.cluster import connection
from tff_transfer.runtime.compiled import Compiled, CompiledContext
from tff_transfer.runtime.installed import Installed


class _Cluster:
    """The actors of this process on a cluster; whoever uses it shares them."""

    def __init__(self, address: str):
        """Connects, and starts them."""
        self._connected = connection.connect(address)
        # They import Ray, which need not be there for anything else.
        from tff_transfer.runtime.cluster.actor import Actor
        from tff_transfer.runtime.cluster.executor import Actors
        from tff_transfer.runtime.cluster.workers import Workers

        self._address, self.users = address, 0
        self._workers = Workers(Actor, sessions.operation_threads())
        self.actors = Actors(self._workers)
        try:
            self._workers.start()
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Ends the actors if nobody else uses them."""
        self.users -= 1
        if not self.users:
            del _open[self._address]
            self._end()

    def _end(self) -> None:
        self._workers.close()
        if self._connected:
            connection.disconnect()


_open: dict[str, _Cluster] = {}


def _opened(address: str) -> _Cluster:
    if address not in _open:
        _open[address] = _Cluster(address)
    _open[address].users += 1
    return _open[address]


def use_cluster(
    address: str,
    *,
    block_bytes: int = 2**29,
    compute_dtype: str | None = None,
    seed: int | None = None,
    lockstep: bool | None = None,
) -> Installed:
    """Makes a Ray cluster the default runtime.

    What the server does is computed in this process, what clients do on the cluster's
    nodes. Results are those of `use_compiled` with the same settings on this machine,
    to the last bit, if its processors and theirs are of one kind.

    Args:
      address: The address of the cluster's head, `'host:port'`.
      block_bytes: As of `use_compiled`: an actor holds about so much of client data
        for each of its processors.
      compute_dtype: As of `use_compiled`.
      seed: As of `use_compiled`.
      lockstep: As of `use_compiled`.

    Returns:
      What ends the actors and brings the previous default back, if it is used in a
      `with` statement.

    Raises:
      UserError: A setting is out of its range, Ray is not installed, there is no such
        cluster, or one of its nodes would give other results.
    """
    keys.check_seed(seed)
    settings = Settings(
        1, block_bytes, (), False, compute_dtype, seed is not None, lockstep
    )
    cluster = _opened(address)
    compiled = Compiled(settings, cluster.actors)
    return Installed(CompiledContext(compiled, seed), cluster.close)
