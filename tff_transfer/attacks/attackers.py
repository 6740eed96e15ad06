"""Which clients are hostile, and what their draws hang on."""

import numpy as np

from tff_transfer import randomness


def hostile(clients: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Returns which clients are hostile, those of a smaller share among them.

    Args:
      clients: The numbers of those that train, [clients].
      share: The share of them that is hostile; rounded.
      seed: The seed of the draw.

    Returns:
      The numbers of the hostile ones, sorted. Those of other clients beside them are
      mostly the same.
    """
    draws = [randomness.generator(seed, 'attackers', c).random() for c in clients]
    first = np.argsort(draws, kind='stable')[: round(share * len(clients))]
    return np.sort(clients[first])


def keys(clients: np.ndarray, seed: int, round_number: int) -> np.ndarray:
    """Returns what the draws of clients hang on in a round, int32 [clients, 2]."""
    found = [
        randomness.generator(seed, 'attack', round_number, client).integers(
            0, 2**31 - 1, size=2, dtype=np.int32
        )
        for client in clients
    ]
    return np.stack(found) if found else np.zeros([0, 2], np.int32)
