"""The connection of this process to a Ray cluster."""

import contextlib
import importlib.util
import os
import socket
import warnings
from collections.abc import Iterator

from tff_transfer.errors import UserError, one_line

_LOOPBACK = ('127.0.0.1', 'localhost')
# Seconds in which the head must take a connection.
_ANSWERS_WITHIN = 10


def check_installed() -> None:
    """Checks that Ray is there, and has it tell nobody that it is used.

    Raises:
      UserError: It is not.
    """
    if importlib.util.find_spec('ray') is None:
        raise UserError(
            'a cluster needs Ray, which is not installed: pip install ray==2.52.1'
        )
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')


def connect(address: str) -> bool:
    """Connects to a cluster, if this process is not connected to it already.

    Args:
      address: The head's, `'host:port'`.

    Returns:
      Whether it was not.

    Raises:
      UserError: Ray is not installed, nothing answers there, or Ray refuses.
    """
    check_installed()
    import ray

    host, port = _parts(address)
    if ray.is_initialized():
        now = ray.get_runtime_context().gcs_address
        if _parts(now) != (host, port):
            raise UserError(
                f'this process is connected to the cluster at {now}, not to {address}:'
                ' call ray.shutdown() first'
            )
        return False
    try:
        socket.create_connection((host, port), _ANSWERS_WITHIN).close()
    except OSError as error:
        raise UserError(
            f'no Ray cluster answers at {address} ({one_line(error)}): start a head'
            ' there (docs/cluster.md), or give its --node-ip-address and --port'
        ) from error
    try:
        with _on_loopback(host), warnings.catch_warnings():
            # Of what Ray will do with GPUs in future versions.
            warnings.simplefilter('ignore', FutureWarning)
            ray.init(f'{host}:{port}', logging_level='ERROR', log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise UserError(
            f'the Ray cluster at {address} refused: {one_line(error)}'
        ) from error
    return True


def disconnect() -> None:
    """Ends the connection; actors that this process started end with it."""
    import ray

    ray.shutdown()


def _parts(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(':')
    if not host or not port.isdigit():
        raise UserError(
            f'the address of the cluster is {address!r}, but must be HOST:PORT, those'
            ' of its head'
        )
    return ('127.0.0.1' if host in _LOOPBACK else host), int(port)


@contextlib.contextmanager
def _on_loopback(host: str) -> Iterator[None]:
    """Has Ray take a loopback address as it stands.

    It would ask the head at this machine's outward address instead, where a head that
    listens on loopback alone does not answer.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    if host in _LOOPBACK:
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
