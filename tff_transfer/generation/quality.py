"""All that is measured of generated examples, against real ones."""

import dataclasses
import functools

import numpy as np

from tff_transfer.generation import distances, neighbours
from tff_transfer.generation.classifier import Classifier
from tff_transfer.generation.distances import Gaussian


@dataclasses.dataclass(frozen=True)
class Quality:
    """What is measured of generated examples.

    Attributes:
      frechet: The squared Frechet distance to real examples; lower is better.
      kernel: The squared kernel distance to them; lower is better.
      kernel_error: Its standard error.
      recognised: The share of them that a classifier of real examples takes for the
        class that they were generated for.
      taught: The accuracy on real examples of a classifier that learned from them.
      ratio: See `neighbours.Neighbours`.
      nearer: See there.
    """

    frechet: float
    kernel: float
    kernel_error: float
    recognised: float
    taught: float
    ratio: float
    nearer: float


@dataclasses.dataclass(frozen=True, eq=False)
class Reference:
    """Real examples that generated ones are compared with.

    Attributes:
      train: Features of examples that models may have been trained on, [n, size], in
        no order.
      train_labels: Their classes, int [n].
      test: Features of examples that no model has seen, [m, size].
      test_labels: Their classes, int [m].
      classes: How many classes there are.
    """

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    classes: int

    @functools.cached_property
    def gaussian(self) -> Gaussian:
        """That of the training examples."""
        return Gaussian.of(self.train)

    @functools.cached_property
    def classifier(self) -> Classifier:
        """One that learned from the training examples."""
        return Classifier.of(self.train, self.train_labels, self.classes)

    def measured(
        self, generated: np.ndarray, labels: np.ndarray, *, seed: int = 0
    ) -> Quality:
        """Measures generated examples.

        Args:
          generated: Their features, [k, size]; `distances.kernel` needs 20.
          labels: What they were generated for, int [k].
          seed: Of how examples are divided and drawn.
        """
        near = neighbours.memorised(generated, self.train, self.test, seed=seed)
        own = Classifier.of(generated, labels, self.classes)
        return Quality(
            distances.frechet(Gaussian.of(generated), self.gaussian),
            *distances.kernel(generated, self.train, seed=seed),
            self.classifier.accuracy(generated, labels),
            own.accuracy(self.test, self.test_labels),
            *near,
        )
