"""What generative models are trained for: terms of each example, whose sum is least."""

import collections
from collections.abc import Sequence

import tensorflow as tf

from tff_transfer.models.task import Task


def of_terms(names: Sequence[str], factors: Sequence[float] | None = None) -> Task:
    """Returns the task of making a sum of terms small.

    A model's outputs are the terms of each example, float32 [batch, terms], since they
    hang on the images themselves and on draws. The measures are `loss`, their sum, and
    each of them by its name.

    Args:
      names: The names of the terms.
      factors: What each is multiplied by in the sum, if not one.
    """

    @tf.autograph.experimental.do_not_convert
    def measure(terms, labels):
        del labels
        weighted = terms if factors is None else terms * tf.constant(factors)
        found = collections.OrderedDict(loss=tf.reduce_sum(weighted, axis=1))
        for place, name in enumerate(names):
            found[name] = terms[:, place]
        return found

    return Task(
        measures=('loss', *names),
        measure=measure,
        decides='loss',
        highest=False,
        shown='.4g',
    )
