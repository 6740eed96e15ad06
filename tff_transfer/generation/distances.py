"""How far two sets of feature vectors are apart, as distributions."""

import dataclasses
import functools

import numpy as np

from tff_transfer import randomness


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussian:
    """The Gaussian of the same mean and covariance as some vectors.

    Attributes:
      mean: float64 [size].
      root: A matrix whose product with its own transpose is the covariance (of n
        vectors that by n - 1), float64 [size, rank].
    """

    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray) -> 'Gaussian':
        """Returns that of two vectors or more, [n, size]."""
        vectors = np.asarray(vectors, np.float64)
        mean = vectors.mean(axis=0)
        apart = (vectors - mean) / np.sqrt(len(vectors) - 1)
        # Of many vectors the triangle of a QR has the same product, and is smaller.
        if len(apart) > apart.shape[1]:
            apart = np.linalg.qr(apart, mode='r')
        return cls(mean, apart.T)

    @functools.cached_property
    def variance(self) -> float:
        """The trace of the covariance."""
        return float(np.sum(self.root**2))


def frechet(one: Gaussian, other: Gaussian) -> float:
    """Returns the squared Frechet distance of two Gaussians.

    Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter 2017, "GANs trained by a two
    time-scale update rule converge to a local Nash equilibrium", equation 6 (FID, there
    of Inception's features): |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)).

    With C = A A' and C' = B B' that last trace is the sum of the singular values of
    A' B, which needs no root of a matrix that is singular where there are fewer
    vectors than numbers in one. Of few vectors the distance is too large: compare such
    of as many.
    """
    shift = float(np.sum((one.mean - other.mean) ** 2))
    shared = np.linalg.svd(one.root.T @ other.root, compute_uv=False).sum()
    return max(0.0, shift + one.variance + other.variance - 2 * float(shared))


def kernel(
    one: np.ndarray, other: np.ndarray, *, blocks: int = 10, seed: int = 0
) -> tuple[float, float]:
    """Returns the squared kernel distance of two sets of vectors, and its error.

    Binkowski, Sutherland, Arbel, Gretton 2018, "Demystifying MMD GANs", section 4
    (KID): the unbiased estimate of the squared maximum mean discrepancy with the kernel
    (x'y / size + 1)^3. It may be negative.

    Args:
      one: float [n, size].
      other: float [m, size].
      blocks: In how many parts, drawn without replacement, both are divided; at least
        two vectors of each in every one. The distance is the mean of the parts', so
        that memory is that of a part's, and the spread of these tells the error.
      seed: Of the division.

    Returns:
      The distance, and its standard error by the spread of the parts, which is nan of
      a single one.
    """
    draw = randomness.generator(seed, 'blocks of a kernel distance')
    parts = (
        np.array_split(np.asarray(of, np.float64)[draw.permutation(len(of))], blocks)
        for of in (one, other)
    )
    found = np.array([_discrepancy(*pair) for pair in zip(*parts, strict=True)])
    error = found.std(ddof=1) / np.sqrt(blocks) if blocks > 1 else np.nan
    return float(found.mean()), float(error)


def _discrepancy(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the unbiased squared maximum mean discrepancy of all pairs."""

    def values(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return (left @ right.T / left.shape[1] + 1) ** 3

    def within(of: np.ndarray) -> float:
        pairs = values(of, of)
        return (pairs.sum() - np.trace(pairs)) / (len(of) * (len(of) - 1))

    return within(one) + within(other) - 2 * values(one, other).mean()
