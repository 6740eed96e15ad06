"""A TFF computation that was compiled, and its runs over blocks of clients."""

import itertools
import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.errors import UserError
from tff_transfer.runtime import (
    arguments,
    block_states,
    blocks,
    calls,
    failures,
    layouts,
    results,
)
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.draws import NoKeyError
from tff_transfer.runtime.functions import Functions
from tff_transfer.runtime.layouts import ClientTensors
from tff_transfer.runtime.lockstep import arguments as lockstep
from tff_transfer.runtime.lockstep import choice
from tff_transfer.runtime.lockstep.values import NotVectorizedError
from tff_transfer.runtime.outputs import Outputs
from tff_transfer.runtime.parameters import member, parameter_parts
from tff_transfer.runtime.plan import Phase, Plan
from tff_transfer.runtime.stacked import StackedClients
from tff_transfer.runtime.tensors import to_tensor


class Program:
    """A computation, compiled phase by phase when it is first run.

    Attributes:
      name: What the computation is called in errors.
    """

    def __init__(self, comp, settings: Settings):
        """Plans a computation.

        Args:
          comp: A `tff.Computation`.
          settings: How it runs.
        """
        self.name = 'computation ' + _shorten(comp.type_signature)
        self._type = comp.type_signature
        self._settings = settings
        self._plan = Plan(comp.to_building_block())
        self._parts = parameter_parts(self._type.parameter)
        self._functions = Functions(
            self._plan, self._type.parameter, self.name, settings
        )
        self._sizes = {
            name: len(layouts.leaf_types(member(call.type_signature)))
            for name, call in self._plan.calls.items()
        }
        self._state_sizes = {
            name: len(layouts.specs(self._functions.state_type(name)))
            for name in self._plan.calls
            if self._plan.aggregates(name)
        }
        self._outputs = Outputs(self._plan.outputs, self._type.result)
        self._given: dict[int, tuple] = {}
        self._compiled: dict = {}
        self._optimized: set[tuple[int, bool]] = set()
        self._obstacles: dict[int, str] = {}
        self._lock = threading.RLock()

    @property
    def traces(self) -> int:
        """How many functions were traced so far."""
        return self._functions.traces

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
            raise self._failed("a dataset of the argument's", error) from error
        server = [to_tensor(a) for a in server]
        place = _place_in(key)
        known: dict[str, list[tf.Tensor]] = {}
        carried: dict[str, list[ClientTensors]] = {}
        states: list[tf.Tensor] = []
        outputs: dict[int, list] = {}
        for number, phase in enumerate(self._plan.phases):
            last = number == len(self._plan.phases) - 1
            flat = [*place(0), *server, *_joined(known, phase.server_inputs), *states]
            function = self._function('server', phase, last)
            try:
                given = calls.call(function, flat)
            except tf.errors.OpError as error:
                raise self._failed('the server', error) from error
            for name in phase.exports:
                size = self._sizes[name]
                known[name], given = given[:size], given[size:]
            if phase.has_clients:
                states, kept = self._run_clients(
                    phase, place, server, known, clients, carried, count
                )
                for name in phase.stored:
                    size = self._sizes[name]
                    carried[name], kept = kept[:size], kept[size:]
                for index in phase.outputs:
                    size = self._outputs.sizes[index]
                    outputs[index], kept = kept[:size], kept[size:]
                states = self._states(phase, states, kept)
        return self._outputs.result(given, outputs, count, stacked)

    def _function(self, kind: str, phase: Phase, last: bool = False):
        key = kind, id(phase)
        if key not in self._compiled:
            with self._lock:
                if key not in self._compiled:
                    make = getattr(self._functions, kind)
                    more = (last,) if kind == 'server' else ()
                    try:
                        self._compiled[key] = make(phase, *more)
                    except NoKeyError as e:
                        raise UserError(
                            f'{self.name}: {e}; or leave out seed, and draws will not'
                            ' repeat'
                        ) from e
                    except UserError:
                        raise
                    except (ValueError, NotImplementedError, tf.errors.OpError) as e:
                        raise self._cannot_run(str(e).splitlines()[0][:300]) from e
        return self._compiled[key]

    def _states(self, phase: Phase, summed: list, rows: list) -> list[tf.Tensor]:
        """Returns the states of a phase's aggregations: sums, and appended rows."""
        summed, rows, states = iter(summed), iter(rows), []
        for name in phase.aggregates:
            numbers = self._functions.rows(name)
            if numbers is not None:
                states += [to_tensor(next(rows).arrays[0]) for _ in numbers]
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
                f'{self.name}: the arguments give values for different numbers of'
                f' clients: {sorted(counts)}'
            )
        return server, clients, (counts or {0}).pop(), stacked

    def _run_clients(self, phase, place, server, known, clients, carried, count):
        """Runs the clients' part of a phase; returns states and what is kept."""
        inputs = [*server, *_joined(known, phase.client_inputs)]
        leaves = [*clients, *(leaf for name in phase.carried for leaf in carried[name])]
        sent = _joined(known, phase.client_inputs) or server
        together = self._together(phase, sent, leaves, count)

        def run_one_by_one(leaves, cuts, number):
            function = self._function('clients', phase)
            arrays = [a for leaf in leaves for a in leaf.part(cuts[0], cuts[-1])]
            tensors = [to_tensor(a) for a in arrays]
            cuts = tf.constant(cuts, tf.int64) - cuts[0]
            return calls.call(function, [*place(number), cuts, *inputs, *tensors])

        def run_together(cuts):
            function = self._function('lockstep', phase)
            arrays = map(to_tensor, lockstep.arrays(leaves, cuts, together))
            groups = list(itertools.islice(arrays, 3))
            return calls.call(function, [*place(cuts[0]), *groups, *inputs, *arrays])

        def run_share(cuts):
            if together:
                return run_together(cuts)
            return run_one_by_one(leaves, cuts, cuts[0])

        def run_client(mine, client):
            return run_one_by_one(mine, [0, 1], client)

        specs, kept_types = self._given_types(phase)
        kept = [[] for _ in kept_types]
        lists = []
        self._optimize(phase, together, lambda: run_share([0, 0]))
        fewest = choice.blocks_of(count) if together else blocks.BLOCKS
        shares = blocks.split(leaves, count, self._settings, fewest)
        runs = blocks.run_in_order(run_share, shares, self._settings)
        runs = self._located(runs, run_client, leaves, count)
        for result in runs:
            new, rest = result[: len(specs)], iter(result[len(specs) :])
            lists = block_states.joined(lists, new, specs) if lists else new
            for column, leaf in zip(kept, kept_types, strict=True):
                column.append(results.collect(rest, leaf))
        states = []
        if lists:
            merge = self._function('merge', phase)
            states = calls.call(merge, [*place(0), *inputs, *lists])
        return states, [
            results.join(column, leaf, count)
            for column, leaf in zip(kept, kept_types, strict=True)
        ]

    def _given_types(self, phase: Phase) -> tuple[list[tf.TensorSpec], list[tff.Type]]:
        """Returns the specs of a phase's states, and the leaves that are kept."""
        if id(phase) not in self._given:
            kept = self._functions.kept_types(phase)
            leaves = [leaf for t in kept for leaf in layouts.leaf_types(t)]
            self._given[id(phase)] = self._functions.state_specs(phase), leaves
        return self._given[id(phase)]

    def _together(self, phase: Phase, sent, leaves, count: int) -> int:
        """Returns how many clients go in lockstep, 0 if each goes alone."""
        most = choice.most_together(sent, leaves, count, self._settings)
        return most if most and not self._obstacle(phase) else 0

    def _obstacle(self, phase: Phase) -> str:
        """Returns what is in the way of clients' going in lockstep, or nothing."""
        with self._lock:
            if id(phase) not in self._obstacles:
                try:
                    self._function('lockstep', phase)
                    self._obstacles[id(phase)] = ''
                except NotVectorizedError as error:
                    self._obstacles[id(phase)] = str(error)
            return self._obstacles[id(phase)]

    def obstacles(self) -> list[str]:
        """Returns for each phase of clients what keeps them from going in lockstep.

        It is empty where nothing does. What was not traced yet is traced.
        """
        return [self._obstacle(p) for p in self._plan.phases if p.has_clients]

    def _optimize(self, phase: Phase, together: int, run_no_clients) -> None:
        """Has TensorFlow optimize a phase for each device.

        It does so at the first call, and twice if two threads call at a time.
        """
        key = id(phase), bool(together)
        with self._lock:
            if key not in self._optimized:
                for device in self._settings.devices:
                    try:
                        with tf.device(device):
                            run_no_clients()
                    except tf.errors.OpError as error:
                        raise self._failed('a cohort of no clients', error) from error
                self._optimized.add(key)

    def _located(self, runs, run, leaves, count: int):
        """Yields results; an error in a client says which one and at which step."""
        try:
            yield from runs
        except tf.errors.OpError as error:
            where = blocks.where_it_fails(run, leaves, count)
            where = where or 'several clients at a time, but at none alone'
            raise self._failed(where, error) from error

    def _failed(self, where: str, error: tf.errors.OpError) -> UserError:
        words = failures.words(error.message) or type(error).__name__
        if words.startswith('No OpKernel'):
            return self._cannot_run(words)
        line = f'{self.name} failed at {where}: {words}'
        return failures.failure(line, type(error), error.node_def)

    def _cannot_run(self, why: str) -> UserError:
        return UserError(
            f'{self.name}: the compiled runtime cannot run it: {why}; use'
            f' tff_transfer.runtime.use_stock() for it'
        )


def _place_in(key: np.ndarray | None) -> Callable[[int], list[tf.Tensor]]:
    """Returns what gives `keys.SPECS` by a block's first client, if there is a key."""
    if key is None:
        return lambda first: []
    key = tf.constant(key)
    return lambda first: [key, tf.constant(first, tf.int64)]


def _joined(calls: dict, names) -> list[tf.Tensor]:
    return [tensor for name in names for tensor in calls[name]]


def _shorten(type_signature) -> str:
    text = type_signature.compact_representation()
    return text if len(text) < 160 else f'{text[:80]}...{text[-60:]}'
