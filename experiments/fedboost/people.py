"""Who does what in the study: the clients and what they hold."""

import dataclasses

import numpy as np
from sklearn import datasets

from tff_transfer import randomness
from tff_transfer.boosting import examples
from tff_transfer.boosting.examples import Examples
from tff_transfer.data import by_client, federated, partition, synthetic_writers
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

# Of drawn writers, where no file is given.
WRITERS, EACH = 200, 60
# Clients of the table.
_TABLE_CLIENTS = 12
# Fewer clients leave a group without any.
_LEAST = 20
# The share of seen clients whose examples trained the base predictors beforehand, and
# of the others those by whom rates are chosen.
_BEFORE, _CHOOSERS = 0.5, 0.2


@dataclasses.dataclass(frozen=True)
class Groups:
    """Clients by what they do, numbers in int64 arrays.

    Attributes:
      before: Those on whose examples base predictors were trained.
      learners: Those who learn the weights of the ensemble.
      choosers: Those by whose loss rates are chosen.
      unseen: Those who judge alone.
    """

    before: np.ndarray
    learners: np.ndarray
    choosers: np.ndarray
    unseen: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """All who are not unseen, sorted."""
        return np.sort(np.concatenate([self.before, self.learners, self.choosers]))


def load(path: str | None, clients: int | None) -> FederatedData:
    """Returns the clients of a file, or drawn writers.

    Args:
      path: What `by_client.load` reads, or None.
      clients: How many of them at most, or None.

    Raises:
      UserError: It cannot be read, or has too few clients.
    """
    if path is None:
        data = synthetic_writers.generate(WRITERS, EACH, seed=0, classes=10)
    else:
        data = by_client.load(path)
    data = data.select(range(min(clients or len(data), len(data))))
    if len(data) < _LEAST:
        raise UserError(
            f'{data.name} has {len(data)} clients, but the study deals them to groups'
            f' and needs {_LEAST}'
        )
    return data


def table() -> FederatedData:
    """Returns a table of a hospital, dealt to clients that have unlike shares of ill.

    Breast cancer in Wisconsin (Street, Wolberg & Mangasarian 1993; CC BY 4.0), as
    scikit-learn has it: 30 measures of the cells of 569 tumours.
    """
    x, y = datasets.load_breast_cancer(return_X_y=True)
    is_test = randomness.generator(0, 'test rows of the table').random(len(y)) < 0.25
    return partition.dirichlet(
        x.astype(np.float32),
        y,
        _TABLE_CLIENTS,
        alpha=1.0,
        is_test=is_test,
        name='a table, breast cancer in Wisconsin',
    )


def groups(data: FederatedData) -> Groups:
    """Returns who does what, a function of the number of clients alone."""
    seen, unseen = federated.split_clients(len(data))
    order = randomness.generator(0, 'boosting groups').permutation(seen)
    cut = round(_BEFORE * len(seen))
    choosers = max(1, round(_CHOOSERS * (len(seen) - cut)))
    return Groups(
        np.sort(order[:cut]),
        np.sort(order[cut + choosers :]),
        np.sort(order[cut : cut + choosers]),
        unseen,
    )


def whole(data: FederatedData, clients: np.ndarray) -> Examples:
    """Returns all examples of some clients, training and test examples alike."""
    of = data.select(clients)
    return Examples(of.x, of.y, of.row_splits, of.num_classes)


def test_of(data: FederatedData, clients: np.ndarray) -> Examples:
    """Returns the test examples of some clients."""
    return examples.of(data, clients, test=True)
