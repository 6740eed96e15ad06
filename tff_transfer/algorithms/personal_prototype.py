"""Each client's nearest class mean, of its own examples and of all clients'.

A class mean of a client is that of all clients (see `prototype`), counted as `prior`
examples, and its own examples of the class together: the posterior mean of a Gaussian
whose prior is the population's. Of a class without examples it has the mean of all.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import one_round
from tff_transfer.algorithms.method import Client, Context, Method
from tff_transfer.algorithms.prototype import NEVER, Prototype, class_sums, scores
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class PersonalPrototype:
    """The nearest of personal class means."""

    prior: float = option(
        10.0,
        'How many examples the mean over all clients counts for in a client; 0, none'
        ' where it has examples of the class.',
        at_least=0,
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def adapt(weights, client) -> Client:
            found = one_round.summed(context, class_sums, client)
            kernel, bias = (tf.cast(weight, tf.float64) for weight in weights)
            # A class of which the client has none has the mean of all, if it has one.
            prior = tf.where(found['counts'] > 0, np.float64(self.prior), 1)
            prior = tf.where(bias > NEVER, prior, 0)
            counts = found['counts'] + prior
            sums = found['sums'] + prior[:, None] * tf.transpose(kernel)
            return client._replace(kept=scores(counts, sums))

        return dataclasses.replace(
            Prototype().build(context),
            broadcast=lambda server: server.weights,
            adapt=adapt,
            personal=lambda weights, client: client.kept,
        )
