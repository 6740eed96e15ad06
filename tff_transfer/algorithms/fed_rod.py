"""FedRoD: a head for all classes alike, and on top of it one of each client's own.

Chen & Chao 2022, "On bridging generic and personalized federated learning for image
classification", section 4. Representation and generic head follow balanced
softmax (Ren et al. 2020), whose logits have the log of the client's count of each class
added, and are averaged. The own head, a dense layer too, stays with its client: it
follows the loss of the sum of both heads' logits, of which nothing moves the rest, in
the same steps. That sum is what a client predicts with; the generic model is exported.

This is the paper's linear variant, without the hypernetwork that makes own heads of
class counts. Own heads start at zero: so a client predicts with the generic one first.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method


@dataclasses.dataclass(frozen=True)
class FedRoD:
    """FedRoD with linear heads."""

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_last_dense('FedRoD')
        count, functional = len(context.initial), context.model.functional

        def client_update(weights, client):
            # A class without examples has the logit of minus infinity.
            prior = tf.math.log(local.label_counts(client, context.classes))

            def balanced(logits, labels):
                return functional.loss(logits + prior, labels)

            def both(gradient_of, values, batch):
                shared, own = values[:count], values[count:]
                generic = gradient_of(shared, batch, loss=balanced)
                found = gradient_of(_summed(shared, own), batch)
                gradient = (*generic.shared, *found.shared[-2:])
                return found._replace(shared=gradient, personal=generic.personal)

            return local.update_beside(context, weights, client, both)

        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: tuple(map(np.zeros_like, context.initial[-2:])),
            personal=lambda weights, client: _summed(weights, client.kept),
        )


def _summed(weights: tuple, own: tuple) -> tuple:
    """Returns the model whose last layer is the sum of the generic and the own one."""
    kernel, bias = own
    return (*weights[:-2], weights[-2] + kernel, weights[-1] + bias)
