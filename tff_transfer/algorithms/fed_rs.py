"""FedRS: a restricted softmax for clients that do not have all classes.

Li & Zhan 2021, "FedRS: Federated learning with restricted softmax for label
distribution non-IID data", section 4: the logits of classes of which a client has no
example are multiplied by `alpha` in training.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedRS:
    """FedRS."""

    alpha: float = option(
        0.5, 'The factor of the logits of missing classes.', at_least=0
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def loss(client):
            counts = local.label_counts(client, context.classes)
            factor = tf.where(counts > 0, 1.0, self.alpha)
            return lambda logits, labels: context.model.functional.loss(
                factor * logits, labels
            )

        return fed_avg.averaging(context, loss=loss)
