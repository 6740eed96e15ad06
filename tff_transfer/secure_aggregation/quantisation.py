"""Vectors of floats as integers modulo 2^b whose sum does not wrap, and back.

A client of weight w sends w (x + c) / 2c in units of 1 / S, rounded, for each value x
of its vector clipped to [-c, c], and w itself as one more number, in units of 1. S is
as large as the sum of n clients of the largest weight W allows: n W S < 2^b. With W = 1
and all weights 1 the mean is the unweighted one.
"""

import dataclasses

import numpy as np

from tff_transfer.errors import UserError


@dataclasses.dataclass(frozen=True)
class Quantiser:
    """How vectors become integers.

    Attributes:
      clip: c, above 0: values are clipped to [-c, c].
      bits: b, from 1 to 32.
      clients: n, the most that may be summed.
      largest_weight: W, the most that a client's weight may be.
    """

    clip: float
    bits: int
    clients: int
    largest_weight: int = 1

    def __post_init__(self):
        if not 1 <= self.bits <= 32:
            raise UserError(f'bits are from 1 to 32, not {self.bits}')
        if not 0 < self.clip < np.inf:
            raise UserError(f'the clip is a finite number above 0, not {self.clip}')
        if self.clients < 1 or self.largest_weight < 1:
            raise UserError('clients and the largest weight are at least 1')
        if self.levels < 1:
            raise UserError(
                f'{self.clients} clients of weight {self.largest_weight} can wrap'
                f' around 2^{self.bits}: take more bits or a smaller largest weight'
            )

    @property
    def levels(self) -> int:
        """S, units for the range of a value of weight 1."""
        return (2**self.bits - 1) // (self.clients * self.largest_weight)


def quantise(
    quantiser: Quantiser,
    vector: np.ndarray,
    weight: int = 1,
    draws: np.random.Generator | None = None,
) -> np.ndarray:
    """Returns a client's integers, uint32 [length + 1], the last one its weight.

    Args:
      quantiser: How.
      vector: float [length], finite.
      weight: From 0 to the largest weight; of 0 the vector counts for nothing.
      draws: For stochastic rounding, by which the expected value is the exact one; if
        none, to the nearest.

    Raises:
      UserError: The vector is not finite, or the weight none of these.
    """
    if weight != int(weight) or not 0 <= weight <= quantiser.largest_weight:
        raise UserError(
            f'a weight is an integer from 0 to {quantiser.largest_weight}, not {weight}'
        )
    if not np.all(np.isfinite(vector)):
        raise UserError('a vector that is not finite cannot be summed')
    clip = quantiser.clip
    clipped = np.clip(np.asarray(vector, np.float64), -clip, clip)
    units = (clipped / clip + 1) * (weight * quantiser.levels / 2)
    offset = 0.5 if draws is None else draws.random(len(clipped))
    whole = np.minimum(np.floor(units + offset), weight * quantiser.levels)
    return np.append(whole, weight).astype(np.uint32)


def mean(quantiser: Quantiser, total: np.ndarray) -> np.ndarray:
    """Returns the weighted mean of the clients' clipped vectors, float64 [length].

    Args:
      quantiser: How they were made integers.
      total: Their sum, uint32 [length + 1].

    Raises:
      UserError: All weights are 0.
    """
    weight = int(total[-1])
    if not weight:
        raise UserError('the weights of all clients are 0: there is no mean')
    share = total[:-1] / (weight * quantiser.levels)
    return (2 * share - 1) * quantiser.clip


def error_bound(
    quantiser: Quantiser, clients: int, weight: int, stochastic: bool = False
) -> float:
    """Returns the most by which `mean` may differ from the mean of clipped vectors.

    Each client's rounding moves the sum by at most half a unit (to the nearest) or less
    than one (stochastic); a unit of the sum is 2c / (S w) of the mean. What clipping
    itself changes is not in it. Arithmetic in float64 adds less than 1e-5 of a unit for
    each client.

    Args:
      quantiser: How vectors become integers.
      clients: How many were summed.
      weight: w, the sum of their weights.
      stochastic: Whether rounding is.
    """
    units = clients * ((1.0 if stochastic else 0.5) + 1e-5)
    return units * 2 * quantiser.clip / (quantiser.levels * weight)
