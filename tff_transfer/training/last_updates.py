"""What each client sent the last time, for a server that remembers it (CA2FL)."""

import collections
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from tff_transfer.runtime import StackedClients
from tff_transfer.training.client_states import ClientStates


class LastUpdates:
    """What clients sent last: rows of a file, and the mean over all of them.

    What stands for it in a run's state is an OrderedDict: `index`, where the rows are
    (`ClientStates`), and the `mean`, a structure of arrays, float64.

    Attributes:
      rows: The file.
    """

    def __init__(self, like: Any, clients: int, path: pathlib.Path | None):
        """Opens the file.

        Args:
          like: An update of zeros, a structure of arrays: what a client counts as
            having sent that never did.
          clients: How many clients may send.
          path: The file; a temporary one if not given.
        """
        self.rows, self._like, self._clients = ClientStates(like, path), like, clients

    def nothing(self) -> Any:
        """Returns what stands for it before anybody sent anything."""
        return collections.OrderedDict(
            index=self.rows.empty_index(self._clients),
            mean=tf.nest.map_structure(lambda leaf: np.zeros(leaf.shape), self._like),
        )

    def of(self, state, clients: np.ndarray) -> Any:
        """Returns what some clients sent last, a structure of arrays [clients, ...]."""
        return self.rows.take(state['index'], clients).arrays

    def after(self, state, clients: np.ndarray, updates: Any) -> Any:
        """Returns what stands for it when some clients have sent something.

        Args:
          state: What stood for it before.
          clients: Their numbers, [some].
          updates: What they sent, a structure of arrays [some, ...].
        """
        if not len(clients):
            return state

        def mean(before, new, old):
            moved = np.sum(new - old, axis=0, dtype=np.float64)
            return before + moved / self._clients

        return collections.OrderedDict(
            index=self.rows.put(state['index'], clients, StackedClients(updates)),
            mean=tf.nest.map_structure(
                mean, state['mean'], updates, self.of(state, clients)
            ),
        )
