"""FedNTD: clients keep what the server's model knows of the classes that are not true.

Lee et al. 2022, "Preservation of the global knowledge by not-true distillation in
federated learning", section 4: a client's loss has beta times the Kullback-Leibler
divergence of two softmaxes over all classes but an example's own, of its model's logits
and of those of the model that it got, both divided by tau.

As in the paper the divergence is not multiplied by tau squared, as it is in common
code; at the paper's tau of 1 they are the same. The server's model predicts as in
evaluation.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import distillation, fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.prototype import NEVER
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedNTD:
    """FedNTD."""

    beta: float = option(1.0, 'The weight of the distillation.', at_least=0)
    tau: float = option(1.0, 'The temperature of the distillation.', above=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        functional, classes = context.model.functional, context.classes

        def direction(weights, client):
            teacher = local.predictor(context, weights, client)

            def follow(gradient_of, at, batch):
                taught = teacher(batch)

                def loss(logits, labels):
                    true = NEVER * tf.one_hot(labels, classes)
                    kept = distillation.divergence(
                        taught + true, logits + true, self.tau
                    )
                    return functional.loss(logits, labels) + self.beta * kept

                return gradient_of(at, batch, loss=loss)

            return follow

        return fed_avg.averaging(context, direction)
