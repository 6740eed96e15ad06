"""Features of a frozen backbone: extracted once, and cached on disk."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import memory, progress, randomness
from tff_transfer.backbones import Backbone
from tff_transfer.data.federated import FederatedData
from tff_transfer.data.replaced import Replaced
from tff_transfer.errors import UserError
from tff_transfer.features import cache, file_format

# Larger batches are no faster on a processor, but touch more memory for the first time.
_BATCH_SIZE = 32
# Two batches at a time hide the parts of each that one core does alone.
_BATCHES_AT_ONCE = 2

# Examples that are enough for the scale of features.
SAMPLE = 500


def extract(
    backbone: Backbone,
    data: FederatedData,
    *,
    pooled: bool = False,
    dtype: str = 'float32',
    cache_dir: str | os.PathLike[str] | None = None,
    batch_size: int = _BATCH_SIZE,
) -> np.ndarray | file_format.Compact | Replaced:
    """Returns the features of all examples, from the cache or computed once.

    The cache has one file for each pair of backbone (weights, operations and
    preprocessing) and images: see `cache.get_or_make`. Of images of which some are
    replaced (`Replaced`) there is one for those that are not, and one for the others.

    Args:
      backbone: Maps images to features.
      data: The population, with images as `x`.
      pooled: Whether of activations inside a network their mean over places is wanted.
      dtype: How they are kept: `'float32'`, `'float16'` or `'uint8'`.
      cache_dir: The folder of all caches; `files.cache_dir()` if not given.
      batch_size: Images of one call of the backbone.

    Returns:
      float32 [n, *feature_shape], pooled [n, feature_size], memory-mapped, read-only;
      of the other dtypes a `file_format.Compact`, which is indexed like it.

    Raises:
      UserError: The data hold no images, a batch of them does not fit in memory,
        features are not finite, or the cache cannot be written.
    """
    if data.x.ndim != 4:
        raise UserError(
            f'{data.name}: inputs of shape {data.x.shape} are no images, of which'
            f' the backbone {backbone.name} takes features; train without a backbone'
        )
    if isinstance(data.x, Replaced):
        arguments = {
            'pooled': pooled,
            'dtype': dtype,
            'cache_dir': cache_dir,
            'batch_size': batch_size,
        }
        base = extract(backbone, data.with_x(data.x.base), **arguments)
        if not len(data.x.rows):
            return base
        others = _of_rows(data, data.x.rows, data.x.values)
        found = extract(backbone, others, **arguments)
        return Replaced(base, data.x.rows, np.asarray(found))
    key, name = f'{backbone.fingerprint} {data.fingerprint}', backbone.name
    shape = backbone.feature_shape
    if pooled:
        key, name = f'mean over places of {key}', f'{name}, mean over places'
        shape = shape[-1:]
    return cache.get_or_make(
        key,
        (len(data.x), *shape),
        lambda: _batches(backbone, data.x, data.name, batch_size, pooled),
        dtype=dtype,
        what={'backbone': name, 'data': data.name},
        cache_dir=cache_dir,
    )


def of_sample(
    backbone: Backbone, data: FederatedData, clients: Sequence[int], seed: int
) -> FederatedData:
    """Returns the features of a few training examples, to know their scale by.

    Args:
      backbone: Maps images to features.
      data: The population, with images as `x`.
      clients: The numbers of the clients whose examples are drawn.
      seed: Which are drawn is a function of it.

    Returns:
      The population with `SAMPLE` of these examples at most, and no others.

    Raises:
      UserError: A batch does not fit in memory, or features are not finite.
    """
    rows = np.concatenate([np.r_[data.train_rows(client)] for client in clients])
    draw = randomness.generator(seed, 'sample of features')
    rows = np.sort(draw.choice(rows, min(SAMPLE, len(rows)), replace=False))
    sample = _of_rows(data, rows, data.x[rows])
    return sample.with_x(of_images(backbone, sample.x, sample.name))


def of_images(
    backbone: Backbone, images: np.ndarray, name: str = 'images'
) -> np.ndarray:
    """Returns the features of images that no cache need have, such as generated ones.

    Args:
      backbone: Maps images to features.
      images: [n, height, width, 1 or 3], uint8 in [0, 255] or float32 in [0, 1].
      name: What they are, for messages.

    Returns:
      float32 [n, *feature_shape].

    Raises:
      UserError: A batch does not fit in memory, or features are not finite.
    """
    none = np.zeros((0, *backbone.feature_shape), np.float32)
    return np.concatenate([none, *_batches(backbone, images, name, _BATCH_SIZE)])


def over_places(activations):
    """Returns means over places, [batch, size], of activations [batch, ..., size]."""
    return tf.reduce_mean(activations, range(1, len(activations.shape) - 1))


def _of_rows(data: FederatedData, rows: np.ndarray, x: np.ndarray) -> FederatedData:
    """Returns some examples, by their sorted numbers, with inputs of their own."""
    counts = np.bincount(data.client_of_row[rows], minlength=len(data))
    return dataclasses.replace(
        data,
        x=x,
        y=data.y[rows],
        num_train=counts,
        num_test=np.zeros_like(counts),
    )


def _batches(
    backbone: Backbone,
    x: np.ndarray,
    name: str,
    batch_size: int,
    pooled: bool = False,
) -> Iterator[np.ndarray]:
    at_once = min(_BATCHES_AT_ONCE * batch_size, len(x))
    height, width = backbone.image_size
    what = f'{backbone.name} on {at_once} images of {height} x {width} pixels'
    needed = at_once * backbone.step_bytes(x)
    memory.check_fits(what, needed, 'give a smaller --image_size')

    def features(start: int) -> np.ndarray:
        try:
            batch = backbone(x[start : start + batch_size]).numpy()
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                f'memory was too small for {what}; give a smaller --image_size'
            ) from error
        if not np.isfinite(batch).all():
            raise UserError(
                f'{name}: the backbone {backbone.name} gives features that are not'
                f' finite for images {start} to {start + len(batch) - 1}; check the'
                ' images and the weights'
            )
        return over_places(batch).numpy() if pooled else batch

    with (
        concurrent.futures.ThreadPoolExecutor(_BATCHES_AT_ONCE) as pool,
        progress.bar(total=len(x), desc='features', unit=' images') as bar,
    ):
        for batch in pool.map(features, range(0, len(x), batch_size)):
            yield batch
            bar.update(len(batch))
