"""Clients that train at the same time, and a server that steps as they report.

A client trains, in this process, when it is asked: what it will send is then a part of
the run's state until it reports (`simulation.timing.events`). Who is asked between two
steps gets the same model, so that all of them train as one cohort.
"""

import collections
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_transfer import runtime
from tff_transfer.algorithms.compose import Composed
from tff_transfer.algorithms.computations import Sent
from tff_transfer.errors import UserError
from tff_transfer.records.metrics import SIMULATED
from tff_transfer.runtime import StackedClients
from tff_transfer.simulation.timing import events
from tff_transfer.simulation.timing.events import Flights
from tff_transfer.simulation.timing.rule import Arrived, Rule
from tff_transfer.training.client_states import ClientStates
from tff_transfer.training.last_updates import LastUpdates
from tff_transfer.training.participants import LossesOf, Participants, Turnout

MEASURED = ('server/staleness_mean', 'server/staleness_max')


class Stepped(NamedTuple):
    """What a step of the server came to.

    Attributes:
      state: The run's state after it.
      metrics: What the process measured.
      row: The columns of `MEASURED`, and the simulated time.
      receivers: How many clients got the model since the last step.
      reported: How many clients reported since.
      trained: How many of these had examples.
    """

    state: Any
    metrics: Any
    row: dict[str, float]
    receivers: int
    reported: int
    trained: int


