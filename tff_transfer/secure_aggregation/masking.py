"""A client's vector under its masks, and what takes them off again.

Bonawitz et al. 2017, section 4: client u sends x_u + PRG(b_u) + sum over its neighbours
v of +-PRG(s_uv), with the sign + for the smaller of the two numbers, so that the masks
of pairs cancel in the sum.
"""

from collections.abc import Iterable

import numpy as np

from tff_transfer.secure_aggregation import primitives
from tff_transfer.secure_aggregation.parameters import Parameters


def _of_pair(one: int, other: int) -> bytes:
    low, high = sorted((one, other))
    return low.to_bytes(4, 'little') + high.to_bytes(4, 'little')


def pair_key(
    secret: bytes, public: bytes, session: bytes, one: int, other: int
) -> bytes:
    """Returns the key of the mask of two clients, 16 bytes: the same for both.

    Raises:
      BadKey: The public key is a point of low order.
    """
    agreed = primitives.agree(secret, public)
    return primitives.derive(agreed, session, b'mask of pair' + _of_pair(one, other))


def own_key(seed: bytes, session: bytes) -> bytes:
    """Returns the key of a client's own mask, 16 bytes."""
    return primitives.derive(seed, session, b'own mask')


def commitment(seed: bytes, session: bytes, client: int) -> bytes:
    """Returns 16 bytes that tell whether a seed is the one that a client chose.

    The paper has none: it lets the server see that shares are wrong. The seed is
    random, so that nothing of it or of the mask follows from this.
    """
    return primitives.derive(
        seed, session, b'commitment' + client.to_bytes(4, 'little')
    )


def add_pairs(
    into: np.ndarray, client: int, keys: Iterable[tuple[int, bytes]], sign: int = 1
) -> None:
    """Adds a client's masks with others, or takes them off.

    Args:
      into: uint32 [length], changed in place, modulo 2^32.
      client: Whose masks.
      keys: The other client, and the key of the mask.
      sign: 1 or -1, which takes them off.
    """
    for other, key in keys:
        mask = primitives.mask(key, len(into))
        if (client < other) == (sign > 0):
            into += mask
        else:
            into -= mask


def reduce(vector: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Returns a vector modulo 2^b, uint32 [length]."""
    # 2^b divides 2^32, so that only the end of a sum has to be reduced.
    return vector & np.uint32(2**parameters.bits - 1)
