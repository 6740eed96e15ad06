"""Sums of clients' vectors: as they are, by secure aggregation, with noise.

With secure aggregation each client's vector becomes integers whose sum the server sees
(`secure_aggregation.quantisation`); a sum is the mean of that times the clients. With
noise a Gaussian is added to each sum, by whoever reveals it: the server, or what stands
for it, is trusted to do so.
"""

import dataclasses
import functools
import math
from collections.abc import Iterable

import numpy as np

from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.privacy import accounting
from tff_transfer.secure_aggregation import costs, graphs, quantisation
from tff_transfer.secure_aggregation.quantisation import Quantiser

_FLOAT = 8  # Bytes of a number that travels as it is.


@dataclasses.dataclass(frozen=True)
class Secure:
    """Secure aggregation."""

    clip: float = option(
        256.0, "Each number of a client's vector is clipped to this, up and down.",
        above=0,
    )  # fmt: skip
    bits: int = option(32, 'Bits of a number that travels.', at_least=2, at_most=32)

    def quantiser(self, clients: int) -> Quantiser:
        """Returns how vectors become integers.

        Raises:
          UserError: There are fewer than 3 clients, or too many for the bits.
        """
        if clients < 3:
            raise UserError(
                f'secure sums hide what a client sends among others; {clients} clients'
                ' are too few, give 3 or more'
            )
        return Quantiser(self.clip, self.bits, clients)


@dataclasses.dataclass(frozen=True)
class Noise:
    """Gaussian noise on each sum, so that all sums together are private."""

    noise_multiplier: float = option(
        1.0, "The noise's standard deviation to the sensitivity of a sum.", above=0
    )
    unit: str = option(
        'client',
        'Whose presence is hidden, with all of its examples, or of one example.',
        choices=('client', 'example'),
    )
    clip: float = option(
        10.0,
        "The norm to which a client's vector is clipped.",
        above=0,
        only_for={'unit': ('client',)},
    )
    delta: float = option(1e-5, 'The delta of the guarantee.', above=0, below=1)

    def epsilon(self, sums: int) -> float:
        """Returns epsilon of some sums, for a client or example added or left out.

        Gaussian mechanisms of one multiplier, each chosen by what the others gave,
        are together one whose multiplier is that by the root of their number (Dong,
        Roth & Su 2022, "Gaussian differential privacy", corollary 3.3): exact.
        """
        if not sums:
            return 0.0
        return accounting.gaussian_epsilon(
            self.noise_multiplier / math.sqrt(sums), self.delta
        )


@dataclasses.dataclass(frozen=True)
class Summing:
    """How sums are made.

    Attributes:
      secure: By secure aggregation, if that.
      noise: With noise, if any.
    """

    secure: Secure | None = None
    noise: Noise | None = None

    @property
    def by_client(self) -> bool:
        """Whether something is done to each client's vector by itself."""
        of_clients = self.noise is not None and self.noise.unit == 'client'
        return self.secure is not None or of_clients

    def total(
        self,
        blocks: Iterable[np.ndarray],
        clients: int,
        sensitivity: float,
        generator: np.random.Generator,
    ) -> np.ndarray:
        """Returns the sum, float64 [length].

        Args:
          blocks: Vectors, float64 [some clients, length]; all clients' in all. Where
            nothing is done by client, one vector may be the sum of some.
          clients: How many clients there are.
          sensitivity: By how much an example changes the sum, in L2 norm.
          generator: The source of the noise.
        """
        total = 0.0
        quantiser = self.secure and self.secure.quantiser(clients)
        of_clients = self.noise is not None and self.noise.unit == 'client'
        for block in blocks:
            if of_clients:
                norms = np.linalg.norm(block, axis=1, keepdims=True)
                block = block * (self.noise.clip / np.maximum(norms, self.noise.clip))
            if quantiser is not None:
                whole = [quantisation.quantise(quantiser, of) for of in block]
                block = np.stack(whole).astype(np.int64)
            total = total + block.sum(0)
        if quantiser is not None:
            total = clients * quantisation.mean(quantiser, total.astype(np.uint32))
        if self.noise is not None:
            most = self.noise.clip if of_clients else sensitivity
            if quantiser is not None:  # Rounding moves each number by up to a unit.
                unit = 2 * quantiser.clip / quantiser.levels
                most += unit * np.sqrt(total.size)
            scale = self.noise.noise_multiplier * most
            total = total + generator.normal(scale=scale, size=total.shape)
        return total

    def bytes(self, clients: int, length: int) -> tuple[int, int]:
        """Returns what each client sends and gets for a sum."""
        if self.secure is None:
            return _FLOAT * length, 0
        # The quantised vector has the client's weight at its end.
        return _secure_bytes(clients, length + 1, self.secure.bits)


@functools.lru_cache(maxsize=64)  # Each level asks.
def _secure_bytes(clients: int, length: int, bits: int) -> tuple[int, int]:
    spent = costs.of_protocol(clients, length, graphs.neighbours(clients), bits)
    return sum(spent.up), sum(spent.down)
