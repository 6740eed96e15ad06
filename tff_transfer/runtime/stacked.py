"""The values of clients side by side: one array a leaf, not a structure a client."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf


class StackedClients(Sequence):
    """What each client has, a structure of arrays, stacked.

    It stands for the list of the clients' values wherever a computation takes one; the
    compiled runtime then gives what comes back of each client stacked too, and makes
    no object for any of them.

    Attributes:
      arrays: The structure, with arrays [clients, ...], at least one.
    """

    def __init__(self, arrays: Any):
        """Keeps the arrays, without a copy.

        Raises:
          TypeError: They are not of the same number of clients.
        """
        self.arrays = arrays
        found = {len(leaf) for leaf in tf.nest.flatten(arrays)}
        if len(found) != 1:
            raise TypeError(
                f'stacked arrays are of different numbers of clients: {sorted(found)}'
            )
        (self._clients,) = found

    def __len__(self) -> int:
        """Returns how many clients there are."""
        return self._clients

    def __getitem__(self, client: int) -> Any:
        """Returns one client's value, views of the arrays."""
        number = range(self._clients)[client]
        return tf.nest.map_structure(lambda leaf: leaf[number], self.arrays)
