"""Many datasets read by TensorFlow in one pipeline, not in one for each."""

import functools
import logging
import time
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_CHUNK_BYTES = 2**22
_CHUNK = 1024
# After so many seconds a dataset that does not say how long it is may be endless.
_LONG_S = 60


def read(
    datasets: Sequence[tf.data.Dataset],
    names: Sequence[str],
    limit_bytes: float,
    threads: int,
) -> list[list]:
    """Reads datasets whole.

    Args:
      datasets: The datasets; their elements have as many tensors of the same dtypes.
      names: What each is called in messages.
      limit_bytes: What all elements may take.
      threads: How many are read at a time: one after another, if more might change
        what they give.

    Returns:
      For each dataset a list with each component of its elements, in order: a list
      of arrays, or one array [elements, ...] where all datasets' have one shape.

    Raises:
      MemoryError: They take more; the message says up to which dataset.
    """
    if not datasets:
        return []
    specs = [tf.nest.flatten(d.element_spec) for d in datasets]
    common = tuple(_common(column) for column in zip(*specs, strict=True))
    chunk = _chunk(common)
    pipeline = _joined(common, chunk, threads)(
        tf.stack([tf.data.experimental.to_variant(d) for d in datasets])
    )
    found = [[[] for _ in common] for _ in datasets]
    total, began, told = 0, time.monotonic(), False
    for number, *components in pipeline.as_numpy_iterator():
        for column, value in zip(found[number], components, strict=True):
            column.append(value)
            total += _bytes(value)
        if total > limit_bytes:
            raise MemoryError(
                f'{names[number]} and those before it hold more than'
                f' {limit_bytes / 2**30:.1f} GiB, which is what is free'
            )
        if not told and time.monotonic() - began > _LONG_S:
            told = True
            logging.warning(
                'Reading %s has come to %d MiB after %d s; if it is endless, end it'
                ' with .take(n)',
                names[number],
                total / 2**20,
                _LONG_S,
            )
    if chunk is None:
        return found
    empty = [np.zeros((0, *s.shape), s.dtype.as_numpy_dtype) for s in common]
    return [
        [np.concatenate([e, *column]) for e, column in zip(empty, columns, strict=True)]
        for columns in found
    ]


def _bytes(value) -> int:
    """Returns what an array takes, or a scalar, or strings."""
    if isinstance(value, bytes):
        return len(value)
    return sum(map(len, value.flat)) if value.dtype == object else value.nbytes


def _common(specs: Sequence[tf.TensorSpec]) -> tf.TensorSpec:
    """Returns the one spec that all fit."""
    first, *rest = dict.fromkeys(tf.TensorSpec(s.shape, s.dtype) for s in specs)
    return first.most_specific_common_supertype(rest) if rest else first


def _chunk(specs: Sequence[tf.TensorSpec]) -> int | None:
    """Returns how many elements are read at a time, None if they differ in shape."""
    if not all(s.shape.is_fully_defined() for s in specs):
        return None
    size = sum(s.shape.num_elements() * s.dtype.size for s in specs)
    return max(1, min(_CHUNK, _CHUNK_BYTES // max(size, 1)))


@functools.lru_cache(maxsize=32)
def _joined(specs: tuple[tf.TensorSpec, ...], chunk: int | None, threads: int):
    """Returns what makes one dataset, of numbered elements, of datasets' variants."""
    # Their optimisation takes longer than reading a few clients' datasets.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False

    @tf.function(input_signature=[tf.TensorSpec([None], tf.variant)], autograph=False)
    def joined(variants):
        def numbered(number):
            dataset = tf.data.experimental.from_variant(variants[number], specs)
            if chunk is not None:
                dataset = dataset.batch(chunk)
            return dataset.map(lambda *components: (number, *components))

        numbers = tf.data.Dataset.range(tf.shape(variants, tf.int64)[0])
        # In any order: each element has its dataset's number.
        together = numbers.interleave(
            numbered,
            cycle_length=threads,
            num_parallel_calls=threads if threads > 1 else None,
            deterministic=False if threads > 1 else None,
        )
        return together.with_options(options)

    return joined
