"""FedSGD: clients send the gradient of their examples, the server takes the step.

McMahan et al. 2017, "Communication-efficient learning of deep networks from
decentralized data", section 2. TFF's own is `tff.learning.algorithms.build_fed_sgd`.
"""

import dataclasses

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method


@dataclasses.dataclass(frozen=True)
class FedSGD:
    """FedSGD."""

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def client_update(weights, client):
            def direction(gradient_of, total, batch):
                found = gradient_of(weights, batch)
                count = tf.cast(tf.shape(found.logits)[0], tf.float32)
                # The step of SGD with rate 1 that follows makes the sum of it.
                return found._replace(
                    shared=tuple(count * g for g in found.shared),
                    personal=tuple(map(tf.zeros_like, found.personal)),
                )

            found = local.train(
                context,
                weights,
                client,
                direction=direction,
                optimizer=tff.learning.optimizers.build_sgdm(1.0),
            )
            mean = tuple(tf.math.divide_no_nan(d, found.examples) for d in found.delta)
            return local.update(context, client, found, delta=mean)

        return dataclasses.replace(
            fed_avg.averaging(context), client_update=client_update
        )
