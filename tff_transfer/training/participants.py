"""Who takes part in a round, how long each trains, and on which examples."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tff_transfer.algorithms import one_round, registry
from tff_transfer.data.cohorts import Cohort, draw_epochs, training_cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.simulation.selection.known import OF_LOSSES, OF_ROUNDS, Known
from tff_transfer.simulation.selection.rule import Rule
from tff_transfer.training.config import TrainingConfig
from tff_transfer.training.setup import Setup

# Of the numbers of some seen clients, what a model's losses over the training examples
# of each come to, float64 [some], by the names of `known.OF_LOSSES`.
LossesOf = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Turnout(NamedTuple):
    """Who takes part in a round.

    Attributes:
      clients: Their numbers among the seen clients, int64 [clients].
      epochs: How many epochs each does, int64 [clients]; 0 if nothing comes of it.
      asked: How many others got the model to tell their loss.
    """

    clients: np.ndarray
    epochs: np.ndarray
    asked: int = 0


@dataclasses.dataclass(frozen=True)
class Participants:
    """The clients of the rounds of a method.

    What is observed of rounds, on which the choice of later ones may hang, is a
    structure of arrays over the seen clients: a part of a run's state.

    Attributes:
      config: How many there are, and how long they train.
      setup: Who may take part, and what is trained.
      method: The method's name in `algorithms.registry`.
      rule: How they are chosen.
      held_out: The share of a client's examples that is its validation part.
    """

    config: TrainingConfig
    setup: Setup
    method: str
    rule: Rule
    held_out: float

    def nothing_observed(self) -> Any:
        """Returns what is observed before the first round; `()` if nothing ever is."""
        count = len(self.setup.seen)
        first = {
            'losses': np.full(count, np.nan),
            'squared_losses': np.full(count, np.nan),
            'last': np.zeros(count, np.int64),
            'times': np.zeros(count, np.int64),
            'seconds': np.full(count, np.nan),
        }
        asked = [name for name in OF_ROUNDS if name in self.rule.needs]
        return collections.OrderedDict((name, first[name]) for name in asked) or ()

    def observed(
        self,
        before: Any,
        turnout: Turnout,
        round_number: int,
        losses_of: LossesOf,
    ) -> Any:
        """Returns what is observed after a round.

        Args:
          before: What was observed before it.
          turnout: Who took part.
          round_number: The round.
          losses_of: Judges the model that clients got.
        """
        if not before:
            return ()
        clients = turnout.clients[turnout.epochs > 0]
        after = collections.OrderedDict((n, v.copy()) for n, v in before.items())
        if any(name in after for name in OF_LOSSES):
            for name, values in losses_of(clients).items():
                if name in after:
                    after[name][clients] = values
        if 'last' in after:
            after['last'][clients] = round_number
        if 'times' in after:
            after['times'][clients] += 1
        return after

    def turnout(
        self,
        observed: Any,
        round_number: int,
        losses_of: LossesOf,
    ) -> Turnout:
        """Returns who takes part in a round (arguments as of `observed`)."""
        if self.method in registry.OF_ALL:
            clients = np.arange(len(self.setup.seen))
            return Turnout(clients, self._epochs(clients, round_number))
        known = self._known(observed)
        asked = []

        def loss_at(places):
            asked.extend(places)
            return losses_of(known.clients[places])['losses']

        places = self.rule.choose(
            known,
            self.config.clients_per_round,
            seed=self.config.seed,
            round_number=round_number,
            loss_of=loss_at,
        )
        clients = known.clients[places]
        return Turnout(
            clients,
            self._epochs(clients, round_number),
            len(np.setdiff1d(asked, places)),
        )

    def _known(self, observed: Any) -> Known:
        seen, needs = self.setup.seen, self.rule.needs
        found = dict(observed or {})
        if 'population' in needs:
            found['population'] = len(seen)
        if 'cohort' in needs:
            found['cohort'] = self.config.clients_per_round
        if 'examples' in needs:
            found['examples'] = self.setup.data.num_train[seen]
        if 'labels' in needs:
            found['labels'] = self._labels
        return Known(np.arange(len(seen)), **found)

    @functools.cached_property
    def _labels(self) -> np.ndarray:
        """How many training examples of each class clients have, [seen, classes]."""
        data = self.setup.data
        of_clients = (data.y[np.r_[data.train_rows(c)]] for c in self.setup.seen)
        counts = [np.bincount(y, minlength=data.num_classes) for y in of_clients]
        return np.stack(counts)

    def _epochs(self, clients: np.ndarray, round_number: int) -> np.ndarray:
        config = self.config
        if self.method in registry.IN_ONE_PLACE:
            return np.array([config.client_epochs])
        epochs, late = draw_epochs(
            self.setup.seen[clients],
            config.min_client_epochs or config.client_epochs,
            config.client_epochs,
            straggler_fraction=config.straggler_fraction,
            seed=config.seed,
            round_number=round_number,
        )
        return np.where(late, 0, epochs) if config.drop_stragglers else epochs

    def cohort(self, turnout: Turnout, round_number: int) -> Cohort:
        """Returns the examples of a round."""
        clients = self.setup.seen[turnout.clients]
        return self.gathered(self.setup.data, clients, turnout.epochs, round_number)

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
