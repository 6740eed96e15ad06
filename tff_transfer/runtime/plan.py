"""The order in which a computation's parts run: server, clients, server, ...

TFF's call-dominant form is a list of named calls and a result. A call belongs to the
server, to the clients, or aggregates from the clients to the server. What the server
makes from its arguments alone has level 0; clients that use it have level 0 too; what
is aggregated from them has level 1, and so on. So each level is one function of the
server and one of a client, whatever the number of calls.
"""

import dataclasses
from collections.abc import Callable

import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.compiler import (
    building_blocks as bb,
)
from tensorflow_federated.python.core.impl.compiler import transformations

AGGREGATIONS = (
    'federated_aggregate',
    'federated_sum',
    'federated_mean',
    'federated_weighted_mean',
    'federated_min',
    'federated_max',
    'federated_secure_sum',
    'federated_secure_sum_bitwidth',
    'federated_secure_modular_sum',
)


@dataclasses.dataclass(frozen=True)
class Output:
    """A part of the result that is either the server's or of each client.

    Attributes:
      block: What it is.
      at_clients: Whether each client has a value of its own.
    """

    block: bb.ComputationBuildingBlock
    at_clients: bool


@dataclasses.dataclass(frozen=True)
class Phase:
    """What runs at one level: the server, then each client.

    Attributes:
      server_inputs: The server's calls of earlier phases that the server uses.
      reported: The aggregations whose result is known from here on.
      exports: The server's calls that clients or later phases use.
      client_inputs: The server's calls that a client uses.
      carried: The clients' calls of earlier phases that a client uses.
      aggregates: The aggregations that clients take part in.
      stored: The clients' calls that later phases use.
      outputs: Which parts of the result clients give, by their numbers.
    """

    server_inputs: tuple[str, ...]
    reported: tuple[str, ...]
    exports: tuple[str, ...]
    client_inputs: tuple[str, ...]
    carried: tuple[str, ...]
    aggregates: tuple[str, ...]
    stored: tuple[str, ...]
    outputs: tuple[int, ...]

    @property
    def has_clients(self) -> bool:
        """Whether clients do anything."""
        return bool(self.aggregates or self.stored or self.outputs)


