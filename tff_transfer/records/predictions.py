"""What a trained model predicts for examples, and where it goes wrong."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tff_transfer import reprs
from tff_transfer.data.federated import FederatedData


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for some examples of a population.

    Attributes:
      rows: The numbers of the examples in the population, int64 [m].
      labels: Their classes, int32 [m].
      predicted: The classes predicted, int32 [m]; None where a task has none.
      measured: The task's measures of each by name, [m], `loss` among them.
    """

    rows: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray | None
    measured: Mapping[str, np.ndarray]

    __repr__ = reprs.of_fields

    @property
    def correct(self) -> np.ndarray:
        """Whether each prediction is right, bool [m]."""
        return self.predicted == self.labels

    def of_rows(self, rows: np.ndarray) -> 'Predictions':
        """Returns those for some of the examples, by their numbers, both ascending."""
        places = np.searchsorted(self.rows, rows)
        predicted = None if self.predicted is None else self.predicted[places]
        measured = {name: of[places] for name, of in self.measured.items()}
        return Predictions(rows, self.labels[places], predicted, measured)

    def confusion(self, num_classes: int) -> np.ndarray:
        """Returns how many examples of a class were taken for which.

        Returns:
          int64 [classes, predicted classes].
        """
        cells = self.labels.astype(np.int64) * num_classes + self.predicted
        counts = np.bincount(cells, minlength=num_classes**2)
        return counts.reshape(num_classes, num_classes)

    def worst(self, count: int) -> np.ndarray:
        """Returns the places of the mistakes of the greatest loss, the first first.

        These are the ones that the model is surest of: the loss is minus the
        logarithm of the probability that it gives the true class.
        """
        wrong = np.flatnonzero(~self.correct)
        order = np.argsort(-self.measured['loss'][wrong], kind='stable')
        return wrong[order[:count]]


def of_examples(
    data: FederatedData, rows: np.ndarray, found: Mapping[str, np.ndarray]
) -> Predictions:
    """Returns what `Task.examples` gave of some examples of a population."""
    measured = dict(found)
    predicted = measured.pop('predicted', None)
    return Predictions(rows, data.y[rows], predicted, measured)


def per_client(
    data: FederatedData, rows: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the clients that hold some of the rows, and the means of their values."""
    holders = data.client_of_row[rows]
    counts = np.bincount(holders, minlength=len(data))
    totals = np.bincount(holders, weights=values, minlength=len(data))
    clients = np.flatnonzero(counts)
    return clients, totals[clients] / counts[clients]
