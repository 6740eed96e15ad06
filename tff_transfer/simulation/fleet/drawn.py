"""Devices by chance: log-normal speeds and bandwidths, as of phones.

The defaults. Speed: MobileNetV2, 0.6 GFLOPs, takes 75 ms on one core of a Pixel 1
(Sandler et al. 2018, table 4). Bandwidths: Wang et al. 2021, "A field guide to
federated optimization", section 4.3. Spread: of a log-normal distribution with a
standard deviation of 1 in the logarithm, the fastest and the slowest hundredth are 100
times apart, as far as Huba et al. 2022 ("Papaya", figure 2) saw the times of clients.
"""

import dataclasses

import numpy as np

from tff_transfer import randomness
from tff_transfer.options import option
from tff_transfer.simulation.fleet.availability import always
from tff_transfer.simulation.fleet.devices import Devices
from tff_transfer.simulation.fleet.fleet import Fleet


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Devices drawn from distributions, always there."""

    speed: float = option(
        8e9,
        'The median speed of a device, floating point operations a second.',
        above=0,
    )
    speed_spread: float = option(
        1.0, 'The standard deviation of the logarithm of speeds.', at_least=0
    )
    up: float = option(
        0.25e6, 'The median bandwidth to the server, bytes a second.', above=0
    )
    down: float = option(
        0.75e6, 'The median bandwidth from the server, bytes a second.', above=0
    )
    bandwidth_spread: float = option(
        1.0,
        'The standard deviation of the logarithm of bandwidths, of which a device has'
        ' both low or both high.',
        at_least=0,
    )
    latency: float = option(
        0.1, "Seconds that messages add to a client's round.", at_least=0
    )
    slow_share: float = option(
        0.0,
        'The share of devices that are slower than drawn, by --NAME.slow_factor.',
        at_least=0,
        at_most=1,
    )
    slow_factor: float = option(10.0, 'How many times slower they are.', at_least=1)
    dropout: float = option(
        0.0,
        'The probability that a client that was asked does not report, in each round.',
        at_least=0,
        below=1,
    )

    def fleet(self, names, seed) -> Fleet:
        """Returns the devices of clients (see `Kind`)."""
        return Fleet(
            self.devices(len(names), seed), always(len(names)), self.dropout, seed
        )

    def devices(self, count: int, seed: int) -> Devices:
        """Draws so many devices."""

        def drawn(purpose: str, spread: float) -> np.ndarray:
            draw = randomness.generator(seed, purpose)
            return np.exp(spread * draw.standard_normal(count))

        order = randomness.generator(seed, 'slow devices').permutation(count)
        slow = order < round(self.slow_share * count)
        speeds = self.speed * drawn('device speeds', self.speed_spread)
        network = drawn('device bandwidths', self.bandwidth_spread)
        return Devices(
            np.where(slow, speeds / self.slow_factor, speeds),
            self.up * network,
            self.down * network,
            self.latency,
        )
