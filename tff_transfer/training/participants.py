"""Who takes part in a round, how long each trains, and on which examples."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tff_transfer.algorithms import one_round, registry
from tff_transfer.algorithms.computations import NOTHING_TOLD, Settings
from tff_transfer.attacks.attackers import keys
from tff_transfer.data.cohorts import Cohort, draw_epochs, training_cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.simulation.selection.known import OF_LOSSES, OF_ROUNDS, Known
from tff_transfer.simulation.selection.rule import Rule
from tff_transfer.training.client_settings import ClientSettings
from tff_transfer.training.devices import Devices
from tff_transfer.training.devices import asked as asked_for
from tff_transfer.training.setup import Setup
from tff_transfer.training.training_config import TrainingConfig

# Of the numbers of some seen clients, what a model's losses over the training examples
# of each come to, float64 [some], by the names of `known.OF_LOSSES`.
LossesOf = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Turnout(NamedTuple):
    """Who takes part in a round.

    Attributes:
      clients: Their numbers among the seen clients, int64 [clients].
      epochs: How many epochs each does, int64 [clients]; 0 if nothing comes of it.
      asked: How many others got the model to tell their loss.
      late: How many of them send what is not used.
      seconds: How long each takes by its device, float64 [clients]; None if these are
        ideal.
      ends: When the round ends, in simulated seconds from the run's start.
    """

    clients: np.ndarray
    epochs: np.ndarray
    asked: int = 0
    late: int = 0
    seconds: np.ndarray | None = None
    ends: float = 0.0


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
      devices: What they run on, if time is simulated.
      settings: How single ones train, if they do not all train alike.
      hostile: The numbers of those that falsify what they send, if an attack has any
        do so.
    """

    config: TrainingConfig
    setup: Setup
    method: str
    rule: Rule
    held_out: float
    devices: Devices | None = None
    settings: ClientSettings | None = None
    hostile: np.ndarray | None = None

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
        found = collections.OrderedDict((name, first[name]) for name in asked)
        if self.devices is not None:
            found['clock'] = np.zeros(())
        return found or ()

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
        if turnout.seconds is not None:
            if 'seconds' in after:
                after['seconds'][clients] = turnout.seconds[turnout.epochs > 0]
            after['clock'] = np.array(turnout.ends)
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
        seen, size = self.setup.seen, self.config.clients_per_round
        if self.devices is None:
            among = np.arange(len(seen))
            return self.chosen(observed, round_number, losses_of, size, among)
        starts = self.devices.starts(float(observed['clock']), seen)
        among = np.flatnonzero(self.devices.fleet.available(starts)[seen])
        size = asked_for(self.config.over_selection, size)
        turnout = self.chosen(observed, round_number, losses_of, size, among)
        return self._on_devices(turnout, starts, round_number)

    def chosen(
        self,
        observed: Any,
        number: int,
        losses_of: LossesOf,
        size: int,
        among: np.ndarray,
    ) -> Turnout:
        """Returns some clients by the rule of selection.

        Args:
          observed: What was observed before.
          number: Of the choice, on which its draws hang: the round's, in rounds.
          losses_of: As of `observed`.
          size: How many are wanted.
          among: The numbers of those who may be chosen, ascending, perhaps fewer than
            are wanted.
        """
        known = self._known(observed).of(among)
        if not len(known):
            return Turnout(among, among)
        asked = []

        def loss_at(places):
            asked.extend(places)
            return losses_of(known.clients[places])['losses']

        places = self.rule.choose(
            known,
            min(size, len(known)),
            seed=self.config.seed,
            round_number=number,
            loss_of=loss_at,
        )
        clients = known.clients[places]
        return Turnout(
            clients,
            self._epochs(clients, number),
            len(np.setdiff1d(asked, places)),
        )

    def _on_devices(
        self, turnout: Turnout, starts: float, round_number: int
    ) -> Turnout:
        """Returns a turnout of which nothing comes of who is late or drops out."""
        devices, clients = self.devices, self.setup.seen[turnout.clients]
        durations = devices.seconds(clients, turnout.epochs)
        used, late, lasts = devices.course(
            clients, durations, self.config.clients_per_round, starts, round_number
        )
        return turnout._replace(
            epochs=np.where(used, turnout.epochs, 0),
            late=np.count_nonzero(late),
            seconds=durations,
            ends=starts + lasts,
        )

    def _known(self, observed: Any) -> Known:
        seen, needs = self.setup.seen, self.rule.needs
        found = dict(observed or {})
        found.pop('clock', None)
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
        if self.settings is not None and config.min_client_epochs is None:
            return self.settings.epochs[self.setup.seen[clients]]
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
        batch_size = self.config.batch_size
        if self.settings is not None:
            batch_size = self.settings.batch_size[clients]
        return self.gathered(
            self.setup.data,
            clients,
            turnout.epochs,
            round_number,
            batch_size,
            # The nodes of a cluster may read the file themselves.
            late=self.config.runtime == 'cluster',
        )

    def examples(self, turnout: Turnout) -> int:
        """Returns how many different examples a round's clients train on."""
        clients = self.setup.seen[turnout.clients[turnout.epochs > 0]]
        examples = self.setup.data.num_train[clients]
        return int(np.minimum(examples, self.config.max_examples or np.inf).sum())

    def told(self, turnout: Turnout, round_number: int) -> Settings | None:
        """Returns what each client is told of itself, arrays [clients], if anything."""
        told, clients = NOTHING_TOLD, self.setup.seen[turnout.clients]
        if self.settings is not None and self.settings.rate is not None:
            told = told._replace(rate=self.settings.rate[clients])
        if self.hostile is not None:
            told = told._replace(
                hostile=np.isin(clients, self.hostile),
                key=keys(clients, self.config.seed, round_number),
            )
        if self.method in registry.BY_NUMBER:
            told = told._replace(number=turnout.clients.astype(np.int32))
        return None if told is NOTHING_TOLD else told

    def gathered(
        self,
        data: FederatedData,
        clients: np.ndarray,
        epochs,
        round_number: int,
        batch_size: int | np.ndarray | None = None,
        late: bool = False,
    ) -> Cohort:
        """Returns the examples of some clients as a round has them.

        Args:
          data: The population.
          clients: Their numbers, [clients].
          epochs: How many epochs each does, or all.
          round_number: The round, on which the order of examples hangs.
          batch_size: Examples of a batch, or each one's; that of all if not given.
          late: See `training_cohort`.
        """
        config, setup = self.config, self.setup
        if self.method in registry.BY_OWN_PASSES:
            epochs = np.minimum(epochs, 1)
        if batch_size is None:
            batch_size = config.batch_size
        of_one = self.method in registry.OF_ONE_ROUND
        return training_cohort(
            data,
            clients,
            batch_size=one_round.BATCH_SIZE if of_one else batch_size,
            epochs=epochs,
            seed=config.seed,
            round_number=round_number,
            max_examples=config.max_examples,
            transform=setup.transform,
            keys=setup.model.takes_keys,
            labels=setup.model.takes_labels,
            augment=setup.augment,
            pooled=self.method in registry.IN_ONE_PLACE,
            held_out=self.held_out,
            late=late,
        )
