"""What a rule of selection is."""

from collections.abc import Callable
from typing import ClassVar, Protocol

import numpy as np

from tff_transfer.simulation.selection.known import Known


class Rule(Protocol):
    """A rule by which the clients of a round are chosen; a dataclass of options.

    Attributes:
      needs: The fields of `Known` that it reads, and `known.ASKED` if it asks clients.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def check(self, size: int, clients: int) -> None:
        """Checks its options.

        Args:
          size: How many clients take part in a round.
          clients: How many may take part at all.

        Raises:
          UserError: An option does not go with these.
        """

    def choose(
        self,
        known: Known,
        size: int,
        *,
        seed: int,
        round_number: int,
        loss_of: Callable[[np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Returns the clients of a round, by their places in `known`, int64 [some].

        Args:
          known: What the server knows of the clients that it may choose among.
          size: How many are wanted, at most as many as there are.
          seed: The run's seed.
          round_number: The round, from 1.
          loss_of: Gives the mean loss of the model of this round, over the training
            examples of clients, float64 [some], of their places in `known`. Who is
            asked gets the model for that.
        """
