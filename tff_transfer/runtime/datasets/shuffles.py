"""The orders that `Dataset.shuffle` draws, without running it.

TensorFlow draws the two seeds of each pass over a dataset from its own two, and from
those one number for each element, all by Philox, which it also has as an operation.
"""

import functools
import secrets
import threading
import weakref

import numpy as np
import tensorflow as tf

# How often each shuffled dataset was passed through already.
_passes: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def order(count: int, buffer_size: int, seeds: tuple[int, int]) -> np.ndarray:
    """Returns in which order a pass gives its elements.

    Args:
      count: How many there are.
      buffer_size: The size of the buffer that each is chosen from.
      seeds: The seeds of the pass.

    Returns:
      Their numbers, int64 [count].
    """
    first = np.arange(count)
    chosen = _philox(count, seeds) % (np.minimum(count, first + buffer_size) - first)
    # The buffer is a window: what is at its front goes where the chosen one was.
    waiting = list(range(count))
    result = []
    for front, at in enumerate((first + chosen).tolist()):
        result.append(waiting[at])
        waiting[at] = waiting[front]
    return np.array(result, np.int64)


def next_seeds(
    dataset: tf.data.Dataset, seeds: tuple[int, int], reshuffle: bool
) -> tuple[int, int]:
    """Returns the seeds of the next pass over a shuffled dataset.

    Args:
      dataset: What `shuffle` returned. The runtime's n-th pass over this object is
        what TensorFlow's n-th pass over an equal one would be.
      seeds: Its seeds, both 0 where none was set: then every pass differs.
      reshuffle: Whether passes differ.
    """
    if seeds == (0, 0):
        return secrets.randbits(64), secrets.randbits(64)
    if not reshuffle:
        return seeds
    with _lock:
        number = _passes[dataset] = _passes.get(dataset, -1) + 1
    drawn = _philox(4, seeds, number // 2)
    first = 2 * (number % 2)
    return int(drawn[first]), int(drawn[first + 1])


@functools.cache
def are_known() -> bool:
    """Returns whether this TensorFlow draws as this module says."""
    dataset = tf.data.Dataset.range(10).shuffle(4, seed=1).repeat(2)
    found = list(dataset.as_numpy_iterator())
    shuffled = tf.data.Dataset.range(10).shuffle(4, seed=1)
    seeds = int(shuffled._seed), int(shuffled._seed2)
    passes = [order(10, 4, next_seeds(shuffled, seeds, True)) for _ in range(2)]
    return found == np.concatenate(passes).tolist()


def _philox(count: int, seeds: tuple[int, int], skip: int = 0) -> np.ndarray:
    """Returns 32-bit numbers, int64 [count], after `4 * skip` others."""
    key, high = (np.array([s % 2**64], np.uint64) for s in seeds)
    with tf.device('/CPU:0'):
        drawn = tf.raw_ops.StatelessRandomUniformFullIntV2(
            shape=[count],
            key=key,
            counter=np.append(np.array([skip], np.uint64), high),
            alg=1,
            dtype=tf.uint32,
        )
    return drawn.numpy().astype(np.int64)
