"""Examples of the clients that take part, one client after another."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """What clients hold.

    Attributes:
      x: What a learner takes, [n, ...].
      y: Labels, integers [n] in [0, num_classes).
      splits: Where each client's rows start, and the end, int64 [clients + 1].
      num_classes: How many labels there are.

    Raises:
      UserError: On construction, if there are no clients or no examples, or these do
        not fit together.
    """

    x: np.ndarray
    y: np.ndarray
    splits: np.ndarray
    num_classes: int

    def __post_init__(self):
        n, splits = len(self.y), self.splits
        if len(splits) < 2 or not n:
            raise UserError('no client has an example to learn from; give some')
        if len(self.x) != n or splits[-1] != n or np.any(np.diff(splits) < 0):
            raise UserError(
                f'{len(self.x)} inputs and {n} labels do not fit to clients whose rows'
                f' end at {splits[-1]}'
            )
        if self.num_classes < 2 or not 0 <= self.y.min() <= self.y.max() < (
            self.num_classes
        ):
            raise UserError(
                f'labels are from {self.y.min()} to {self.y.max()}, but there must be'
                f' two classes or more, numbered from 0 (there are {self.num_classes})'
            )

    def __len__(self) -> int:
        """Returns the number of clients."""
        return len(self.splits) - 1

    @property
    def sizes(self) -> np.ndarray:
        """How many examples each client has, int64 [clients]."""
        return np.diff(self.splits)

    @property
    def client_of_row(self) -> np.ndarray:
        """The number of the client that holds each row, int64 [n]."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def rows(self, client: int) -> slice:
        """Returns where a client's rows are."""
        return slice(int(self.splits[client]), int(self.splits[client + 1]))

    def with_x(self, x: np.ndarray) -> 'Examples':
        """Returns the same examples with other inputs."""
        return dataclasses.replace(self, x=x)


def of(data: FederatedData, clients: Sequence[int], *, test: bool = False) -> Examples:
    """Returns the examples of one part of some clients.

    Args:
      data: The population.
      clients: Their numbers.
      test: Whether test examples are wanted, instead of training examples.

    Raises:
      UserError: They have none.
    """
    part = data.test_rows if test else data.train_rows
    found = [np.r_[part(client)] for client in clients]
    rows = np.concatenate([np.zeros(0, np.int64), *found])
    splits = np.concatenate([[0], np.cumsum(list(map(len, found)), dtype=np.int64)])
    return Examples(data.x[rows], data.y[rows], splits, data.num_classes)