class Asynchronous:
    """The server's steps, and those who train meanwhile.

    What it has as `under_way` of a run's state is an OrderedDict of arrays: `asked`,
    how often clients were asked; `flights`, who trains, and `sent`, what each of these
    will send; and as `last`, where the rule remembers it, what stands for what each
    client sent last.

    Attributes:
      last: That, or None.
    """

    def __init__(
        self,
        rule: Rule,
        composed: Composed,
        participants: Participants,
        states: ClientStates | None,
        path: pathlib.Path | None = None,
    ):
        """Prepares for steps.

        Args:
          rule: What the server makes of what clients send.
          composed: The method's computations.
          participants: Who may be asked, on what devices, and on what they train; so
            many train at a time as a cohort has clients.
          states: What clients keep, if they keep anything.
          path: Where what clients sent last is, where the rule remembers it; in a
            temporary file if not given.

        Raises:
          UserError: The server would wait for more clients than there are.
        """
        setup = participants.setup
        if rule.waits_for > len(setup.seen):
            raise UserError(
                f'the server waits for {rule.waits_for} clients, but {setup.data.name}'
                f' has {len(setup.seen)} to train on; give a smaller buffer'
            )
        self._rule, self._composed, self._states = rule, composed, states
        self._participants, self._devices = participants, participants.devices
        self._places = participants.config.clients_per_round
        _, sent = composed.absorb().type_signature.parameter
        specs = type_conversions.type_to_tf_tensor_specs(sent.member)
        self._like = tf.nest.map_structure(
            lambda spec: np.zeros(spec.shape, spec.dtype.as_numpy_dtype), specs
        )
        self.last = None
        if rule.remembers:
            self.last = LastUpdates(self._like.delta[0], len(setup.seen), path)

    def initialize(self) -> Any:
        """Returns what is under way before the first step: nothing."""
        first = collections.OrderedDict(
            asked=np.int64(0),
            flights=events.none(self._places),
            sent=self._nothing(self._places),
        )
        if self.last is not None:
            first['last'] = self.last.nothing()
        return first

    def next(self, state, round_number: int, losses_of: LossesOf) -> Stepped:
        """Takes a step of the server.

        Args:
          state: The run's state before it.
          round_number: The number of the step, from 1.
          losses_of: Of the model that is sent (see `Participants.observed`).
        """
        before = state['under_way']
        passed, asked, turnout = self._passed(state, round_number, losses_of)
        kept, started = self._trained(state, turnout, round_number)
        pool = _behind(before['sent'], started)
        everyone = before['flights'].joined(passed.started)
        reported = _at(everyone, passed.reported)
        staleness = round_number - 1 - reported.version
        sent, under_way = self._used(
            state, reported.client, _at(pool, passed.reported), staleness
        )
        with runtime.in_round(round_number):
            server, metrics = self._composed.absorb()(
                state['server'], StackedClients(sent)
            )
        room = self._places - len(passed.left)
        under_way['asked'] = asked
        under_way['flights'] = _at(everyone, passed.left).joined(events.none(room))
        under_way['sent'] = _behind(_at(pool, passed.left), self._nothing(room))
        observed = self._participants.observed(
            state['observed'], turnout, round_number, losses_of
        )
        after = collections.OrderedDict(
            state, server=server, kept=kept, observed=observed, under_way=under_way
        )
        row = dict(zip(MEASURED, (np.mean(staleness), np.max(staleness)), strict=True))
        row[SIMULATED] = passed.clock
        return Stepped(
            after,
            metrics,
            row,
            len(turnout.clients) + turnout.asked,
            len(passed.reported),
            int(np.sum(sent.counts + sent.dropped)),
        )

    def _passed(
        self, state, round_number: int, losses_of
    ) -> tuple[events.Passed, np.int64, Turnout]:
        """Returns what happens until the step; how often, and who, was asked by then.

        Each time that clients are asked has a number of its own, on which it hangs who
        is chosen, for how many epochs, and who fails.
        """
        before, asked = state['under_way'], []
        number = int(before['asked'])

        def ask(room: int, clock: float, busy: np.ndarray) -> Flights:
            now = number + len(asked) + 1
            turnout = self._participants.chosen(
                state['observed'], now, losses_of, room, self._free(clock, busy)
            )
            started, turnout = self._started(turnout, clock, round_number - 1, now)
            asked.append(turnout)
            return started

        passed = events.until(
            before['flights'],
            float(state['observed']['clock']),
            self._rule.waits_for,
            ask,
            self._later,
        )
        turnout = _joined(asked)._replace(ends=passed.clock)
        return passed, np.int64(number + len(asked)), turnout

    def _free(self, clock: float, busy: np.ndarray) -> np.ndarray:
        """Returns who can be asked: numbers among the seen clients."""
        seen = self._participants.setup.seen
        there = self._devices.fleet.available(clock)[seen]
        there[busy] = False
        return np.flatnonzero(there)

    def _later(self, clock: float, busy: np.ndarray) -> float:
        """Returns when a client that is not busy is there next."""
        seen = self._participants.setup.seen
        return self._devices.starts(clock, np.delete(seen, busy))

    def _started(
        self, turnout: Turnout, clock: float, version: int, number: int
    ) -> tuple[Flights, Turnout]:
        """Returns those who were asked as under way, and with how long they take.

        Nothing comes of those who drop out, or go before they would report.
        """
        clients = self._participants.setup.seen[turnout.clients]
        fleet = self._devices.fleet
        takes = self._devices.seconds(clients, turnout.epochs)
        stay = fleet.availability.remaining(clock)[clients]
        drops = [fleet.fails(int(client), number) for client in clients]
        fails = np.array(drops, bool) | (stay < takes)
        version = np.full(len(clients), version)
        turnout = turnout._replace(
            epochs=np.where(fails, 0, turnout.epochs), seconds=takes
        )
        return Flights(turnout.clients, version, clock + takes, fails), turnout

    def _trained(self, state, turnout: Turnout, round_number: int) -> tuple[Any, Sent]:
        """Returns what clients keep now, and what those who started will send.

        Of a client that fails nothing comes: it keeps what it had.
        """
        kept, sent = state['kept'], self._nothing(len(turnout.clients))
        reports = np.flatnonzero(turnout.epochs)
        if not len(reports):
            return kept, sent
        turnout = Turnout(turnout.clients[reports], turnout.epochs[reports])
        found = self._work(state, turnout, round_number)
        if self._states is not None:
            now = StackedClients(found.kept)
            kept = self._states.put(kept, turnout.clients, now)
        if self._rule.of_weights:
            moved, moments = found.delta
            start = state['server'].server.weights
            own = tf.nest.map_structure(np.subtract, start, moved)
            found = found._replace(delta=(own, moments))
        leaves = map(tf.nest.flatten, (sent, found._replace(kept=())))
        for everyones, of_some in zip(*leaves, strict=True):
            everyones[reports] = of_some
        return kept, sent

    def _work(self, state, turnout: Turnout, round_number: int) -> Sent:
        """Returns what each client gives that trains, stacked."""
        cohort, own = self._participants.cohort(turnout, round_number), []
        if self._states is not None:
            own.append(self._states.take(state['kept'], turnout.clients))
        told = self._participants.told(turnout, round_number)
        if told is not None:
            own.append(StackedClients(told))
        with runtime.in_round(round_number):
            found = self._composed.train()(state['server'], cohort, *own)
        if isinstance(found, StackedClients):
            return found.arrays
        return tf.nest.map_structure(lambda *rows: np.stack(rows), *found)

    def _used(
        self, state, clients: np.ndarray, sent: Sent, staleness: np.ndarray
    ) -> tuple[Sent, Any]:
        """Returns what the server is to take of those who reported.

        Also what is under way then, of which only what clients sent last is new.
        """
        under_way = collections.OrderedDict(state['under_way'])
        rows, moments = sent.delta
        counts = sent.counts > 0
        last = mean_last = [None] * len(rows)
        if self.last is not None:
            before = under_way['last']
            last, mean_last = self.last.of(before, clients), before['mean']
            under_way['last'] = self.last.after(
                before, clients[counts], _at(rows, counts)
            )
        arrived = zip(
            rows, state['server'].server.weights, last, mean_last, strict=True
        )
        deltas = [
            self._rule.deltas(Arrived(moved, now, staleness, old, mean))
            for moved, now, old, mean in arrived
        ]
        for delta in deltas:
            delta[~counts] = 0
        delta = tf.nest.pack_sequence_as(rows, [d.astype(np.float32) for d in deltas])
        return sent._replace(delta=(delta, moments)), under_way

    def _nothing(self, places: int) -> Sent:
        return tf.nest.map_structure(
            lambda leaf: np.zeros((places, *leaf.shape), leaf.dtype), self._like
        )


def _joined(asked: Sequence[Turnout]) -> Turnout:
    """Returns all who were asked, one after another; nobody may have been."""
    none = np.zeros(0, np.int64)
    several = [Turnout(none, none, seconds=np.zeros(0)), *asked]
    of = {
        name: np.concatenate([getattr(turnout, name) for turnout in several])
        for name in ('clients', 'epochs', 'seconds')
    }
    return Turnout(**of, asked=sum(turnout.asked for turnout in asked))


def _at(structure: Any, places: np.ndarray) -> Any:
    """Returns some rows of each array."""
    return tf.nest.map_structure(lambda leaf: leaf[places], structure)


def _behind(structure: Any, other: Any) -> Any:
    """Returns the rows of each array and, behind them, those of others."""
    return tf.nest.map_structure(lambda *rows: np.concatenate(rows), structure, other)