class Plan:
    """A computation as calls and the phases in which they run.

    Attributes:
      parameter: The name of the parameter, or None.
      calls: The calls by name, each after those it refers to.
      outputs: The parts of the result, in order.
      phases: What runs, in order; the last gives the server's part of the result.
    """

    def __init__(self, block: bb.ComputationBuildingBlock):
        """Brings a computation into call-dominant form and orders its calls."""
        if isinstance(block, bb.CompiledComputation):
            block = _as_lambda(block)
        block = transformations.to_call_dominant(block)
        self.parameter: str | None = None
        self.calls: dict[str, bb.Call] = {}
        while isinstance(block, bb.Block | bb.Lambda):
            if isinstance(block, bb.Lambda):
                self.parameter = block.parameter_name
            else:
                self.calls.update(block.locals)
            block = block.result
        self._references = {n: self.references(c) for n, c in self.calls.items()}
        self._at_clients = {
            n: of_clients(c.type_signature) for n, c in self.calls.items()
        }
        self._level: dict[str, int] = {}
        for name in self.calls:
            used = map(self.result_level, self._references[name])
            self._level[name] = max(used, default=0)
        self.outputs = list(_outputs(block))
        self.phases = self._phases()

    def references(self, block: bb.ComputationBuildingBlock) -> set[str]:
        """Returns the calls that a block refers to itself."""
        return {name for name in _free(block) if name in self.calls}

    def aggregates(self, name: str) -> bool:
        """Returns whether a call aggregates from clients."""
        function = self.calls[name].function
        return isinstance(function, bb.Intrinsic) and function.uri in AGGREGATIONS

    def result_level(self, name: str) -> int:
        """Returns the level from which on a call's result is known."""
        return self._level[name] + self.aggregates(name)

    def _storable(self, name: str) -> bool:
        """Returns whether a call's result can leave a function: tensors only."""
        return not tff.types.contains(
            self.calls[name].type_signature,
            lambda t: isinstance(t, tff.SequenceType | tff.FunctionType),
        )

    def _phases(self) -> list[Phase]:
        output_levels = [
            max(map(self.result_level, self.references(o.block)), default=0)
            for o in self.outputs
        ]
        levels = 1 + max([*map(self.result_level, self.calls), *output_levels, 0])
        wanted: set[str] = set()
        phases = []
        for level in reversed(range(levels)):
            outputs = [
                i
                for i, output in enumerate(self.outputs)
                if output.at_clients and output_levels[i] == level
            ]
            aggregates = {
                n for n in self.calls if self.aggregates(n) and self._level[n] == level
            }
            stored = {
                n for n in wanted if self._at_clients[n] and self._level[n] == level
            }
            roots = {r for n in aggregates for r in self._references[n]} | {
                r for i in outputs for r in self.references(self.outputs[i].block)
            }
            used = self._needed(roots | stored, self._known_to_client(level))
            wanted |= used
            exports = {
                n
                for n in wanted
                if not self._at_clients[n] and self.result_level(n) == level
            }
            results = set()
            if level == levels - 1:
                results = {
                    r
                    for o in self.outputs
                    if not o.at_clients
                    for r in self.references(o.block)
                }
            inputs = self._needed(exports | results, self._known_to_server(level))
            wanted |= inputs
            reported = {
                n
                for n in self.calls
                if self.aggregates(n) and self.result_level(n) == level
            }
            phases.append(
                Phase(
                    server_inputs=self._ordered(inputs),
                    reported=self._ordered(reported),
                    exports=self._ordered(exports),
                    client_inputs=self._ordered(
                        {n for n in used if not self._at_clients[n]}
                    ),
                    carried=self._ordered({n for n in used if self._at_clients[n]}),
                    aggregates=self._ordered(aggregates),
                    stored=self._ordered(stored),
                    outputs=tuple(outputs),
                )
            )
        return phases[::-1]

    def _ordered(self, names: set[str]) -> tuple[str, ...]:
        return tuple(n for n in self.calls if n in names)

    def _known_to_client(self, level: int) -> Callable[[str], bool]:
        def known(name):
            earlier = not self._at_clients[name] or self._level[name] < level
            return earlier and self._storable(name)

        return known

    def _known_to_server(self, level: int) -> Callable[[str], bool]:
        return lambda name: self.result_level(name) < level and self._storable(name)

    def _needed(self, names: set[str], known: Callable[[str], bool]) -> set[str]:
        """Returns the nearest known calls that some calls are computed from."""
        needed, seen, todo = set(), set(), list(names)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            if known(name):
                needed.add(name)
            elif self.aggregates(name):
                # Its clients' part is at hand; its report may use what the server has.
                todo.extend(
                    r for r in self._references[name] if not self._at_clients[r]
                )
            else:
                todo.extend(self._references[name])
        return needed


def of_clients(type_spec: tff.Type) -> bool:
    """Returns whether a value of a type has parts that differ by client."""
    return tff.types.contains(
        type_spec,
        lambda t: (
            isinstance(t, tff.FederatedType)
            and t.placement is tff.CLIENTS
            and not t.all_equal
        ),
    )


def _as_lambda(block: bb.CompiledComputation) -> bb.Lambda:
    parameter = block.type_signature.parameter
    if parameter is None:
        return bb.Lambda(None, None, bb.Call(block))
    argument = bb.Reference('argument', parameter)
    return bb.Lambda('argument', parameter, bb.Call(block, argument))


def _outputs(block):
    """Yields the parts of a result, in the order of its type's leaves."""
    type_spec = block.type_signature
    if isinstance(type_spec, tff.StructType) and of_clients(type_spec):
        for i in range(len(type_spec)):
            if isinstance(block, bb.Struct):
                yield from _outputs(block[i])
            else:
                yield from _outputs(bb.Selection(block, index=i))
    else:
        yield Output(block, of_clients(type_spec))


def _free(block) -> set[str]:
    """Returns the names that a block uses and does not bind."""
    if isinstance(block, bb.Reference):
        return {block.name}
    if isinstance(block, bb.Selection):
        return _free(block.source)
    if isinstance(block, bb.Struct):
        return set().union(*(_free(e) for _, e in structure.iter_elements(block)))
    if isinstance(block, bb.Call):
        argument = _free(block.argument) if block.argument is not None else set()
        return _free(block.function) | argument
    if isinstance(block, bb.Lambda):
        return _free(block.result) - {block.parameter_name}
    if isinstance(block, bb.Block):
        used, bound = set(), set()
        for name, value in block.locals:
            used |= _free(value) - bound
            bound.add(name)
        return used | (_free(block.result) - bound)
    return set()
