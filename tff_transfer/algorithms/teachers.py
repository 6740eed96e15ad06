"""Who clients learn from beside their examples: nobody, or the pretrained model.

A head is fresh where a run starts, so that the pretrained model has no answers to
teach; what it has are features. While some of it is trained, what the last layer takes
is held to what the pretrained model has for the same example of the client
(self-distillation of features: Romero et al. 2015, "FitNets: Hints for thin deep nets",
equation 3, where teacher and student have the same layer, so that nothing is fitted
between them).
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import distillation
from tff_transfer.options import Variants, option


@dataclasses.dataclass(frozen=True)
class Nobody:
    """Clients learn of their examples alone."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Features are held to those of the pretrained model."""

    weight: float = option(1.0, 'The weight of the distance.', at_least=0)
    distance: str = option(
        'squared',
        'How far features are from those of the pretrained model: squared, the mean of'
        ' squared differences; cosine, 1 less the cosine; softmax, the'
        ' Kullback-Leibler divergence of their softmax at --pretrained.temperature.',
        choices=('squared', 'cosine', 'softmax'),
    )
    temperature: float = option(
        1.0, 'What features are divided by before their softmax.', above=0
    )

    def apart(self, taught, found):
        """Returns the weighted distance of features, the mean over a batch, float32 [].

        Args:
          taught: Those of the pretrained model, float32 [batch, size].
          found: The others.
        """
        if self.distance == 'squared':
            apart = tf.reduce_mean(tf.square(found - taught))
        elif self.distance == 'cosine':
            unit = tf.math.l2_normalize(found, -1) * tf.math.l2_normalize(taught, -1)
            apart = 1 - tf.reduce_mean(tf.reduce_sum(unit, -1))
        else:
            apart = distillation.divergence(taught, found, self.temperature)
        return self.weight * apart


KINDS = Variants(
    f'{__package__}.teachers', {'nobody': Nobody, 'pretrained': Pretrained}
)
