"""Learning rates that change with the round, as factors of the one that is given.

A schedule is a function of the round, from 1, to a factor, float32 []. In warm-up the
factor grows linearly to 1. What follows counts the rounds after it: with T of these,
linear decay is 1 - t / T, cosine decay (1 + cos(pi t / T)) / 2 (Loshchilov & Hutter
2017, equation 5, without restarts), exponential decay rate^(t / T), and step decay
rate^floor(steps t / T), for t from 0 in the first of them.
"""

import math
from collections.abc import Callable

import tensorflow as tf

NAMES = ('constant', 'linear', 'cosine', 'exponential', 'step')


def build(
    name: str, rounds: int, *, warmup: int = 0, decay: float = 0.1, steps: int = 3
) -> Callable | None:
    """Makes a schedule.

    Args:
      name: One of `NAMES`.
      rounds: Rounds in all.
      warmup: How many of them are warm-up.
      decay: What an exponential decay comes to at the end, and a step at each step.
      steps: How often a step decay falls in all rounds.

    Returns:
      The schedule, or None for the constant 1.
    """
    if name == 'constant' and not warmup:
        return None
    after = max(rounds - warmup, 1)

    def factor(share):
        if name == 'linear':
            return 1 - share
        if name == 'cosine':
            return (1 + tf.cos(math.pi * share)) / 2
        if name == 'exponential':
            return decay**share
        if name == 'step':
            return decay ** tf.floor(steps * share)
        return tf.ones_like(share)

    def schedule(round_number):
        number = tf.cast(round_number, tf.float32)
        share = tf.clip_by_value((number - 1 - warmup) / after, 0.0, 1.0)
        return tf.where(number <= warmup, number / (warmup + 1), factor(share))

    return schedule
