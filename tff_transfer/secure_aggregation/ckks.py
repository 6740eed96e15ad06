"""Weighted means under CKKS: the server adds ciphertexts that it cannot read.

Cheon et al. 2017, "Homomorphic encryption for arithmetic of approximate numbers", by
TenSEAL. All clients hold one secret key, so that a client who colludes with the server
reads every other's vector; drop-outs need nothing. Decrypted sums are approximate.
"""

from collections.abc import Sequence

import numpy as np

from tff_transfer.errors import UserError

# 128 bits of security allow 218 bits of modulus at this degree (the homomorphic
# encryption standard, 2018, table 1). Sums need one level: 60 bits for the numbers, and
# 60 that SEAL keeps for keys.
_DEGREE, _MODULUS, _SCALE_BITS = 8192, (60, 60), 40
SLOTS = _DEGREE // 2
# The modulus must hold the scaled sum with its sign, and room for noise.
_LARGEST_SUM = 2.0 ** (_MODULUS[0] - _SCALE_BITS - 2)


def _tenseal():
    try:
        import tenseal
    except ImportError:
        raise UserError(
            'CKKS needs the package tenseal: pip install tenseal==0.3.18'
        ) from None
    return tenseal


def make_key() -> bytes:
    """Returns a context with a new secret key, which clients alone hold.

    Raises:
      UserError: tenseal is not installed.
    """
    ts = _tenseal()
    context = ts.context(
        ts.SCHEME_TYPE.CKKS, _DEGREE, coeff_mod_bit_sizes=list(_MODULUS)
    )
    context.global_scale = 2.0**_SCALE_BITS
    return context.serialize(save_secret_key=True)


def public(key: bytes) -> bytes:
    """Returns the context without the secret key, which is what the server has."""
    context = _tenseal().context_from(key)
    context.make_context_public()
    return context.serialize()


def encrypt(
    context: bytes, vector: np.ndarray, weight: float, clients: int
) -> list[bytes]:
    """Returns a client's weight * vector and its weight, as ciphertexts of 4,096 each.

    Args:
      context: Of `make_key` or `public`.
      vector: float [length], finite.
      weight: Of the client, at least 0.
      clients: The most that may be summed.

    Raises:
      UserError: The sum of so many could be more than the scheme holds, or the vector
        is not finite.
    """
    values = np.append(np.asarray(vector, np.float64) * weight, weight)
    # A negated comparison, so that NaN is refused too.
    if not np.abs(values).max() * clients <= _LARGEST_SUM:
        raise UserError(
            f'the sum of {clients} times the largest weighted value must be finite and'
            f' at most {_LARGEST_SUM:g}: clip, or scale weights down'
        )
    ts = _tenseal()
    loaded = ts.context_from(context)
    return [
        ts.ckks_vector(loaded, values[at : at + SLOTS].tolist()).serialize()
        for at in range(0, len(values), SLOTS)
    ]


def add(context: bytes, encrypted: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Returns the sum of clients' ciphertexts; needs no secret key.

    Args:
      context: Of `public`.
      encrypted: What `encrypt` gave, of each client.
    """
    ts = _tenseal()
    loaded = ts.context_from(context)
    found = []
    for parts in zip(*encrypted, strict=True):
        total, *others = (ts.ckks_vector_from(loaded, part) for part in parts)
        for other in others:
            total += other
        found.append(total.serialize())
    return found


def mean(key: bytes, total: Sequence[bytes]) -> np.ndarray:
    """Returns the weighted mean, float64 [length], which clients decrypt.

    Args:
      key: Of `make_key`.
      total: Of `add`.

    Raises:
      UserError: The sum of all weights is 0 (less than 1e-4, which noise could be).
    """
    ts = _tenseal()
    loaded = ts.context_from(key)
    parts = [ts.ckks_vector_from(loaded, part).decrypt() for part in total]
    values = np.concatenate(parts)
    if values[-1] < 1e-4:
        raise UserError('the weights of all clients are 0: there is no mean')
    return values[:-1] / values[-1]
