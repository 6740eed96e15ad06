"""What a model is trained for: its loss, what is measured of it, and what is best."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import reprs


@dataclasses.dataclass(frozen=True)
class Task:
    """What a model is trained for.

    Its measures are numbers of each example. What is recorded are their means: over
    the examples of a round as they are trained on, and over those that are evaluated;
    of the measure that decides also the mean over clients of each one's mean.

    Attributes:
      measures: Their names. One is `loss`, whose mean over a batch is minimised.
      measure: Gives them by name, float32 [batch] each, of a batch: a function of the
        model's outputs, float32 [batch, ...], and labels, int32 [batch].
      decides: The measure by which the best round is known.
      highest: Whether the best value of that one is its highest, or its lowest.
      shown: How that one is written for people, such as `.1%`.
      classify: Gives the class predicted of each example, int32 [batch], of outputs;
        None if the task has no classes.
    """

    measures: tuple[str, ...]
    measure: Callable[[tf.Tensor, tf.Tensor], Mapping[str, tf.Tensor]]
    decides: str
    highest: bool
    shown: str
    classify: Callable[[tf.Tensor], tf.Tensor] | None = None

    __repr__ = reprs.of_fields

    @property
    def per_client(self) -> str:
        """The name of the mean over clients of each one's mean."""
        return f'{self.decides}_per_client'

    @tf.autograph.experimental.do_not_convert
    def loss(
        self,
        outputs: tf.Tensor,
        labels: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the mean loss of a batch, float32 []; 0 of an empty one.

        Args:
          outputs: float32 [batch, ...].
          labels: int32 [batch].
          sample_weight: float32 [batch]; the mean still divides by the batch's size.
        """
        losses = self.measure(outputs, labels)['loss']
        if sample_weight is not None:
            losses *= sample_weight
        count = tf.cast(tf.size(losses), tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(losses), count)

    def examples(self, outputs: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Returns measures by name and, as `predicted`, any classes; each [batch]."""
        found = dict(self.measure(outputs, labels))
        if self.classify is not None:
            found['predicted'] = self.classify(outputs)
        return found

    def best(self, values: Sequence[float]) -> int:
        """Returns the place of the first best one of values of what decides."""
        signed = np.asarray(values, float) * (1 if self.highest else -1)
        return int(np.argmax(np.where(np.isnan(signed), -np.inf, signed)))


@tf.autograph.experimental.do_not_convert
def _measure_logits(logits, labels):
    labels = tf.cast(labels, tf.int64)
    return collections.OrderedDict(
        loss=tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits),
        # Not ==, which compares objects, not values, in TFF's graphs.
        accuracy=tf.cast(tf.equal(labels, tf.argmax(logits, -1)), tf.float32),
    )


# Which of some classes: cross-entropy, and the share of right answers.
CLASSIFICATION = Task(
    measures=('loss', 'accuracy'),
    measure=_measure_logits,
    decides='accuracy',
    highest=True,
    shown='.1%',
    classify=lambda logits: tf.argmax(logits, axis=1, output_type=tf.int32),
)
