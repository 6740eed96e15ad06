"""What a robust aggregation is: a rule over updates side by side, and its options."""

import dataclasses
import math
from typing import ClassVar

import tensorflow_federated as tff

from tff_transfer.aggregation.side_by_side import Rule, SideBySide
from tff_transfer.errors import UserError
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Robust:
    """The options of a robust aggregation; each kind has a dataclass of its own.

    Attributes:
      weighted: Whether clients count by `--weighting`.
      by_coordinate: Whether it compares each coordinate of the updates by itself.
    """

    weighted: ClassVar[bool] = False
    by_coordinate: ClassVar[bool] = False

    def check(self, name: str, clients: int) -> None:
        """Checks that a round has clients enough.

        Args:
          name: What the kind is called.
          clients: How many take part in a round.

        Raises:
          UserError: They are too few for what is assumed of attackers.
        """

    def rule(self, most: int) -> Rule:
        """Returns the rule, for `most` rows or, in a round that lacks some, fewer."""
        raise NotImplementedError

    def aggregator(
        self, clients: int, seed: int
    ) -> tff.aggregators.WeightedAggregationFactory:
        """Returns the factory.

        Args:
          clients: How many take part in a round.
          seed: The run's seed.
        """
        return SideBySide(self.rule(clients))

    def bytes(self, numbers: int) -> tuple[int, int]:
        """Returns what a client sends and gets for it besides its update, in bytes.

        Args:
          numbers: How many numbers an update has.
        """
        return 0, 0


@dataclasses.dataclass(frozen=True)
class Bucketed(Robust):
    """Those before which updates may be averaged in buckets."""

    bucket_size: int = option(
        1,
        'Shuffle the clients and average so many of them before the rule; 1: none.',
        at_least=1,
    )

    def rows(self, clients: int) -> int:
        """Returns how many updates the rule sees of so many clients."""
        return math.ceil(clients / self.bucket_size)

    def fewest(self) -> tuple[int, str]:
        """Returns how many rows the rule needs, and why."""
        return 1, ''

    def check(self, name: str, clients: int) -> None:
        """Checks that a round has clients enough (see `Robust.check`)."""
        if self.bucket_size > clients:
            raise UserError(
                f'--{name}.bucket_size={self.bucket_size} is more than'
                f' --clients_per_round={clients}; give at most that'
            )
        needed, why = self.fewest()
        rows = self.rows(clients)
        if rows < needed:
            what = 'clients' if self.bucket_size == 1 else 'buckets of clients'
            raise UserError(
                f'--aggregation={name} needs {needed} {what} a round or more ({why}),'
                f' but has {rows}; give more --clients_per_round, or fewer'
                f' --{name}.attackers'
            )

    def aggregator(
        self, clients: int, seed: int
    ) -> tff.aggregators.WeightedAggregationFactory:
        """Returns the factory (see `Robust.aggregator`)."""
        rule = self.rule(self.rows(clients))
        return SideBySide(rule, bucket_size=self.bucket_size, seed=seed)
