"""What the server may know of clients when it chooses among them."""

import dataclasses

import numpy as np

# What a rule may ask for, as fields of `Known`.
OF_DATA = ('examples', 'labels')
OF_LOSSES = ('losses', 'squared_losses')
OF_ROUNDS = (*OF_LOSSES, 'last', 'times', 'seconds')
# What it may ask clients for in the round itself, of the model of that round.
ASKED = 'current_losses'
# What of that tells of single clients' examples, besides how many they are.
OF_SINGLE_CLIENTS = ('labels', *OF_LOSSES, ASKED)


@dataclasses.dataclass(frozen=True)
class Known:
    """What the server knows of the clients that it may choose among.

    Each field is an array over these clients, or None where the rule did not ask for
    it (its `needs`).

    Attributes:
      clients: Their numbers among all that may take part, int64 [clients], ascending.
      population: How many may take part at all, present or not, a number.
      cohort: How many a round wants, however few are present, a number.
      examples: How many training examples each has, int64 [clients].
      labels: How many of each class, int64 [clients, classes].
      losses: The mean loss, over its training examples, of the model that it got when
        it last took part, float64 [clients]; not a number if it never did.
      squared_losses: The mean of those examples' squared losses, likewise.
      last: The round in which it last took part, int64 [clients]; 0 if it never did.
      times: In how many rounds it took part, int64 [clients].
      seconds: How long it took then, simulated, float64 [clients]; not a number if it
        never took part.
    """

    clients: np.ndarray
    population: int | None = None
    cohort: int | None = None
    examples: np.ndarray | None = None
    labels: np.ndarray | None = None
    losses: np.ndarray | None = None
    squared_losses: np.ndarray | None = None
    last: np.ndarray | None = None
    times: np.ndarray | None = None
    seconds: np.ndarray | None = None

    def __len__(self) -> int:
        """Returns how many clients there are."""
        return len(self.clients)

    def of(self, places: np.ndarray) -> 'Known':
        """Returns the same of some of the clients, by their places here."""
        arrays = {n: v for n, v in vars(self).items() if isinstance(v, np.ndarray)}
        return dataclasses.replace(self, **{n: v[places] for n, v in arrays.items()})
