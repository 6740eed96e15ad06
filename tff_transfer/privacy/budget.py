"""How much noise, in one of two ways, and how far one client reaches."""

import dataclasses
from typing import TypeVar

from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.privacy.accounting import Mechanism, Plan, noise_multiplier_for

_Mechanism = TypeVar('_Mechanism', bound=Mechanism)


@dataclasses.dataclass(frozen=True)
class Budget:
    """The options that all kinds of differential privacy have."""

    noise_multiplier: float | None = option(
        None,
        "The noise's standard deviation to the clipping norm; or target_epsilon.",
        above=0,
    )
    target_epsilon: float | None = option(
        None,
        'The most that epsilon may be after the last round: the least noise that keeps'
        ' it is found.',
        above=0,
    )
    delta: float | None = option(
        None,
        'The delta of the guarantee; if not given, one over the number of clients to'
        ' the power of 1.1.',
        above=0,
        below=1,
    )
    clip: float = option(
        0.1, "The norm to which a client's update is clipped.", above=0
    )

    def check(self, name: str) -> None:
        """Checks that noise is given in one way.

        Args:
          name: What these are the options of, as in the registry.

        Raises:
          UserError: It is given in none or in two.
        """
        if (self.noise_multiplier is None) == (self.target_epsilon is None):
            raise UserError(
                f'--privacy={name} needs --{name}.noise_multiplier or'
                f' --{name}.target_epsilon, one of them'
            )

    @property
    def by_rounds(self) -> tuple[str, ...]:
        """The options given whose effect hangs on how many rounds there are."""
        return () if self.target_epsilon is None else ('target_epsilon',)

    def delta_of(self, plan: Plan) -> float:
        """Returns delta for so many clients."""
        return self.delta or plan.population**-1.1

    def with_noise(self, mechanism: _Mechanism, plan: Plan) -> _Mechanism:
        """Returns a mechanism with the noise that these options ask for.

        Args:
          mechanism: The mechanism, whose own noise multiplier does not matter.
          plan: What it is for.

        Raises:
          UserError: No noise is enough.
        """
        noise = self.noise_multiplier
        if noise is None:
            noise = noise_multiplier_for(self.target_epsilon, plan.rounds, mechanism)
        return dataclasses.replace(mechanism, noise_multiplier=noise)
