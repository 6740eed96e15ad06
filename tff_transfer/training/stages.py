"""Rounds in which the same weights are trained: their process, state and evaluation."""

import collections
import copy
import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tree

from tff_transfer import runtime
from tff_transfer.aggregation.robust import Robust
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.compose import compose
from tff_transfer.algorithms.computations import NOTHING_TOLD, Settings
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.simulation.selection.registry import OF_MECHANISM
from tff_transfer.simulation.timing.synchronous import Synchronous
from tff_transfer.training import (
    asynchronous,
    client_settings,
    columns,
    devices,
    hostile,
    robust_runs,
)
from tff_transfer.training.asynchronous import Asynchronous
from tff_transfer.training.client_states import ClientStates
from tff_transfer.training.config import Config
from tff_transfer.training.evaluation import Evaluator
from tff_transfer.training.methods import mechanism_of, method_of
from tff_transfer.training.own_models import OwnModels
from tff_transfer.training.participants import Participants, Turnout
from tff_transfer.training.setup import Setup


class Stage:
    """Rounds of a method.

    A state has the process's as `server`; as `kept` the index of what the seen clients
    keep (`client_states`), where they keep anything; and as `observed` what is known of
    them of former rounds, where the choice of later ones hangs on it.

    Attributes:
      setup: What is trained.
      rounds: The numbers of its rounds.
      participants: Who takes part in these.
    """

    def __init__(
        self,
        config: Config,
        setup: Setup,
        rounds: range,
        run_dir: pathlib.Path | None = None,
    ):
        self.setup, self.rounds = setup, rounds
        self._config = config.training
        trained, public = robust_runs.public_clients(config, setup.seen)
        self._name = registry.name_of(config.algorithm)
        if self._name in registry.IN_ONE_PASS:
            self._config = dataclasses.replace(self._config, adaptation_epochs=(1,))
        self._method, context = method_of(config, setup.model, len(trained))
        self._context = context
        self._mechanism, self._secure, self._robust = None, None, None
        aggregator, cohort = None, None
        if isinstance(config.aggregation, Robust):
            self._robust = config.aggregation
            aggregator = self._robust.aggregator(
                self._config.clients_per_round, self._config.seed
            )
        if isinstance(config.aggregation, Secure):
            self._secure = config.aggregation
            aggregator = self._secure.aggregator(
                self._config.clients_per_round, self._config.weighting
            )
        if config.private:
            self._clip = config.privacy.clip
            self._mechanism = mechanism_of(config, context)
            by_noise = config.privacy.aggregator(self._mechanism)
            if by_noise is not None:
                aggregator, cohort = by_noise, self._mechanism.cohort
        settings = client_settings.of(config, setup.data)
        has_rates = settings is not None and settings.rate is not None
        falsifies = hostile.falsifies(config)
        among = dataclasses.replace(setup, seen=trained)
        self.participants = Participants(
            self._config,
            among,
            self._name,
            rule=config.selection
            if self._mechanism is None
            else OF_MECHANISM[self._mechanism.sampling],
            held_out=getattr(config.algorithm, 'validation_fraction', 0.0),
            settings=settings,
            hostile=hostile.clients(config, len(setup.data)) if falsifies else None,
        )
        told = Settings(np.float32(1)) if has_rates else NOTHING_TOLD
        if falsifies:
            told = told._replace(hostile=np.bool_(False), key=np.zeros(2, np.int32))
        self._target = getattr(config.attack, 'target', None)
        self._composed = compose(
            self._method,
            context,
            aggregator,
            cohort=cohort,
            compression=_given(config.compression),
            compression_down=_given(config.compression_down),
            settings=told,
            attack=config.attack if falsifies else None,
            public=self._public(public),
        )
        bytes_each = self._bytes(self._config.clients_per_round)
        self.participants = dataclasses.replace(
            self.participants, devices=devices.of(config, among, *bytes_each)
        )
        self._evaluator = Evaluator(setup.model, setup.data, setup.transform)
        self._states, self._needed = None, {}
        if self._composed.kept is not None:
            path = None if run_dir is None else run_dir / f'clients_{rounds.start}'
            self._states = ClientStates(self._composed.kept, path)
        self._asynchronous = None
        if not isinstance(config.timing, Synchronous):
            self._asynchronous = Asynchronous(
                config.timing,
                self._composed,
                self.participants,
                self._states,
                None if run_dir is None else run_dir / f'last_updates_{rounds.start}',
            )
        self._models = OwnModels(
            self._method,
            context,
            self._composed,
            setup,
            self._config,
            self.participants.gathered,
            self._states,
        )

    def _public(self, clients: np.ndarray) -> PublicExamples | None:
        """Returns some clients' training examples as the server's own, if any."""
        if not len(clients):
            return None
        cohort = self.participants.gathered(self.setup.data, clients, 1, 0)
        return PublicExamples(
            cohort.examples,
            cohort.batch_size,
            self._config.client_epochs,
            self._config.seed,
        )

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
        row = {}
        if self._mechanism is None:
            trained = np.count_nonzero(np.diff(cohort.row_splits))
            row = columns.of_training(self.setup.model.task, metrics, trained)
        else:  # Of what clients did nothing is told but by what had noise added.
            row = {columns.EPSILON: self._mechanism.epsilon(round_number)}
        receivers = len(cohort)
        senders = np.count_nonzero(turnout.epochs) + turnout.late
        if self._name in registry.IN_ONE_PLACE:
            receivers = senders = 0
        if self._mechanism is not None:
            receivers = senders = self._mechanism.cohort
        up, down = self._bytes(receivers)
        receivers += turnout.asked
        row['bytes/up'], row['bytes/down'] = up * senders, down * receivers
        if self.timed:
            row[columns.SIMULATED] = turnout.ends
        return after, row | self._coded(metrics, senders, receivers)

    def _step(
        self, state, round_number: int, losses_of
    ) -> tuple[Any, dict[str, float]]:
        """Returns what `next` does, of a server that steps as clients report."""
        step = self._asynchronous.next(state, round_number, losses_of)
        task = self.setup.model.task
        row = columns.of_training(task, step.metrics, step.trained) | step.row
        senders, (up, down) = step.reported, self._bytes(step.reported)
        row['bytes/up'], row['bytes/down'] = up * senders, down * step.receivers
        return step.state, row | self._coded(step.metrics, senders, step.receivers)

    def _coded(self, metrics, senders: int, receivers: int) -> dict[str, int]:
        """Returns the columns of what entropy coding would make of a round's bytes."""
        row, beside = {}, self._composed.bytes_beside
        for name in self.coded:
            of = {'up': senders, 'down': receivers}[name]
            found = int(metrics['coded'][name]) * (1 if name == 'up' else receivers)
            row[columns.CODED.format(name)] = found + beside[name] * of
        return row

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
            'sent': {'update': self._bytes(self._mechanism.cohort)[0]},
            # An adaptive one is in the state.
            'clip': norms[0] if norms else self._clip,
            'noise_multiplier': self._mechanism.noise_multiplier,
        }

    @property
    def coded(self) -> tuple[str, ...]:
        """The directions of which it is told what entropy coding would make of them.

        None where something is promised of clients' data: it hangs on these.
        """
        return tuple(self._composed.bytes_beside) if self._mechanism is None else ()

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
          clients: Their numbers among the seen ones, whose training examples judge it;
            of a client without examples the losses are 0.
        """
        data = self.setup.data
        rows = [
            np.r_[data.train_rows(c)] for c in self.participants.setup.seen[clients]
        ]
        found = self._evaluator.per_example(
            self.weights(state), np.concatenate([*rows, np.zeros(0, np.int64)])
        )['loss']
        ends = np.cumsum([len(mine) for mine in rows], dtype=np.int64)
        found, counts = (
            found.astype(np.float64),
            np.maximum(np.diff(ends, prepend=0), 1),
        )
        names = {'losses': found, 'squared_losses': np.square(found)}
        return {
            name: np.array([np.sum(x) for x in np.split(values, ends)[:-1]]) / counts
            for name, values in names.items()
        }

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
    def keeps(self) -> bool:
        """Whether anything of single clients is kept that a state only points to."""
        return bool(self._stores)

    @property
    def _stores(self) -> dict[str, ClientStates]:
        """The files of that, by what it is."""
        found = {'kept': self._states}
        if self._asynchronous is not None and self._asynchronous.last is not None:
            found['last'] = self._asynchronous.last.rows
        return {name: store for name, store in found.items() if store is not None}

    def _indexes(self, state) -> dict[str, np.ndarray]:
        """Returns where a state has its rows of each of them."""
        found = {'kept': state['kept']}
        if 'last' in self._stores:
            found['last'] = state['under_way']['last']['index']
        return found

    def need(self, states: Mapping[int, Any]) -> None:
        """Says that checkpoints hold some states or will: what clients keep stays.

        Args:
          states: The states by round.
        """
        self._needed |= {number: self._indexes(s) for number, s in states.items()}
        for name, store in self._stores.items():
            store.need([indexes[name] for indexes in self._needed.values()])

    def forget(self, rounds: Sequence[int]) -> None:
        """Says which rounds checkpoints hold still."""
        self._needed = {n: of for n, of in self._needed.items() if n in rounds}

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
        return self._method.personal is not None or bool(self._context.personal)

    @property
    def own_weights(self) -> bool:
        """Whether those models are weights, which `weights_of` gives."""
        return self.own_models and self._method.outputs is None

    def _bytes(self, cohort: int) -> tuple[int, int]:
        """Returns what a client sends and gets in a round."""
        up, down = self._composed.bytes_up, self._composed.bytes_down
        if self._mechanism is not None and self._mechanism.bytes_up is not None:
            up = self._mechanism.bytes_up
        if self._secure is not None:
            numbers = up // 4  # The update and the weight.
            up, more = self._secure.bytes(cohort, numbers)
            down += more
        if self._robust is not None:
            # Without the weight.
            more_up, more_down = self._robust.bytes(up // 4 - 1)
            up, down = up + more_up, down + more_down
        return up, down

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

    def per_example(self, state, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what is measured of each row (see `Evaluator`)."""
        if self.own_models:
            return self._models.per_example(state, rows)
        return self._evaluator.per_example(self.weights(state), rows)


def _given(compression) -> Any | None:
    return None if isinstance(compression, NoCompression) else compression


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
