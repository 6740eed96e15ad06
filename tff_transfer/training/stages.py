"""Rounds in which the same weights are trained: their process, state and evaluation."""

import collections
import copy
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tree

from tff_transfer import runtime
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.computations import Kept
from tff_transfer.generation.sampling import Sampler, grid_labels
from tff_transfer.records import samples
from tff_transfer.records.metrics import SIMULATED
from tff_transfer.simulation.timing.synchronous import Synchronous
from tff_transfer.training import assembled, asynchronous, columns
from tff_transfer.training.asynchronous import Asynchronous
from tff_transfer.training.client_states import ClientStates
from tff_transfer.training.config import Config
from tff_transfer.training.evaluation import Evaluator
from tff_transfer.training.own_models import OwnModels
from tff_transfer.training.participants import Turnout
from tff_transfer.training.round_bytes import RoundBytes
from tff_transfer.training.setup import Setup
from tff_transfer.training.stored import Stored

# Samples of a class that are shown.
_COLUMNS = 10


class Stage:
    """Rounds of a method.

    A state has the process's as `server`; as `kept` the index of what the seen clients
    keep (`client_states`), where they keep anything; and as `observed` what is known of
    them of former rounds, where the choice of later ones hangs on it.

    Attributes:
      setup: What is trained.
      rounds: The numbers of its rounds.
      participants: Who takes part in these.
      stored: The files of what is kept of single clients.
    """

    def __init__(
        self,
        config: Config,
        setup: Setup,
        rounds: range,
        run_dir: pathlib.Path | None = None,
    ):
        self.setup, self.rounds = setup, rounds
        if registry.name_of(config.algorithm) in registry.IN_ONE_PASS:
            once = dataclasses.replace(config.training, adaptation_epochs=(1,))
            config = dataclasses.replace(config, training=once)
        self._config = config.training
        self._made = made = assembled.assemble(config, setup)
        self._method, self._composed = made.method, made.composed
        self._bytes = RoundBytes(made)
        self._mechanism, self.participants = made.mechanism, made.participants
        self._clip = config.privacy.clip if config.private else None
        self._target = getattr(config.attack, 'target', None)
        self._evaluator = Evaluator(setup.model, setup.data, setup.transform)
        self._sampler = None
        if setup.model.generate is not None:
            self._shown = grid_labels(setup.data.num_classes, _COLUMNS)
            self._sampler = Sampler(setup.model, len(self._shown))
        files = _files(run_dir, rounds)
        self._states = None
        if self._composed.kept is not None:
            self._states = ClientStates(
                self._composed.kept, files['clients'], self._first_of
            )
        self._asynchronous, last = None, None
        if not isinstance(config.timing, Synchronous):
            self._asynchronous = Asynchronous(
                config.timing,
                self._composed,
                self.participants,
                self._states,
                files['last_updates'],
            )
            if self._asynchronous.last is not None:
                last = self._asynchronous.last.rows
        self.stored = Stored(self._states, last)
        self._models = OwnModels(
            self._method,
            made.context,
            self._composed,
            self.participants.setup,
            self._config,
            self.participants.gathered,
            self._states,
            made.first_of,
        )

    def _first_of(self, client: int) -> Kept:
        """Returns what one of the participants keeps before its first round."""
        return self._made.first_of(self.participants.setup.seen[client])

    def repeated(self, seen: np.ndarray, seed: int) -> 'Stage':
        """Returns the same rounds of other clients, for which nothing is made anew.

        Args:
          seen: The numbers of the clients that train, as many as before.
          seed: The seed of cohorts and batches; that of noise is the runtime's.

        Returns:
          The rounds; nobody has a model of its own there.
        """
        again = copy.copy(self)
        again.setup = dataclasses.replace(self.setup, seen=seen)
        again._config = dataclasses.replace(self._config, seed=seed)
        again.participants = dataclasses.replace(
            self.participants, setup=again.setup, config=again._config
        )
        return again

    def initialize(self) -> Any:
        """Returns the state at the start."""
        kept = ()
        if self._states is not None:
            kept = self._states.empty_index(len(self.participants.setup.seen))
        with runtime.in_round(0):
            server = self._composed.process.initialize()
        observed = self.participants.nothing_observed()
        under_way = ()
        if self._asynchronous is not None:
            under_way = self._asynchronous.initialize()
        return collections.OrderedDict(
            server=server, kept=kept, observed=observed, under_way=under_way
        )

    def next(self, state, round_number: int) -> tuple[Any, dict[str, float]]:
        """Returns the state after a round, and the columns of `metrics.csv` it fills.

        Those are what `columns.of_training` gives, and the bytes of all its clients.
        """
        losses_of = functools.partial(self._losses, state)
        if self._asynchronous is not None:
            return self._step(state, round_number, losses_of)
        turnout = self.participants.turnout(state['observed'], round_number, losses_of)
        cohort = self.participants.cohort(turnout, round_number)
        kept, more = state['kept'], ()
        if self._states is not None:
            more = (self._states.take(kept, turnout.clients),)
        told = self.participants.told(turnout, round_number)
        if told is not None:
            more = (*more, runtime.StackedClients(told))
        with runtime.in_round(round_number):
            server, metrics, *now = self._composed.process.next(
                state['server'], cohort, *more
            )
        if self._states is not None:
            kept = self._stored(kept, turnout, *now)
        if self._method.choices is not None:
            server = server._replace(server=self._with_best_choice(server.server))
        observed = self.participants.observed(
            state['observed'], turnout, round_number, losses_of
        )
        after = collections.OrderedDict(
            state, server=server, kept=kept, observed=observed
        )
        if self._mechanism is None:
            trained = np.count_nonzero(np.diff(cohort.row_splits))
            row = columns.of_training(self.setup.model.task, metrics, trained)
        else:  # Of what clients did nothing is told but by what had noise added.
            row = {columns.EPSILON: self._mechanism.epsilon(round_number)}
        row |= self._bytes.of_round(self.participants, turnout, metrics)
        if self.timed:
            row[SIMULATED] = turnout.ends
        return after, row

    def _step(
        self, state, round_number: int, losses_of
    ) -> tuple[Any, dict[str, float]]:
        """Returns what `next` does, of a server that steps as clients report."""
        step = self._asynchronous.next(state, round_number, losses_of)
        task = self.setup.model.task
        row = columns.of_training(task, step.metrics, step.trained) | step.row
        return step.state, row | self._bytes.of_step(step)

    def _stored(self, kept, turnout: Turnout, now) -> np.ndarray:
        """Returns the index of what clients keep, once a round's have it stored.

        Who did nothing in it is not among those that took part.
        """
        took_part = turnout.epochs > 0
        if not took_part.all():
            now = [its for its, did in zip(now, took_part, strict=True) if did]
        return self._states.put(kept, turnout.clients[took_part], now)

    def audited(self, state, round_number: int) -> dict[str, Any]:
        """Returns what a round is about to do with clients, for `audit.jsonl`.

        Args:
          state: The state before it.
          round_number: The round, of a private run.

        Returns:
          The names of its clients, the bytes that leave each of them by what they are,
          and the clipping norm and the noise multiplier that are applied.
        """
        losses_of = functools.partial(self._losses, state)
        turnout = self.participants.turnout(state['observed'], round_number, losses_of)
        clients = self.participants.setup.seen[turnout.clients]
        leaves = tree.flatten_with_path(state['server'].aggregator)
        norms = [float(str(leaf)) for path, leaf in leaves if 'l2_norm_clip' in path]
        return {
            'round': round_number,
            'clients': [self.setup.data.client_ids[client] for client in clients],
            'sent': {'update': self._made.bytes(self._mechanism.cohort)[0]},
            # An adaptive one is in the state.
            'clip': norms[0] if norms else self._clip,
            'noise_multiplier': self._mechanism.noise_multiplier,
        }

    @property
    def coded(self) -> tuple[str, ...]:
        """The directions whose bytes are told entropy coded too (see `RoundBytes`)."""
        return self._bytes.coded

    @property
    def timed(self) -> bool:
        """Whether simulated time is told.

        Not where something is promised of clients' data: how long they take hangs on
        how many examples they have.
        """
        return self.participants.devices is not None and self._mechanism is None

    @property
    def measured(self) -> tuple[str, ...]:
        """The columns of what method and aggregation measure."""
        of_steps = () if self._asynchronous is None else asynchronous.MEASURED
        return (*self._composed.measured, *of_steps) if self._mechanism is None else ()

    def backdoor(self, state) -> dict[str, float]:
        """Returns the column that says how well a backdoor does, if there is one."""
        data = self.setup.triggered
        if data is None or not len(data.y):
            return {}
        judge = self._evaluator.of_inputs(data)
        found = judge.per_example(self.weights(state), np.arange(len(data.y)))
        return {columns.BACKDOOR: float(np.mean(found['predicted'] == self._target))}

    def _losses(self, state, clients: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what the losses of a state's model come to (`participants.LossesOf`).

        Args:
          state: The state, of whose model clients have what a new one gets.
          clients: Their numbers among the seen ones.
        """
        seen = self.participants.setup.seen[clients]
        return self._evaluator.losses(self.weights(state), seen)

    def _with_best_choice(self, server) -> Any:
        """Returns the method's state with the best of the weights it leaves."""
        data = self.setup.data
        rows = np.flatnonzero(np.isin(data.client_of_row, self.setup.seen))
        rows = rows[~data.is_train[rows]]

        task = self.setup.model.task

        def decides(weights) -> float:
            return np.mean(self._evaluator.per_example(weights, rows)[task.decides])

        # The last of equally good ones.
        choices = [*self._method.choices(server).values()][::-1]
        best = task.best([decides(weights) for weights in choices])
        return self._method.with_weights(server, choices[best])

    def chosen(self, state) -> dict[str, str]:
        """Returns what was chosen of what a round left, for the report."""
        if self._mechanism is not None:
            return {'privacy': self._mechanism.described(int(state['server'].round))}
        if self.own_models and len(self._config.adaptation_epochs) > 1:
            return {'epochs of adaptation': str(self.adaptation_epochs(state))}
        if self._method.choices is None:
            return {}
        server = state['server'].server
        found = [
            said
            for said, weights in self._method.choices(server).items()
            if all(map(np.array_equal, weights, server.weights))
        ]
        return {'chosen on seen clients': found[-1]} if found else {}

    @property
    def adapts(self) -> bool:
        """Whether a client that never took part makes a model of its own first.

        It does so on its training examples, so that only its others may judge it.
        """
        return self.own_models and self._models.adapts

    def weights(self, state) -> list[np.ndarray]:
        """Returns the model's weights, in the order of `Model.initial_weights`."""
        return self._models.weights(state, self._models.of_others(state))

    def weights_of(self, state, client: int) -> list[np.ndarray]:
        """Returns the weights of a client's own model (see `OwnModels`)."""
        return self._models.weights_of(state, client)

    def adaptation_epochs(self, state) -> int:
        """Returns how long a client adapts (see `OwnModels.epochs`)."""
        return self._models.epochs(state)

    @property
    def own_models(self) -> bool:
        """Whether each client is evaluated with a model of its own."""
        return self._method.personal is not None or bool(self._made.context.personal)

    @property
    def own_weights(self) -> bool:
        """Whether those models are weights, which `weights_of` gives."""
        return self.own_models and self._method.outputs is None

    def after(self, head: Sequence[np.ndarray], observed: Any) -> Any:
        """Returns the state that starts with the weights of a head.

        Args:
          head: The weights.
          observed: What was observed of the rounds that trained it, which holds on.
        """
        state = self.initialize()
        server = state['server'].server
        weights = (*server.weights[: -len(head)], *head)
        server = self._method.with_weights(server, weights)
        server = state['server']._replace(server=server)
        return collections.OrderedDict(state, server=server, observed=observed)

    def samples(self, state) -> np.ndarray | None:
        """Returns a grid of what a generative model makes, a row for each class.

        The same is drawn after every round, and in every run.

        Returns:
          uint8 [height, width, channels]; None of a model that generates nothing.
        """
        if self._sampler is None:
            return None
        images = self._sampler.images(self.weights(state), self._shown, seed=0)
        return samples.grid(images, _COLUMNS)

    def per_example(self, state, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what is measured of each row (see `Evaluator`)."""
        if self.own_models:
            return self._models.per_example(state, rows)
        return self._evaluator.per_example(self.weights(state), rows)


def _files(run_dir: pathlib.Path | None, rounds: range) -> dict[str, Any]:
    """Returns where what is kept of clients is stored; temporary files if None."""
    names = ('clients', 'last_updates')
    if run_dir is None:
        return dict.fromkeys(names)
    return {name: run_dir / f'{name}_{rounds.start}' for name in names}


def stages(
    config: Config, setup: Setup, run_dir: pathlib.Path | None = None
) -> list[Stage]:
    """Returns the stages of a run.

    Args:
      config: How it is trained, resolved.
      setup: What is trained.
      run_dir: Where what clients keep is stored; in temporary files if not given.
    """
    of_one = registry.name_of(config.algorithm) in registry.OF_ONE_ROUND
    last = 1 if of_one else config.training.rounds
    found, rounds = [], range(1, last + 1)
    if setup.first is not None:
        count = config.model.head_rounds
        found.append(Stage(config, setup.first, rounds[:count], run_dir))
        rounds = rounds[count:]
    return [*found, Stage(config, setup, rounds, run_dir)]
