"""Features of a frozen backbone: extracted once, cached on disk, standardised."""

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from tff_transfer import files, progress, totals
from tff_transfer.backbones import Backbone
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

_FORMAT = 'features 1'
_CHECKSUM_BYTES = hashlib.sha256().digest_size

# Two batches at a time hide the parts of each that one core does alone.
_BATCHES_AT_ONCE = 2


def extract(
    backbone: Backbone,
    data: FederatedData,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    batch_size: int = 64,
) -> np.ndarray:
    """Returns the features of all examples, from the cache or computed once.

    The cache is one `.npy` file for each pair of backbone (weights, operations and
    preprocessing) and images, with a SHA-256 of the features after its end. Another
    process that wants the same features waits for the first one. Work that is
    interrupted leaves no file and starts again.

    Args:
      backbone: Maps images to features.
      data: The population, with images as `x`.
      cache_dir: The folder of all caches; `files.cache_dir()` if not given.
      batch_size: Images of one call of the backbone.

    Returns:
      float32 [n, feature_size], memory-mapped, read-only.

    Raises:
      UserError: The data hold no images, features are not finite, or the cache
        cannot be written.
    """
    if data.x.ndim != 4:
        raise UserError(
            f'{data.name}: inputs of shape {data.x.shape} are no images, of which'
            f' the backbone {backbone.name} takes features; train without a backbone'
        )
    shape = (len(data.x), backbone.feature_size)
    key = f'{_FORMAT} {backbone.fingerprint} {data.fingerprint}'
    folder = pathlib.Path(cache_dir or files.cache_dir()) / 'features'
    path = folder / f'{hashlib.sha256(key.encode()).hexdigest()}.npy'
    found = _read(path, shape)
    if found is not None:
        return found
    try:
        with _only_process(path):
            found = _read(path, shape)  # Another process may have made it meanwhile.
            if found is None:
                _write(path, shape, _batches(backbone, data, batch_size))
                found = np.lib.format.open_memmap(path, mode='r')
    except OSError as error:
        raise UserError(
            f'the features ({_megabytes(shape):.0f} MB) cannot be written to the cache'
            f' {folder} ({error.strerror or error}); name a folder with more room or'
            ' with the right to write in TFF_TRANSFER_CACHE_DIR'
        ) from error
    return found


def _megabytes(shape: tuple[int, int]) -> float:
    return 4 * shape[0] * shape[1] / 1e6


def _batches(
    backbone: Backbone, data: FederatedData, batch_size: int
) -> Iterator[np.ndarray]:
    def features(start: int) -> np.ndarray:
        batch = backbone(data.x[start : start + batch_size]).numpy()
        if not np.isfinite(batch).all():
            raise UserError(
                f'{data.name}: the backbone {backbone.name} gives features that are not'
                f' finite for images {start} to {start + len(batch) - 1}; check the'
                ' images and the weights'
            )
        return batch

    with (
        concurrent.futures.ThreadPoolExecutor(_BATCHES_AT_ONCE) as pool,
        progress.bar(total=len(data.x), desc='features', unit=' images') as bar,
    ):
        for batch in pool.map(features, range(0, len(data.x), batch_size)):
            yield batch
            bar.update(len(batch))


def _write(
    path: pathlib.Path, shape: tuple[int, int], batches: Iterator[np.ndarray]
) -> None:
    if shutil.disk_usage(path.parent).free < 4 * shape[0] * shape[1]:
        raise OSError('the disk is too full')
    for left_by_killed in path.parent.glob(f'.{path.name}-*'):
        shutil.rmtree(left_by_killed, ignore_errors=True)
    # Not a memory map, which a full disk would end with a signal.
    with (
        contextlib.closing(batches),
        files.replacing(path) as new,
        open(new, 'wb') as file,
    ):
        digest = hashlib.sha256()
        np.lib.format.write_array_header_1_0(
            file, {'descr': '<f4', 'fortran_order': False, 'shape': shape}
        )
        for batch in batches:
            file.write(batch.data)
            digest.update(batch.data)
        file.write(digest.digest())


def _read(path: pathlib.Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Returns the features of a whole and unchanged file, else None."""
    if not path.exists():
        return None
    try:
        features = np.lib.format.open_memmap(path, mode='r')
        with open(path, 'rb') as file:
            file.seek(-_CHECKSUM_BYTES, os.SEEK_END)
            checksum = file.read()
    except (OSError, ValueError) as error:
        logging.warning('The features in %s are broken: %s', path, error)
        return None
    if (
        features.shape != shape
        or features.dtype != np.float32
        or hashlib.sha256(features.data).digest() != checksum
    ):
        logging.warning('The features in %s are broken', path)
        return None
    return features


@contextlib.contextmanager
def _only_process(path: pathlib.Path) -> Iterator[None]:
    """Lets one process at a time into the block; the system frees a killed one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix('.lock'), 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.warning('Waiting for another process that extracts these features')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclasses.dataclass(frozen=True, eq=False)
class Standardisation:
    """Shifts and scales features to mean 0 and deviation 1.

    Attributes:
      mean: float32 [size].
      deviation: Standard deviations, float32 [size]; 1 where a feature is constant.
    """

    mean: np.ndarray
    deviation: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns features [..., size] standardised, float32."""
        return (features - self.mean) / self.deviation


def standardisation(data: FederatedData, clients: Sequence[int]) -> Standardisation:
    """Computes means and deviations over the clients' training examples.

    A federated computation on the current runtime: each client sends the count, the
    sum and the sum of squares of its features, and the server sees sums alone.

    Args:
      data: The population, with features [n, size] as `x`.
      clients: The numbers of the clients that take part.

    Returns:
      The standardisation, with the deviations of the population (division by the
      count).

    Raises:
      UserError: The clients have no training examples.
    """
    if not data.num_train[np.asarray(clients, np.int64)].sum():
        raise UserError(
            f'{data.name}: none of {len(clients)} clients has training examples to'
            ' standardise features with; change the split'
        )
    found = totals.over_clients(data, clients, _moments)
    count = found['count']
    mean = found['sum'] / count
    second_moment = found['sum_of_squares'] / count
    variance = second_moment - mean**2
    # What is left of a constant feature's variance is rounding.
    constant = variance <= 1e-12 * second_moment
    deviation = np.sqrt(np.where(constant, 1, variance))
    return Standardisation(mean.astype(np.float32), deviation.astype(np.float32))


def _moments(x: tf.Tensor, y: tf.Tensor, num_classes: int) -> dict[str, tf.Tensor]:
    del y, num_classes
    x = tf.cast(x, tf.float64)
    return {
        'count': tf.cast(tf.shape(x)[0], tf.float64),
        'sum': tf.reduce_sum(x, 0),
        'sum_of_squares': tf.reduce_sum(x * x, 0),
    }
