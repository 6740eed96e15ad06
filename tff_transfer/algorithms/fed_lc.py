"""FedLC: logits are calibrated by how many examples of each class a client has.

Zhang et al. 2022, "Federated learning with label distribution skew via logits
calibration", equation 7: `tau` / count^(1/4) is taken off each logit in training.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option

# A class without examples has this count: its logit is 100 tau lower.
_NONE = 1e-8


@dataclasses.dataclass(frozen=True)
class FedLC:
    """FedLC."""

    tau: float = option(1.0, 'The strength of the calibration.', at_least=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def loss(client):
            counts = local.label_counts(client, context.classes)
            margin = self.tau * tf.maximum(counts, _NONE) ** -0.25
            return lambda logits, labels: context.model.functional.loss(
                logits - margin, labels
            )

        return fed_avg.averaging(context, loss=loss)
