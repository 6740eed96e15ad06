"""Clients by chance, each as likely as any other."""

import dataclasses
from typing import ClassVar

from tff_transfer.data import cohorts


@dataclasses.dataclass(frozen=True)
class Uniform:
    """So many clients, without replacement (McMahan et al. 2017, algorithm 1)."""

    needs: ClassVar[tuple[str, ...]] = ()

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        return cohorts.choose_clients(
            len(known), size, seed=seed, round_number=round_number
        )


@dataclasses.dataclass(frozen=True)
class Poisson:
    """Each client by a draw of its own, so many on average (Poisson sampling)."""

    needs: ClassVar[tuple[str, ...]] = ()

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        return cohorts.sample_clients(
            len(known), size, seed=seed, round_number=round_number
        )


@dataclasses.dataclass(frozen=True)
class RoundRobin:
    """One group of clients after another, so that each one's rounds are far apart."""

    needs: ClassVar[tuple[str, ...]] = ()

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        return cohorts.choose_in_turn(
            len(known), size, seed=seed, round_number=round_number
        )
