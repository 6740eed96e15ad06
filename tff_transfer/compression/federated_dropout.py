"""Federated dropout: each client gets, trains and returns a part of the hidden units.

Caldas et al. 2018, "Expanding the reach of federated learning by reducing client
resource requirements", section 3: a fixed number of the units of each fully connected
hidden layer, drawn for each client and round, makes a smaller network. Here what other
layers have, convolutions among them, travels whole.

A ReLU unit whose weights are all zero gives zero and gets no gradient, so that to train
the whole network with zeros for what was dropped is to train the smaller one. As in
dropout (Srivastava et al. 2014, inverted) what the units that stay give is scaled by
the share that stays, and the update scaled back; for the server a weight that a client
did not have has not moved.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import tensorflow as tf

from tff_transfer.compression import rotation
from tff_transfer.options import option
from tff_transfer.vectors import Shapes

# Bytes of the seed that says which units a client has.
_SEED = 8


@dataclasses.dataclass(frozen=True)
class FederatedDropout:
    """Federated dropout."""

    kept: float = option(
        0.75,
        'The share of the units of each hidden layer that a client gets.',
        above=0,
        at_most=1,
    )


class Hidden(NamedTuple):
    """Where the units of a hidden layer are among a model's weights, by numbers.

    Attributes:
      into: The weights whose last axis they are: its kernel, and its bias if it has
        one.
      out: Those whose first axis they are, the next layer's kernel.
    """

    into: tuple[int, ...]
    out: int


@dataclasses.dataclass(frozen=True)
class SubNetworks:
    """The parts of a network that clients get.

    Attributes:
      layers: Its hidden layers.
      shapes: The shapes of its weights.
      share: The share of units that is kept of each layer, one at least.
    """

    layers: Sequence[Hidden]
    shapes: Shapes
    share: float

    def _units(self, layer: Hidden) -> tuple[int, int]:
        """Returns how many units a layer has, and how many are kept."""
        units = self.shapes[layer.out][0]
        return units, max(1, round(self.share * units))

    def draw(self) -> tuple:
        """Draws which units are kept: 1, or else 0, float32 [units] of each layer."""
        seed, found = rotation.draw_seed(), []
        for number, layer in enumerate(self.layers):
            units, kept = self._units(layer)
            place = tf.random.experimental.stateless_shuffle(
                tf.range(units), seed + [0, number]
            )
            found.append(tf.cast(place < kept, tf.float32))
        return tuple(found)

    def part(self, weights: Sequence, kept: Sequence) -> tuple:
        """Returns the weights of a sub-network, in those of the whole.

        Args:
          weights: Those of the whole.
          kept: What `draw` gave.
        """
        return self._scaled(weights, kept, lambda units, few: units / few)

    def whole(self, delta: Sequence, kept: Sequence) -> tuple:
        """Returns the update of the whole network's weights, of a sub-network's."""
        return self._scaled(delta, kept, lambda units, few: few / units)

    def _scaled(self, values: Sequence, kept: Sequence, factor) -> tuple:
        found = list(values)
        for layer, mask in zip(self.layers, kept, strict=True):
            for number in layer.into:
                found[number] = found[number] * mask
            scaled = mask * factor(*self._units(layer))
            found[layer.out] = scaled[:, None] * found[layer.out]
        return tuple(found)

    @property
    def bytes(self) -> int:
        """How many bytes the weights of a sub-network take."""
        shapes = [list(shape) for shape in self.shapes]
        for layer in self.layers:
            _, kept = self._units(layer)
            for number in layer.into:
                shapes[number][-1] = kept
            shapes[layer.out][0] = kept
        return 4 * sum(map(math.prod, shapes))

    @property
    def bytes_down(self) -> int:
        """How many bytes a client gets, with the seed of which units it has."""
        return self.bytes + _SEED
