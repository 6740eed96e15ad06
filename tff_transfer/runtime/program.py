"""A TFF computation that was compiled, and its runs over blocks of clients."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf

from tff_transfer.runtime import (
    arguments,
    block_states,
    blocks,
    layouts,
    merging,
    results,
    sessions,
)
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.executors import Executor
from tff_transfer.runtime.layouts import ClientTensors
from tff_transfer.runtime.lockstep import choice
from tff_transfer.runtime.outputs import Outputs
from tff_transfer.runtime.parameters import member, parameter_parts
from tff_transfer.runtime.phases import Phases, place_in
from tff_transfer.runtime.plan import Phase
from tff_transfer.runtime.stacked import StackedClients
from tff_transfer.runtime.tensors import to_tensor
from tff_transfer.runtime.turns import Turn


class Program:
    """A computation, compiled phase by phase when it is first run."""

    def __init__(self, comp, settings: Settings, executor: Executor):
        """Plans a computation.

        Args:
          comp: A `tff.Computation`.
          settings: How it runs.
          executor: What runs its blocks of clients.
        """
        self._type = comp.type_signature
        self._settings = settings
        self._executor = executor
        self._phases = Phases(comp, settings)
        self._plan = self._phases.plan
        self._sizes = {
            name: len(layouts.leaf_types(member(call.type_signature)))
            for name, call in self._plan.calls.items()
        }
        self._state_sizes = {
            name: len(layouts.specs(self._phases.functions.state_type(name)))
            for name in self._plan.calls
            if self._plan.aggregates(name)
        }
        self._outputs = Outputs(self._plan.outputs, self._type.result)
        self._parts = parameter_parts(self._type.parameter)

    @property
    def traces(self) -> int:
        """How many functions were traced so far."""
        return self._phases.functions.traces

    def __call__(self, argument, key: np.ndarray | None = None):
        """Runs the computation.

        Args:
          argument: The value of the parameter, or None.
          key: What draws hang on, uint64 [1], if they do.

        Returns:
          The result, in TFF's containers.

        Raises:
          TypeError: The argument is not of the parameter's type.
          UserError: What was computed failed, and then it is of TensorFlow's class
            too, such as `tf.errors.InvalidArgumentError`; or it cannot run here.
        """
        try:
            server, clients, count, stacked = self._encode(argument)
        except tf.errors.OpError as error:
            raise self._phases.failed("a dataset of the argument's", error) from error
        if not self._phases.traced.small:
            server = [to_tensor(a) for a in server]
        place = place_in(key, 0)
        known: dict[str, list[tf.Tensor]] = {}
        carried: dict[str, list[ClientTensors]] = {}
        states: list[tf.Tensor] = []
        outputs: dict[int, list] = {}
        for number, phase in enumerate(self._plan.phases):
            flat = [*place, *server, *_joined(known, phase.server_inputs), *states]
            given = self._phases.run_server(number, flat)
            for name in phase.exports:
                size = self._sizes[name]
                known[name], given = given[:size], given[size:]
            if phase.has_clients:
                states, kept = self._run_clients(
                    number, key, server, known, clients, carried, count
                )
                for name in phase.stored:
                    size = self._sizes[name]
                    carried[name], kept = kept[:size], kept[size:]
                for index in phase.outputs:
                    size = self._outputs.sizes[index]
                    outputs[index], kept = kept[:size], kept[size:]
                states = self._states(phase, states, kept)
        return self._outputs.result(given, outputs, count, stacked)

    def _states(self, phase: Phase, summed: list, rows: list) -> list[tf.Tensor]:
        """Returns the states of a phase's aggregations: sums, and appended rows."""
        summed, rows, states = iter(summed), iter(rows), []
        for name in phase.aggregates:
            numbers = self._phases.functions.rows(name)
            if numbers is not None:
                states += [next(rows).arrays[0] for _ in numbers]
                continue
            states += itertools.islice(summed, self._state_sizes[name])
        return states

    def _encode(self, argument):
        """Returns the server's arrays, the clients' leaves, how many clients there are
        and whether any of their values came stacked."""
        server, clients, stacked = [], [], False
        if self._type.parameter is None:
            return server, clients, 0, stacked
        values = arguments.leaf_values(argument, self._type.parameter, 'the argument')
        for (value, where), part in zip(values, self._parts, strict=True):
            if part.at_clients:
                clients.extend(arguments.client_values(value, part.type, where))
                stacked |= isinstance(value, StackedClients)
            else:
                server.extend(arguments.server_values(value, part.type, where))
        counts = {leaf.clients for leaf in clients}
        if len(counts) > 1:
            raise TypeError(
                f'{self._phases.name}: the arguments give values for different numbers'
                f' of clients: {sorted(counts)}'
            )
        return server, clients, (counts or {0}).pop(), stacked

    def _run_clients(self, number, key, server, known, clients, carried, count):
        """Runs the clients' part of a phase; returns states and what is kept."""
        phase = self._plan.phases[number]
        inputs = [*server, *_joined(known, phase.client_inputs)]
        leaves = [*clients, *(leaf for name in phase.carried for leaf in carried[name])]
        sent = inputs[len(server) :] or server
        together = self._together(number, sent, leaves, count)
        fewest = choice.blocks_of(count) if together else blocks.BLOCKS
        divided = blocks.divide(leaves, count, self._settings, fewest)
        little = divided.sizes.sum() <= sessions.SMALL and self._phases.traced.small
        one_thread = sessions.pay(count, together, little, self._settings)
        turn = Turn(number, together, key, inputs, one_thread)
        specs, types = self._phases.given_types(number)
        kept = [[] for _ in types]
        parts, spans = [], []
        runs = self._executor.run(self._phases, turn, leaves, divided)
        for given in self._located(runs, turn, leaves, count):
            parts.append(given.states)
            spans += given.spans
            for column, values in zip(kept, given.kept, strict=True):
                column.append(values)
        states = []
        if specs:
            merged = self._phases.merge(
                turn, block_states.joined(parts, specs), merging.remaining(spans), [0]
            )
            states = block_states.of_block(merged, specs, 0)
        return states, [
            results.join(column, leaf, count)
            for column, leaf in zip(kept, types, strict=True)
        ]

    def _together(self, number: int, sent, leaves, count: int) -> int:
        """Returns how many clients go in lockstep, 0 if each goes alone."""
        most = choice.most_together(sent, leaves, count, self._settings)
        return most if most and not self._phases.obstacle(number) else 0

    def obstacles(self) -> list[str]:
        """Returns for each phase of clients what keeps them from going in lockstep.

        It is empty where nothing does. What was not traced yet is traced.
        """
        return [
            self._phases.obstacle(number)
            for number, phase in enumerate(self._plan.phases)
            if phase.has_clients
        ]

    def _located(self, runs, turn: Turn, leaves, count: int):
        """Yields results; an error in a client says which one and at which step."""
        alone = dataclasses.replace(turn, together=0, one_thread=False)

        def run_client(mine, client):
            return self._phases.run_clients(alone, mine, [0, 1], client)

        try:
            yield from runs
        except tf.errors.OpError as error:
            where = blocks.where_it_fails(run_client, leaves, count)
            where = where or 'several clients at a time, but at none alone'
            raise self._phases.failed(where, error) from error


def _joined(calls: dict, names) -> list[tf.Tensor]:
    return [tensor for name in names for tensor in calls[name]]
