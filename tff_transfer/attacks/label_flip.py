"""Label flipping: hostile clients train on wrong labels.

Tolpegin et al. 2020, "Data poisoning attacks against federated learning systems", for
one class that becomes another; Fang et al. 2020, "Local model poisoning attacks to
Byzantine-robust federated learning", section 5.1, for all classes: l becomes L - l - 1.
Who attacks knows its own data alone.
"""

import dataclasses

import numpy as np

from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class LabelFlip:
    """Label flipping."""

    source: int | None = option(
        None,
        'The class whose labels are flipped; of all, class c becomes the c-th from the'
        ' end, if neither is given.',
        at_least=0,
    )
    target: int | None = option(
        None, 'The class that they say then; give both or neither.', at_least=0
    )

    def poisoned(
        self, data: FederatedData, clients: np.ndarray, seed: int
    ) -> FederatedData:
        """Returns data in which the training examples of some clients are flipped.

        Args:
          data: The population.
          clients: The numbers of the hostile ones.
          seed: Not used: nothing is drawn.

        Raises:
          UserError: The classes are not those of the data.
        """
        wanted = [self.source, self.target]
        if (self.source is None) != (self.target is None):
            raise UserError(
                '--labelflip.source and --labelflip.target are given together; give'
                ' both, or neither'
            )
        if self.source is not None and max(wanted) >= data.num_classes:
            raise UserError(
                f'--labelflip has class {max(wanted)}, but {data.name} has'
                f' {data.num_classes} classes; give one from 0 to'
                f' {data.num_classes - 1}'
            )
        flipped = np.arange(data.num_classes, dtype=np.int32)
        if self.source is None:
            flipped = flipped[::-1]
        else:
            flipped[self.source] = self.target
        own = data.is_train & np.isin(data.client_of_row, clients)
        return dataclasses.replace(data, y=np.where(own, flipped[data.y], data.y))
