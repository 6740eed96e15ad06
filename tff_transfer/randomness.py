"""Every random draw is a pure function of (seed, purpose, indices)."""

import zlib

import numpy as np


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Returns NumPy's generator for one purpose of one run.

    Args:
      seed: The run's seed, at least 0.
      purpose: What is drawn, such as `'cohort'`; two purposes never share draws.
      *indices: What it is drawn for, such as the round and the client, each at
        least 0.

    Returns:
      A generator that is equal for equal arguments, on every machine.
    """
    key = [seed, zlib.crc32(purpose.encode()), *indices]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
