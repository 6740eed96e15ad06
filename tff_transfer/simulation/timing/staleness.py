"""How much less an update counts the longer ago its model was the server's.

The functions of Xie, Koyejo, Gupta 2019, "Asynchronous federated optimization", section
5.2, of the staleness: how many steps the server took since the client got its model.
"""

import dataclasses

import numpy as np

from tff_transfer.errors import UserError
from tff_transfer.options import option

KINDS = ('constant', 'polynomial', 'hinge')


@dataclasses.dataclass(frozen=True)
class OfStaleness:
    """Options of what an update counts by its staleness s.

    It is 1 (constant); (1 + s)^-exponent (polynomial); or 1 up to a grace and
    1 / (1 + slope (s - grace)) above (hinge).
    """

    staleness: str = option(
        'polynomial', 'How updates count less with their staleness.', choices=KINDS
    )
    exponent: float = option(
        0.5, 'Of polynomial: (1 + staleness)^-exponent.', at_least=0
    )
    slope: float = option(
        10.0, 'Of hinge: 1 / (1 + slope (staleness - grace)).', at_least=0
    )
    grace: int = option(4, 'Of hinge: the staleness up to which all count.', at_least=0)

    def check(self, name: str) -> None:
        """Checks that no option is given of another kind of staleness.

        Args:
          name: What the flags begin with.

        Raises:
          UserError: One is.
        """
        kinds = {'exponent': 'polynomial', 'slope': 'hinge', 'grace': 'hinge'}
        for field in dataclasses.fields(self):
            kind = kinds.get(field.name, self.staleness)
            if kind != self.staleness and getattr(self, field.name) != field.default:
                raise UserError(
                    f'--{name}.{field.name} is for --{name}.staleness={kind}, but that'
                    f' is {self.staleness}; leave it out'
                )

    def counts(self, staleness: np.ndarray) -> np.ndarray:
        """Returns what updates of some staleness count, float64 [updates]."""
        if self.staleness == 'constant':
            return np.ones(len(staleness))
        if self.staleness == 'polynomial':
            return (1.0 + staleness) ** -self.exponent
        return 1 / (1 + self.slope * np.maximum(staleness - self.grace, 0.0))


def times(factors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns rows, [rows, ...], each times one of the factors, [rows]."""
    shape = (len(factors), *[1] * (rows.ndim - 1))
    return factors.astype(rows.dtype).reshape(shape) * rows
