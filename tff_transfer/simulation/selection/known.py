"""What the server may know of clients when it chooses among them."""

import dataclasses

import numpy as np

# What a rule may ask for, as fields of `Known`.
OF_DATA = ('examples', 'labels')
OF_ROUNDS = ('losses', 'last', 'seconds')


@dataclasses.dataclass(frozen=True)
class Known:
    """What the server knows of the clients that it may choose among.

    Each field is an array over these clients, or None where the rule did not ask for
    it (its `needs`).

    Attributes:
      clients: Their numbers among all that may take part, int64 [clients], ascending.
      examples: How many training examples each has, int64 [clients].
      labels: How many of each class, int64 [clients, classes].
      losses: The mean loss, over its training examples, of the model that it got when
        it last took part, float64 [clients]; not a number if it never did.
      last: The round in which it last took part, int64 [clients]; 0 if it never did.
      seconds: How long it took then, simulated, float64 [clients]; not a number if it
        never took part.
    """

    clients: np.ndarray
    examples: np.ndarray | None = None
    labels: np.ndarray | None = None
    losses: np.ndarray | None = None
    last: np.ndarray | None = None
    seconds: np.ndarray | None = None

    def __len__(self) -> int:
        """Returns how many clients there are."""
        return len(self.clients)

    def of(self, places: np.ndarray) -> 'Known':
        """Returns the same of some of the clients, by their places here."""
        fields = {name: value for name, value in vars(self).items()}
        return Known(
            **{name: v if v is None else v[places] for name, v in fields.items()}
        )
