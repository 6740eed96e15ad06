"""Blocks of clients: which clients run together, where, and which of them failed."""

import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.runtime.layouts import ClientSequences, ClientTensors

Leaf = ClientSequences | ClientTensors


@dataclasses.dataclass(frozen=True)
class Settings:
    """How programs run.

    Attributes:
      threads: How many shares of clients run at a time on each device.
      block_bytes: The most bytes of client data of one share, about.
      devices: TensorFlow's names of the devices for clients' work.
      debug: Whether clients run one at a time, and the state after each of a
        client's steps is checked to be finite.
      compute_dtype: What products of float32 are computed in at clients, if not that.
      draws: Whether draws hang on keys.
      lockstep: Whether clients go in lockstep where they can; None where it pays.
    """

    threads: int
    block_bytes: int
    devices: tuple[str, ...]
    debug: bool
    compute_dtype: str | None
    draws: bool = False
    lockstep: bool | None = None


# Enough for the threads that there may be; a block costs its state and a merge.
BLOCKS = 8


def split(
    leaves: Sequence[Leaf], count: int, settings: Settings, fewest: int = BLOCKS
) -> list[list[int]]:
    """Returns which clients are summed, and which run, together.

    Args:
      leaves: The clients' values.
      count: How many clients there are.
      settings: How programs run.
      fewest: How many blocks there are if `block_bytes` wants no more.

    Returns:
      The shares, each of which runs in one call: the first clients of its blocks and
      the one after the last. Blocks are of about equal size, and their bounds hang on
      sizes and `block_bytes` alone: what is summed in which order is the same on
      every machine. There are as many shares as run at a time, or more if they would
      be too large.
    """
    if settings.debug and count:
        return [[c, c + 1] for c in range(count)]
    if count == 0:
        return [[0, 0]]
    size = sum((_nbytes(leaf) for leaf in leaves), np.zeros(count))
    parts = int(np.ceil(size.sum() / settings.block_bytes))
    blocks = max(fewest, parts)
    # A client costs something even if it holds nothing.
    size = size + max(size.mean(), 1.0) * 0.01
    block = ((np.cumsum(size) - size / 2) / size.sum() * blocks).astype(np.int64)
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), count]
    blocks = len(cuts) - 1
    shares = min(max(settings.threads * len(settings.devices), parts), blocks)
    bounds = [share * blocks // shares for share in range(shares + 1)]
    return [cuts[a : b + 1] for a, b in itertools.pairwise(bounds)]


def _nbytes(leaf: Leaf) -> np.ndarray:
    """Returns about how many bytes each client's values take, [clients]."""
    if isinstance(leaf, ClientTensors):
        # As sequences of one element.
        leaf = ClientSequences((leaf.arrays,), np.arange(leaf.clients + 1))
    return leaf.nbytes()


def run_in_order(run: Callable, shares: list, settings: Settings) -> Iterator:
    """Yields `run(share)` for all shares, in order, with a few under way at a time.

    One device's shares run under that device's scope.
    """
    placed = list(zip(shares, itertools.cycle(settings.devices)))

    def on_device(share, device):
        with tf.device(device):
            return run(share)

    workers = min(settings.threads * len(settings.devices), len(shares))
    if workers == 1 or settings.debug:
        yield from itertools.starmap(on_device, placed)
        return
    pool = _pool(workers)
    waiting = []
    try:
        for share, device in placed:
            waiting.append(pool.submit(on_device, share, device))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        concurrent.futures.wait([f for f in waiting if not f.cancel()])


@functools.cache
def _pool(workers: int) -> concurrent.futures.ThreadPoolExecutor:
    # Kept: to start threads for each round takes about as long as to call TensorFlow.
    return concurrent.futures.ThreadPoolExecutor(workers, 'shares of clients')


def where_it_fails(
    run: Callable[[Sequence[Leaf], int], object], leaves: Sequence[Leaf], count: int
) -> str | None:
    """Runs clients one at a time to find the first that fails, and at which step.

    Args:
      run: Runs a client with these values, by its number.
      leaves: The clients' values.
      count: How many clients there are.

    Returns:
      A description, or None if no client fails alone.
    """

    def fails(mine, client):
        try:
            run(mine, client)
        except tf.errors.OpError:
            return True
        return False

    for client in range(count):
        mine = [leaf.select(client) for leaf in leaves]
        if not fails(mine, client):
            continue
        steps = [int(x.starts[-1]) for x in mine if isinstance(x, ClientSequences)]
        # The fewest steps with which the client fails.
        low, high = 0, max(steps, default=0)
        while low < high:
            middle = (low + high) // 2
            if fails([leaf.head(middle) for leaf in mine], client):
                high = middle
            else:
                low = middle + 1
        return f'client {client}' + (f', step {low - 1}' if low else '')
    return None
