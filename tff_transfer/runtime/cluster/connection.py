"""The connection of this process to a Ray cluster."""

import contextlib
import warnings
from collections.abc import Iterator

from tff_transfer.cluster import environment, reaching
from tff_transfer.errors import UserError, one_line


def connect(address: str) -> bool:
    """Connects to a cluster, if this process is not connected to it already.

    Args:
      address: The head's, `'host:port'`. Beyond loopback the environment says where
        this host's certificate is (`reaching.enter`).

    Returns:
      Whether it was not.

    Raises:
      UserError: Ray is not installed, no head answers there that takes this host's
        certificate, or Ray refuses.
    """
    environment.require_ray()
    host, port = _parts(address)
    # Ray reads the variables that this sets when it is imported.
    reaching.enter(f'{host}:{port}')
    import ray

    if ray.is_initialized():
        now = ray.get_runtime_context().gcs_address
        if _parts(now) != (host, port):
            raise UserError(
                f'this process is connected to the cluster at {now}, not to {address}:'
                ' call ray.shutdown() first'
            )
        return False
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
    host, port = reaching.split(address)
    return (environment.LOOPBACK if host == 'localhost' else host), port


@contextlib.contextmanager
def _on_loopback(host: str) -> Iterator[None]:
    """Has Ray take a loopback address as it stands.

    It would ask the head at this machine's outward address instead, where a head that
    listens on loopback alone does not answer.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    if host == environment.LOOPBACK:
        ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
