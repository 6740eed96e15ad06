"""Who takes part in a round, how long each trains, and on which examples."""

import dataclasses

import numpy as np

from tff_transfer.algorithms import one_round, registry
from tff_transfer.data.cohorts import (
    Cohort,
    choose_clients,
    choose_in_turn,
    draw_epochs,
    sample_clients,
    training_cohort,
)
from tff_transfer.data.federated import FederatedData
from tff_transfer.training.config import TrainingConfig
from tff_transfer.training.setup import Setup

# How the clients of a round are drawn, by the name that a private run's mechanism has.
_CHOOSE = {
    'fixed': choose_clients,
    'poisson': sample_clients,
    'in turn': choose_in_turn,
}


@dataclasses.dataclass(frozen=True)
class Participants:
    """The clients of the rounds of a method.

    Attributes:
      config: How many there are, and how long they train.
      setup: Who may take part, and what is trained.
      method: The method's name in `algorithms.registry`.
      sampling: How they are drawn, of `_CHOOSE`.
      held_out: The share of a client's examples that is its validation part.
    """

    config: TrainingConfig
    setup: Setup
    method: str
    sampling: str
    held_out: float

    def chosen(self, round_number: int) -> np.ndarray:
        """Returns which of the seen clients take part, [clients]."""
        if self.method in registry.OF_ALL:
            return np.arange(len(self.setup.seen))
        return _CHOOSE[self.sampling](
            len(self.setup.seen),
            self.config.clients_per_round,
            seed=self.config.seed,
            round_number=round_number,
        )

    def epochs(self, round_number: int) -> np.ndarray:
        """Returns how many epochs each client of a round does, 0 if it is dropped."""
        config = self.config
        if self.method in registry.IN_ONE_PLACE:
            return np.array([config.client_epochs])
        epochs, late = draw_epochs(
            self.setup.seen[self.chosen(round_number)],
            config.min_client_epochs or config.client_epochs,
            config.client_epochs,
            straggler_fraction=config.straggler_fraction,
            seed=config.seed,
            round_number=round_number,
        )
        return np.where(late, 0, epochs) if config.drop_stragglers else epochs

    def cohort(self, round_number: int) -> Cohort:
        """Returns the examples of a round."""
        clients = self.setup.seen[self.chosen(round_number)]
        epochs = self.epochs(round_number)
        return self.gathered(self.setup.data, clients, epochs, round_number)

    def gathered(
        self, data: FederatedData, clients: np.ndarray, epochs, round_number: int
    ) -> Cohort:
        """Returns the examples of some clients as a round has them.

        Args:
          data: The population.
          clients: Their numbers, [clients].
          epochs: How many epochs each does, or all.
          round_number: The round, on which the order of examples hangs.
        """
        config, setup = self.config, self.setup
        if self.method in registry.BY_OWN_PASSES:
            epochs = np.minimum(epochs, 1)
        of_one = self.method in registry.OF_ONE_ROUND
        return training_cohort(
            data,
            clients,
            batch_size=one_round.BATCH_SIZE if of_one else config.batch_size,
            epochs=epochs,
            seed=config.seed,
            round_number=round_number,
            max_examples=config.max_examples,
            transform=setup.transform,
            keys=setup.model.takes_keys,
            augment=setup.augment,
            pooled=self.method in registry.IN_ONE_PLACE,
            held_out=self.held_out,
        )
