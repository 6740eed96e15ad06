"""The models of their own by which clients are judged, and how they come by them."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tff_transfer import randomness, runtime
from tff_transfer.algorithms.compose import Composed
from tff_transfer.algorithms.computations import Kept
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.data import validation
from tff_transfer.data.cohorts import Cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.training.client_states import ClientStates, took_part
from tff_transfer.training.personal import (
    PersonalEvaluator,
    mean_kept,
    weights_of_client,
)
from tff_transfer.training.setup import Setup
from tff_transfer.training.training_config import TrainingConfig

# Training examples that are gathered for clients at once, in bytes, about: memory that
# the allocator gives again, where it would ask the system for more at a time.
_GATHERED = 1 << 24
# A client's statistics are measured on so many of its examples at most.
_MEASURED_EXAMPLES = 256
# Epochs are chosen by so many clients at most, on held-out training examples.
_CHOOSING = 100


class OwnModels:
    """Evaluates each client by its own model.

    Args:
      method: The method.
      context: What it was made for.
      composed: The process made of it.
      setup: Who there is.
      config: How clients adapt.
      gathered: Gives clients' training examples, of (population, the clients' numbers
        in it, epochs, round).
      states: What the seen clients keep, if they keep anything.
      first_of: Gives what a client of the population keeps before its first round.
    """

    def __init__(
        self,
        method: Method,
        context: Context,
        composed: Composed,
        setup: Setup,
        config: TrainingConfig,
        gathered: Callable[[FederatedData, np.ndarray, int, int], Cohort],
        states: ClientStates | None,
        first_of: Callable[[int], Kept],
    ):
        self._method, self._context, self._composed = method, context, composed
        self._setup, self._config, self._gathered = setup, config, gathered
        self._states, self._first_of = states, first_of
        self._place = {client: number for number, client in enumerate(setup.seen)}
        self._evaluator = PersonalEvaluator(method, context, setup.transform)
        self._measure = tf.function(setup.model.measured, reduce_retracing=True)
        self._chosen = self._others = (None, None)

    @property
    def adapts(self) -> bool:
        """Whether a client that never took part makes a model of its own first.

        It does so on its training examples, so that only its others may judge it.
        """
        return self._method.adapt is not None or not self._context.local_statistics

    def per_example(self, state, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what is measured of each row (see `Evaluator`)."""
        return self._evaluator.per_example(
            self._setup.data,
            state['server'],
            lambda clients: self._kept_of(state, clients),
            rows,
        )

    def of_others(self, state) -> Kept:
        """Returns what a client that never took part has of those that did."""
        if self._others[0] is not state:  # Each block of clients asks for it.
            self._others = (state, self._mean_of_others(state))
        return self._others[1]

    def _mean_of_others(self, state) -> Kept:
        first = self._composed.kept
        if not self._context.personal:
            return first or Kept((), (), ())
        numbers = np.flatnonzero(took_part(state['kept']))
        if not len(numbers):
            return first
        kept = self._states.take(state['kept'], numbers)
        examples = self._setup.data.num_train[self._setup.seen[numbers]]
        together = mean_kept(self._context, kept, examples)
        return together._replace(method=first.method, memory=first.memory)

    def weights(self, state, kept: Kept) -> list[np.ndarray]:
        """Returns the shared model's weights with those that a client keeps.

        They are in the order of `Model.initial_weights`.
        """
        server = state['server']
        shared = self._method.evaluated(server.server)
        trained = self._context.join(shared, kept.personal)
        return [*trained, *(kept.statistics or server.statistics)]

    def weights_of(self, state, client: int) -> list[np.ndarray]:
        """Returns all weights of a client's own model, in the model's order.

        Args:
          state: The state.
          client: The client's number in the population.
        """
        kept = self._kept_of(state, np.array([client]))
        own = tf.nest.map_structure(lambda leaf: tf.constant(leaf[0]), kept)
        server = tf.nest.map_structure(tf.convert_to_tensor, state['server'])
        found = weights_of_client(self._method, self._context, server, own)
        return [np.asarray(weight) for weight in found]

    def epochs(self, state) -> int:
        """Returns by how many passes over its training examples a client adapts.

        Of several that are configured, the one by which clients that never train are
        best, else those that do, on a part of their training examples that is held
        out; of equally good ones the first.
        """
        choices = self._config.adaptation_epochs
        if len(choices) == 1 or not self.adapts:
            return choices[0]
        number = int(state['server'].round)
        if self._chosen[0] != number:
            self._chosen = (number, self._best_epochs(state, choices))
        return self._chosen[1]

    def _best_epochs(self, state, choices: tuple[int, ...]) -> int:
        setup, task = self._setup, self._setup.model.task
        clients = setup.unseen if len(setup.unseen) else setup.seen
        seed = self._config.seed
        order = randomness.generator(seed, 'validation clients').permutation(clients)
        data = validation.held_out(
            setup.data,
            np.sort(order[:_CHOOSING]),
            fraction=validation.HELD_OUT,
            seed=seed,
        )
        rows = np.flatnonzero(~data.is_train)
        if not len(rows):
            return choices[0]

        def decides(epochs: int) -> float:
            found = self._evaluator.per_example(
                data,
                state['server'],
                lambda some: self._adapted(
                    state, data, some, self._first(state, some), epochs
                ),
                rows,
            )
            return float(np.mean(found[task.decides]))

        return choices[task.best([decides(epochs) for epochs in choices])]

    def _kept_of(self, state, clients: np.ndarray) -> Kept:
        """Returns what some clients' models are made of, stacked."""
        if self._method.adapt is not None:
            kept = self._before_adapting(state, clients)
            return self._adapted(
                state, self._setup.data, clients, kept, self.epochs(state)
            )
        return self._before_adapting(state, clients, adapt_new=self.adapts)

    def _before_adapting(
        self, state, clients: np.ndarray, *, adapt_new: bool = False
    ) -> Kept:
        """Returns what clients keep, stacked; those that never took part, the others'.

        Args:
          state: The state.
          clients: Their numbers.
          adapt_new: Whether the latter adapt.
        """
        if self._states is None:
            return Kept((), (), ())
        trained = took_part(state['kept'])
        known = np.array(
            [c in self._place and trained[self._place[c]] for c in clients]
        )
        parts = []
        if known.any():
            places = [self._place[client] for client in clients[known]]
            parts.append(self._states.take(state['kept'], places).arrays)
        if not known.all():
            parts.append(self._of_new(state, clients[~known], adapt_new))
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.argsort(~known, kind='stable'))
        return tf.nest.map_structure(lambda leaf: leaf[order], _joined(parts))

    def _of_new(self, state, clients: np.ndarray, adapt: bool) -> Kept:
        """Returns what clients have that never took part, stacked."""
        if adapt:
            first = self._first(state, clients)
            return self._adapted(
                state, self._setup.data, clients, first, self.epochs(state)
            )
        if not self._context.local_statistics:
            return self._first(state, clients)
        others = self.of_others(state)
        return _stacked([self._measured(state, others, each) for each in clients])

    def _first(self, state, clients: np.ndarray) -> Kept:
        """Returns what clients start from that never took part, stacked."""
        if self._context.local_statistics:
            return _stacked([self.of_others(state)] * len(clients))
        return _stacked([self._first_of(client) for client in clients])

    def _adapted(
        self, state, data: FederatedData, clients: np.ndarray, kept: Kept, epochs: int
    ) -> Kept:
        """Returns what clients come to on their training examples, stacked."""

        def together(block: slice) -> Kept:
            of_block = tf.nest.map_structure(lambda leaf: leaf[block], kept)
            return self._adapted_together(state, data, clients[block], of_block, epochs)

        blocks = self._blocks(data.num_train[clients] * epochs)
        return _joined([together(block) for block in blocks])

    def _adapted_together(
        self, state, data: FederatedData, clients: np.ndarray, kept: Kept, epochs: int
    ) -> Kept:
        number = int(state['server'].round)
        cohort = self._gathered(data, clients, epochs, number)
        more = () if self._composed.kept is None else (runtime.StackedClients(kept),)
        with runtime.in_round(number):
            found = self._composed.adapt()(state['server'], cohort, *more)
        if isinstance(found, runtime.StackedClients):
            return found.arrays
        return _stacked(found)

    def _blocks(self, examples: np.ndarray) -> list[slice]:
        """Returns slices of clients whose examples are gathered together.

        Args:
          examples: How many each of them adapts on, in all epochs.
        """
        row = self._setup.transform(self._setup.data.x[:1]).nbytes
        block = np.cumsum(examples * row) // _GATHERED
        cuts = [0, *(np.flatnonzero(np.diff(block)) + 1), len(examples)]
        return [slice(a, b) for a, b in itertools.pairwise(cuts)]

    def _measured(self, state, others: Kept, client: int) -> Kept:
        """Returns the others' layers with BatchNorm's statistics of a new client."""
        model, data = self._setup.model, self._setup.data
        own = data.train_rows(client)
        if model.statistics.unseen == 'pretrained' or own.start == own.stop:
            return others._replace(statistics=self._composed.kept.statistics)
        inputs = data.x[own.start : min(own.stop, own.start + _MEASURED_EXAMPLES)]
        weights = list(map(tf.constant, self.weights(state, others)))
        measured = self._measure(weights, tf.constant(self._setup.transform(inputs)))
        return others._replace(statistics=tuple(map(np.asarray, measured)))


def _joined(parts: list[Any]) -> Any:
    """Returns what some clients and others have, stacked, as one."""
    if len(parts) == 1:
        return parts[0]
    return tf.nest.map_structure(lambda *leaves: np.concatenate(leaves), *parts)


def _stacked(kept: list[Any]) -> Any:
    return tf.nest.map_structure(lambda *leaves: np.stack(leaves), *kept)
