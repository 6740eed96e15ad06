"""What takes the place of a client's sequence: loops over it are done in lockstep."""

import dataclasses
import itertools

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.runtime import layouts
from tff_transfer.runtime.lockstep import bodies
from tff_transfer.runtime.lockstep.control import batched_shape
from tff_transfer.runtime.lockstep.values import NotVectorizedError, Value, stack
from tff_transfer.runtime.lockstep.variables import handles
from tff_transfer.runtime.lockstep.vectorize import Loop, Vectorizer
from tff_transfer.runtime.sequences import Sequence, as_nest, pack

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


class LockstepSequence(Sequence):
    """A client's sequence, whose elements are read when the graph is vectorised.

    Attributes:
      passes: The loops over it, by the name of the function that stands for each; all
        sequences of a graph share it.
    """

    def __init__(self, element_type: tff.Type, number: int, passes: dict[str, Pass]):
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
        """Refuses."""
        raise NotVectorizedError('a dataset is read in another way than by reduce')

    def dataset(self) -> tf.data.Dataset:
        """Refuses."""
        return self.variant()

    def map(self, fn, element_type: tff.Type) -> Sequence:
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

    def loop(self, of: Pass) -> Loop:
        """Returns what a loop over the sequence becomes."""
        return Loop(len(of.shapes), lambda vectorizer, inputs: self._run(
            of, vectorizer, inputs
        ))  # fmt: skip

    def _run(self, of: Pass, vectorizer: Vectorizer, inputs: list[Value]):
        count = len(of.shapes)
        # What no step changes, such as a learning rate, is no state of the loops.
        kept = bodies.unchanged(bodies.graph(of.step))
        changed = [i for i, same in enumerate(kept) if not same]
        states = [stack(inputs[i], vectorizer.clients) for i in changed]
        shapes = [batched_shape(of.shapes[i]) for i in changed]
        # What variables hold is a state too.
        refs = handles(inputs)
        states += [vectorizer.variables[ref] for ref in refs]
        shapes += [batched_shape(state.shape[1:]) for state in states[len(changed) :]]

        def given(values, states):
            states = iter(states)
            return [
                Value(next(states), True) if i in changed else value
                for i, value in enumerate(values)
            ]

        def segment(number, start, *states):
            rows, steps, end = tf.unstack(self.segments[number])
            places, elements, begins = tf.unstack(self.members[start:end], 3, 1)
            some = vectorizer.of_some(end - start)
            mine = [
                v._replace(tensor=tf.gather(v.tensor, places))
                if v.batched and i not in changed
                else v
                for i, v in enumerate(inputs)
            ]
            row = begins[:, tf.newaxis] + tf.range(rows)

            def step(j, *states):
                element = self._element(of.element_type, elements + j, row + j * rows)
                before = given(mine, states)
                before[count:count] = [Value(t, True) for t in element]
                held = dict(zip(refs, states[len(changed) :], strict=True))
                here = dataclasses.replace(some, variables=held)
                new = here.call(of.step, before)
                new = [stack(new[i], some.clients) for i in changed]
                return (j + 1, *new, *(held[ref] for ref in refs))

            _, *after = tf.while_loop(
                lambda j, *_: j < steps,
                step,
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
        vectorizer.variables.update(zip(refs, states[len(changed) :], strict=True))
        return given(inputs, states)[:count]

    def _element(self, element_type: tff.Type, elements, rows) -> list[tf.Tensor]:
        """Returns the leaves of each client's element, as a dataset orders them."""
        found = [
            tf.gather(values, rows if layouts.layout(leaf) == 'rows' else elements)
            for values, leaf in zip(
                self.arrays, layouts.leaf_types(element_type), strict=True
            )
        ]
        return tf.nest.flatten(as_nest(pack(iter(found), element_type), element_type))
