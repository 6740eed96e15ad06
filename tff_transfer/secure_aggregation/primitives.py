"""The cryptography: agreed keys, masks, sealed messages, shared secrets.

X25519, HKDF-SHA256, AES-128 in counter mode and in GCM are those of `cryptography`,
Shamir's scheme over GF(2^128) that of `pycryptodome`. A secret that is shared among
clients is a multiple of 16 bytes.
"""

import os
from collections.abc import Callable, Mapping

import numpy as np
from Crypto.Protocol.SecretSharing import Shamir
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tff_transfer.secure_aggregation.errors import BadKey, TamperedShares

# Gives as many random bytes as it is asked for.
Source = Callable[[int], bytes]
OPERATING_SYSTEM: Source = os.urandom

# Bytes of a key of X25519, public or secret; of a symmetric key, which is also a block
# of a shared secret; of what AES-GCM adds: nonce and tag.
KEY, BLOCK, NONCE, TAG = 32, 16, 12, 16


def key_pair(source: Source) -> tuple[bytes, bytes]:
    """Returns a secret and a public key of X25519 (RFC 7748), 32 bytes each."""
    secret = source(KEY)
    return secret, public_key(secret)


def public_key(secret: bytes) -> bytes:
    """Returns the public key of a secret one, 32 bytes both."""
    pair = x25519.X25519PrivateKey.from_private_bytes(secret)
    return pair.public_key().public_bytes_raw()


def derive(secret: bytes, salt: bytes, purpose: bytes) -> bytes:
    """Returns a key of 16 bytes for one purpose (HKDF-SHA256, RFC 5869)."""
    return HKDF(hashes.SHA256(), BLOCK, salt, purpose).derive(secret)


def agree(secret: bytes, public: bytes) -> bytes:
    """Returns the secret of two parties, 32 bytes: the same for both.

    Raises:
      BadKey: The public key is one of few points with which all agree on the same.
    """
    mine = x25519.X25519PrivateKey.from_private_bytes(secret)
    try:
        return mine.exchange(x25519.X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise BadKey('a public key is a point of low order') from None


def mask(key: bytes, length: int) -> np.ndarray:
    """Returns what a key stretches to, uint32 [length], uniform over all 2^32.

    AES-128 in counter mode from 0: a key must be used for one mask alone.
    """
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(BLOCK))).encryptor()
    return np.frombuffer(stream.update(bytes(4 * length)), '<u4')


def seal(key: bytes, plain: bytes, bound_to: bytes, source: Source) -> bytes:
    """Returns a message that the holder of the key alone reads: 28 bytes longer.

    Args:
      key: 16 bytes.
      plain: The message.
      bound_to: What must be the same where it is opened.
      source: Of the nonce.
    """
    nonce = source(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, bound_to)


def open_sealed(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    """Returns what was sealed.

    Raises:
      TamperedShares: It was sealed with another key, or bound to something else, or
        changed since.
    """
    try:
        return AESGCM(key).decrypt(sealed[:NONCE], sealed[NONCE:], bound_to)
    except InvalidTag:
        raise TamperedShares('a sealed message is not what its sender sealed') from None


def split(secret: bytes, threshold: int, shares: int) -> list[bytes]:
    """Returns the shares of a secret, each as long as it; fewer than t tell nothing.

    The polynomials' coefficients are always drawn from the operating system.

    Args:
      secret: A multiple of 16 bytes, each block of which is shared by itself.
      threshold: t, how many shares give the secret.
      shares: How many there are; share i is that of index i + 1.
    """
    blocks = [
        Shamir.split(threshold, shares, secret[i : i + BLOCK])
        for i in range(0, len(secret), BLOCK)
    ]
    return [b''.join(block[i][1] for block in blocks) for i in range(shares)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Returns the secret of shares, of which t are used.

    Args:
      shares: By index less 1, at least t of equal length.
      threshold: t.
    """
    chosen = sorted(shares.items())[:threshold]
    length = len(chosen[0][1])
    return b''.join(
        Shamir.combine([(i + 1, share[at : at + BLOCK]) for i, share in chosen])
        for at in range(0, length, BLOCK)
    )
