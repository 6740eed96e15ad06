"""A backdoor: images with a trigger are to be taken for one class.

Gu et al. 2017, "BadNets", for the trigger, a pattern of single pixels in a corner;
Bagdasaryan et al. 2020, "How to backdoor federated learning", section 4, for the
clients: they train on their own images, of which some have the trigger and the target's
label, and send their update multiplied, so that it outweighs those of others (model
replacement: by the number of a round's clients over the server's learning rate, where
one client attacks alone). Who attacks knows its own data alone.
"""

import dataclasses

import numpy as np

from tff_transfer import randomness
from tff_transfer.data.federated import FederatedData
from tff_transfer.data.replaced import Replaced
from tff_transfer.errors import UserError
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Backdoor:
    """A backdoor by a trigger of pixels."""

    target: int = option(
        0, 'The class that images with the trigger are to be taken for.', at_least=0
    )
    fraction: float = option(
        0.3,
        "Share of a hostile client's training images that get the trigger.",
        above=0,
        at_most=1,
    )
    size: int = option(
        4,
        'Pixels of the side of the trigger, a chequerboard in the lower right corner.',
        at_least=1,
    )
    scale: float = option(
        5.0, 'What a hostile client multiplies its update by.', above=0
    )

    def stamped(self, images: np.ndarray) -> np.ndarray:
        """Returns images with the trigger.

        Args:
          images: uint8 in [0, 255] or float32 in [0, 1], [n, height, width, channels].

        Returns:
          Copies whose last pixels are darkest and lightest by turns, the very last
          one lightest: that shows on any ground.
        """
        result = np.array(images)
        side = np.arange(self.size)[::-1]
        light = (side[:, None] + side) % 2 == 0
        most = 255 if result.dtype == np.uint8 else 1
        result[:, -self.size :, -self.size :] = most * light[..., None]
        return result

    def poisoned(
        self, data: FederatedData, clients: np.ndarray, seed: int
    ) -> FederatedData:
        """Returns data in which some training images of some clients are triggers.

        Args:
          data: The population, with images.
          clients: The numbers of the hostile ones.
          seed: The seed of which of their images are.

        Raises:
          UserError: The data have no images, too small ones, or no class of the target.
        """
        self._check(data)
        rows = [np.zeros(0, np.int64)]
        for client in clients:
            own = np.r_[data.train_rows(client)]
            draw = randomness.generator(seed, 'backdoor', client)
            rows.append(draw.permutation(own)[: round(self.fraction * len(own))])
        rows = np.sort(np.concatenate(rows))
        y = data.y.copy()
        y[rows] = self.target
        x = Replaced(data.x, rows, self.stamped(data.x[rows]))
        return dataclasses.replace(data, x=x, y=y)

    def judges(self, data: FederatedData, rows: np.ndarray) -> np.ndarray:
        """Returns those of some rows whose class is not the target's already."""
        return rows[data.y[rows] != self.target]

    def sent(self, own, key):
        """Returns the update that a hostile client sends, [size]."""
        return self.scale * own

    def _check(self, data: FederatedData) -> None:
        if data.x.ndim != 4:
            raise UserError(
                f'--attack=backdoor stamps images, but {data.name} has vectors; use'
                ' another attack'
            )
        if self.target >= data.num_classes:
            raise UserError(
                f'--backdoor.target={self.target}, but {data.name} has'
                f' {data.num_classes} classes; give one from 0 to'
                f' {data.num_classes - 1}'
            )
        if self.size > min(data.x.shape[1:3]):
            raise UserError(
                f'--backdoor.size={self.size} is more than the images of {data.name}'
                f' have, {data.x.shape[1]} x {data.x.shape[2]} pixels; give fewer'
            )
