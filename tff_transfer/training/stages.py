"""Rounds in which the same weights are trained: their process, state and evaluation."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_transfer import batch_norm, runtime
from tff_transfer.algorithms import fed_bn
from tff_transfer.data.cohorts import Cohort, choose_clients, training_cohort
from tff_transfer.training import process
from tff_transfer.training.config import Config, TrainingConfig
from tff_transfer.training.evaluation import Evaluator
from tff_transfer.training.setup import Setup

# A client's statistics are measured on so many of its examples at most.
_MEASURED_EXAMPLES = 256


class Stage:
    """Rounds of a process whose state is all on the server.

    Attributes:
      setup: What is trained.
      rounds: The numbers of its rounds.
    """

    def __init__(self, config: TrainingConfig, setup: Setup, rounds: range):
        self.setup, self.rounds = setup, rounds
        self._config = config
        self._process = process.build(config, setup.model)
        self._evaluator = Evaluator(setup.model, setup.data, setup.transform)

    def initialize(self) -> Any:
        """Returns the state at the start."""
        with runtime.in_round(0):
            return self._process.initialize()

    def next(self, state, round_number: int) -> tuple[Any, Mapping]:
        """Returns the state and the metrics after a round."""
        with runtime.in_round(round_number):
            output = self._process.next(state, self.cohort(round_number))
        return output.state, output.metrics

    def weights(self, state) -> list[np.ndarray]:
        """Returns the model's weights, in the order of `Model.initial_weights`."""
        weights = self._process.get_model_weights(state)
        return [*weights.trainable, *weights.non_trainable]

    def bytes_sent(self, state) -> int:
        """Returns how many bytes a client gets, and sends, in a round."""
        return sum(np.asarray(weight).nbytes for weight in self.weights(state))

    def after(self, head: Sequence[np.ndarray]) -> Any:
        """Returns the state that starts with the weights of a head."""
        state = self.initialize()
        weights = self._process.get_model_weights(state)
        trainable = _with_head(weights.trainable, head)
        weights = type(weights)(trainable, weights.non_trainable)
        return self._process.set_model_weights(state, weights)

    def per_example(self, state, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the loss of each row and whether it is right (see `Evaluator`)."""
        return self._evaluator.per_example(self.weights(state), rows)

    def _chosen(self, round_number: int) -> np.ndarray:
        """Returns which of the seen clients take part, [clients]."""
        return choose_clients(
            len(self.setup.seen),
            self._config.clients_per_round,
            seed=self._config.seed,
            round_number=round_number,
        )

    def cohort(self, round_number: int) -> Cohort:
        """Returns the examples of a round."""
        config, setup = self._config, self.setup
        return training_cohort(
            setup.data,
            setup.seen[self._chosen(round_number)],
            batch_size=config.batch_size,
            epochs=config.client_epochs,
            seed=config.seed,
            round_number=round_number,
            max_examples=config.max_examples,
            transform=setup.transform,
            keys=setup.model.takes_keys,
            augment=setup.augment,
        )


class LocalBatchNormStage(Stage):
    """Rounds of FedBN: each seen client has BatchNorm layers of its own.

    The state has the process's as `server`; `kept`, arrays [seen clients, ...] of
    `fed_bn.kept_initially`; and `took_part`, bool [seen clients]. A client that never
    took part is evaluated as unseen ones are: with the scales of the others on
    average, and statistics by the configuration.
    """

    def __init__(self, config, setup, rounds):
        super().__init__(config, setup, rounds)
        self._measure = tf.function(setup.model.measured, reduce_retracing=True)

    def initialize(self):
        """Returns the state at the start."""
        clients = len(self.setup.seen)
        return collections.OrderedDict(
            server=self._process.initialize(),
            kept=tuple(
                np.repeat(array[np.newaxis], clients, axis=0)
                for array in fed_bn.kept_initially(self.setup.model)
            ),
            took_part=np.zeros(clients, bool),
        )

    def next(self, state, round_number):
        """Returns the state and the metrics after a round."""
        chosen = self._chosen(round_number)
        kept = [tuple(array[client] for array in state['kept']) for client in chosen]
        with runtime.in_round(round_number):
            server, metrics, kept_now = self._process.next(
                state['server'], self.cohort(round_number), kept
            )
        arrays = tuple(array.copy() for array in state['kept'])
        for client, values in zip(chosen, kept_now, strict=True):
            for array, value in zip(arrays, values, strict=True):
                array[client] = value
        took_part = state['took_part'].copy()
        took_part[chosen] = True
        now = collections.OrderedDict(server=server, kept=arrays, took_part=took_part)
        return now, metrics

    def weights(self, state):
        """Returns the model's weights with the layers of all clients on average."""
        return self._of_client(state, self._average(state))

    def bytes_sent(self, state):
        """Returns how many bytes a client gets, and sends, in a round."""
        shared = state['server'].weights.trainable
        return sum(np.asarray(weight).nbytes for weight in shared)

    def after(self, head):
        """Returns the state that starts with the weights of a head."""
        state = self.initialize()
        server = state['server']
        shared = _with_head(server.weights.trainable, head)
        weights = type(server.weights)(shared, server.weights.non_trainable)
        return {**state, 'server': server._replace(weights=weights)}

    def per_example(self, state, rows):
        """Returns the loss of each row and whether it is right (see `Evaluator`)."""
        place = {client: place for place, client in enumerate(self.setup.seen)}
        holders = self.setup.data.client_of_row[rows]
        losses = np.zeros(len(rows), np.float32)
        corrects = np.zeros(len(rows), bool)
        average = self._average(state)
        for client in np.unique(holders):
            number = place.get(client)
            if number is not None and state['took_part'][number]:
                kept = tuple(array[number] for array in state['kept'])
                weights = self._of_client(state, kept)
            else:
                weights = self._of_new_client(state, average, client)
            mine = np.flatnonzero(holders == client)
            found = self._evaluator.per_example(weights, rows[mine])
            losses[mine], corrects[mine] = found
        return losses, corrects

    def _of_client(self, state, kept) -> list[np.ndarray]:
        shared = state['server'].weights.trainable
        return fed_bn.joined(self.setup.model, shared, kept)

    def _average(self, state) -> tuple[np.ndarray, ...]:
        """Returns the mean scales, and the statistics of all clients together."""
        if not state['took_part'].any():
            return fed_bn.kept_initially(self.setup.model)
        kept = [array[state['took_part']] for array in state['kept']]
        scales = len(self.setup.model.statistics.scales)
        _, origin = self.setup.model.functional.initial_weights
        moments = batch_norm.moments(kept[scales:], origin)
        pooled = batch_norm.from_moments([m.mean(axis=0) for m in moments], origin)
        means = [array.mean(axis=0) for array in kept[:scales]]
        return (*means, *map(np.asarray, pooled))

    def _of_new_client(self, state, average, client: int) -> list[np.ndarray]:
        """Returns the weights for a client that never took part."""
        model, data = self.setup.model, self.setup.data
        weights = self._of_client(state, average)
        trained, _ = model.split(weights)
        _, pretrained = model.functional.initial_weights
        own = data.train_rows(client)
        if model.statistics.unseen == 'pretrained' or own.start == own.stop:
            return [*trained, *pretrained]
        inputs = data.x[own.start : min(own.stop, own.start + _MEASURED_EXAMPLES)]
        inputs = tf.constant(self.setup.transform(inputs))
        return [*trained, *self._measure(list(map(tf.constant, weights)), inputs)]


def _with_head(trainable: Sequence, head: Sequence[np.ndarray]):
    """Returns trained weights of which the last are a head's, in their container."""
    return type(trainable)([*trainable[: -len(head)], *head])


def stages(config: Config, setup: Setup) -> list[Stage]:
    """Returns the stages of a run.

    Args:
      config: How it is trained.
      setup: What is trained.
    """
    found, training = [], config.training
    rounds = range(1, training.rounds + 1)
    if setup.first is not None:
        count = config.model.head_rounds
        found.append(Stage(training, setup.first, rounds[:count]))
        rounds = rounds[count:]
    statistics = setup.model.statistics
    local = statistics is not None and statistics.local
    kind = LocalBatchNormStage if local else Stage
    return [*found, kind(training, setup, rounds)]
