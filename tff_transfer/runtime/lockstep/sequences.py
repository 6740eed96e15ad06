"""What takes the place of a client's sequence: loops over it are done in lockstep."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.runtime import layouts, sequences
from tff_transfer.runtime.lockstep import bodies
from tff_transfer.runtime.lockstep.control import Held, batched_shape
from tff_transfer.runtime.lockstep.values import NotVectorizedError, Value, stack
from tff_transfer.runtime.lockstep.variables import token
from tff_transfer.runtime.lockstep.vectorize import Loop, Vectorizer
from tff_transfer.runtime.sequences import as_nest, pack

_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Pass:
    """A loop over a sequence in the graph of one client.

    Attributes:
      sequence: The sequence's number.
      step: The function of states, an element and what else it uses to new states.
      shapes: The states' shapes.
      element_type: The type of an element.
    """

    sequence: int
    step: str
    shapes: tuple[tf.TensorShape, ...]
    element_type: tff.Type


@dataclasses.dataclass(frozen=True)
class Reading:
    """A sequence as a dataset in the graph of one client, of which iterators are made.

    Attributes:
      sequence: The sequence's number.
      element_type: The type of an element.
    """

    sequence: int
    element_type: tff.Type


class LockstepSequence(sequences.Sequence):
    """A client's sequence, whose elements are read when the graph is vectorised.

    Attributes:
      passes: The loops over it and its readings, by the name of the function that
        stands for each; all sequences of a graph share it.
    """

    def __init__(
        self, element_type: tff.Type, number: int, passes: dict[str, Pass | Reading]
    ):
        self.element_type = element_type
        self.passes = passes
        self._number = number

    def stand_in(self, step: str, state_specs: list, captured_specs: list):
        """Returns a concrete function that stands for a loop.

        Args:
          step: The name of the function that takes a step.
          state_specs: The specs of the states.
          captured_specs: Those of what else it uses.
        """

        def same(*inputs):
            return [tf.identity(state) for state in inputs[: len(state_specs)]]

        same.__name__ = f'pass_{next(_numbers)}'
        made = tf.function(same, autograph=False).get_concrete_function(
            *state_specs, *captured_specs
        )
        self.passes[made.function_def.signature.name] = Pass(
            self._number,
            step,
            tuple(spec.shape for spec in state_specs),
            self.element_type,
        )
        return made

    def variant(self) -> tf.Tensor:
        """Returns what stands for the dataset."""

        def reading():
            return tf.raw_ops.OptionalNone()

        reading.__name__ = f'reading_{next(_numbers)}'
        made = tf.function(reading, autograph=False).get_concrete_function()
        name = made.function_def.signature.name
        self.passes[name] = Reading(self._number, self.element_type)
        return made()

    def dataset(self) -> tf.data.Dataset:
        """Refuses."""
        raise NotVectorizedError('a dataset is read in another way than by a loop')

    def map(self, fn, element_type: tff.Type) -> sequences.Sequence:
        """Refuses."""
        raise NotVectorizedError('sequence_map')

    def reduce(self, zero, step, state_type: tff.Type):
        """Refuses."""
        raise NotVectorizedError('sequence_reduce')


@dataclasses.dataclass(frozen=True)
class Batches:
    """A sequence of each client of a group.

    Attributes:
      segments: The group's segments (`schedules.Schedule.segments`).
      first: Where the first segment's members start in `members`.
      members: Those of all groups.
      arrays: What holds the values of each leaf of an element.
    """

    segments: tf.Tensor
    first: tf.Tensor
    members: tf.Tensor
    arrays: list[tf.Tensor]

    def loop(self, of: 'Pass | Reading') -> Loop:
        """Returns what a call that stands for something becomes."""
        if isinstance(of, Reading):
            return Loop(0, functools.partial(self._read, of))
        return Loop(len(of.shapes), functools.partial(self._run, of))

    def _read(self, of: 'Reading', here: Vectorizer, _) -> list[Value]:
        dataset = token(tf.variant)
        here.datasets[dataset.tensor.ref()] = functools.partial(
            self.over, of.element_type
        )
        return [dataset]

    def _run(self, of: Pass, here: Vectorizer, inputs: list[Value]) -> list[Value]:
        count = len(of.shapes)
        same = bodies.unchanged(bodies.graph(of.step))

        def step(inner, given, element):
            return inner.call(of.step, [*given[:count], *element, *given[count:]])

        return self.over(of.element_type, here, inputs, same, of.shapes, step)[:count]

    def over(
        self,
        element_type: tff.Type,
        here: Vectorizer,
        inputs: list[Value],
        same: list[bool],
        shapes: Sequence[tf.TensorShape],
        step: Callable[[Vectorizer, list[Value], list[Value]], list[Value]],
    ) -> list[Value]:
        """Does a step for each element.

        Args:
          element_type: The elements' type.
          here: Where it is done.
          inputs: What steps are given, of which the first are states.
          same: Of each state whether no step changes it, such as a learning rate.
          shapes: The states' shapes, of one client.
          step: From where it is done, what it is given and an element's leaves to the
            states.

        Returns:
          The inputs, with the states after the last step.
        """
        changed = [i for i, kept in enumerate(same) if not kept]
        states = [stack(inputs[i], here.clients) for i in changed]
        shapes = [batched_shape(shapes[i]) for i in changed]
        # What variables hold is a state too.
        held = Held.of(here, inputs)
        states += held.tensors(here)
        shapes += [batched_shape(tensor.shape[1:]) for tensor in held.tensors(here)]

        def given(values, states):
            values = list(values)
            for i, state in zip(changed, states, strict=False):
                values[i] = Value(state, True)
            return values

        def segment(number, start, *states):
            rows, steps, end = tf.unstack(self.segments[number])
            places, elements, begins = tf.unstack(self.members[start:end], 3, 1)
            some = here.of_some(end - start)
            mine = [
                v._replace(tensor=tf.gather(v.tensor, places))
                if v.batched and i not in changed
                else v
                for i, v in enumerate(inputs)
            ]
            row = begins[:, tf.newaxis] + tf.range(rows)

            def of_step(j, *states):
                element = self._element(element_type, elements + j, row + j * rows)
                inner = held.within(some, states[len(changed) :])
                new = step(inner, given(mine, states), element)
                new = [stack(new[i], some.clients) for i in changed]
                return (j + 1, *new, *held.tensors(inner))

            _, *after = tf.while_loop(
                lambda j, *_: j < steps,
                of_step,
                (tf.zeros([], tf.int64), *(tf.gather(s, places) for s in states)),
                shape_invariants=(tf.TensorShape([]), *shapes),
                parallel_iterations=1,
            )
            states = [
                tf.tensor_scatter_nd_update(s, places[:, tf.newaxis], a)
                for s, a in zip(states, after, strict=True)
            ]
            return (number + 1, end, *states)

        _, _, *states = tf.while_loop(
            lambda number, *_: number < tf.shape(self.segments)[0],
            segment,
            (0, self.first, *states),
            shape_invariants=(tf.TensorShape([]), tf.TensorShape([]), *shapes),
            parallel_iterations=1,
        )
        held.keep(here, states[len(changed) :])
        return given(inputs, states)

    def _element(self, element_type: tff.Type, elements, rows) -> list[Value]:
        """Returns the leaves of each client's element, as a dataset orders them."""
        found = [
            tf.gather(values, rows if layouts.layout(leaf) == 'rows' else elements)
            for values, leaf in zip(
                self.arrays, layouts.leaf_types(element_type), strict=True
            )
        ]
        nest = as_nest(pack(iter(found), element_type), element_type)
        return [Value(tensor, True) for tensor in tf.nest.flatten(nest)]
