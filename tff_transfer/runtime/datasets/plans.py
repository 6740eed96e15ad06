"""What of a dataset's pipeline can be done on arrays, read off its Python objects.

A pipeline is a chain of datasets, each made from the one before it. The steps at its
end that are known here are done on arrays (orders.py, row_functions.py); the dataset
that they begin with is either slices of arrays, or is read by TensorFlow. TensorFlow's
classes of datasets and their attributes are its own affair: where one is not as it is
in the version that this package is made for, TensorFlow reads the whole.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_transfer.runtime.datasets import row_functions, shuffles
from tff_transfer.runtime.datasets.orders import (
    Batch,
    Repeat,
    Shuffle,
    Skip,
    Step,
    Take,
)

# Datasets that give the same at each pass if what they are made from does.
_STEADY = (
    '_TensorSliceDataset',
    '_TensorDataset',
    '_RangeDataset',
    'SqlDatasetV2',
    '_BatchDataset',
    '_ParallelBatchDataset',
    '_TakeDataset',
    '_SkipDataset',
    '_PrefetchDataset',
    '_OptionsDataset',
    '_MapDataset',
    '_ParallelMapDataset',
    '_FilterDataset',
)


@dataclasses.dataclass(frozen=True)
class _Map:
    """`Dataset.map` of a concrete function."""

    function: object


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a dataset is read.

    Attributes:
      source: The dataset that the steps begin with.
      steps: What happens to the order of its rows, the first step first.
      maps: What happens to the rows themselves.
    """

    source: tf.data.Dataset
    steps: tuple[Step, ...] = ()
    maps: tuple[Callable, ...] = ()

    @functools.cached_property
    def arrays(self) -> list[np.ndarray] | None:
        """The arrays [rows, ...] that the source has slices of, if it is of that kind.

        In the order of the components of its elements, not copied.
        """
        if not _is(self.source, '_TensorSliceDataset'):
            return None
        return [np.asarray(tensor) for tensor in self.source._tensors]


def plan(dataset: tf.data.Dataset) -> Plan:
    """Returns how a dataset is read; in the worst case, as a whole."""
    try:
        chain, source = [], dataset
        while (step := _step(source)) is not None:
            chain.append((source, step))
            source = source._input_dataset
        result = Plan(source)
        for whole, step in reversed(chain):
            result = _extended(result, step) or Plan(whole)
        return result
    except (AttributeError, TypeError, ValueError):
        return Plan(dataset)


def _is(dataset: tf.data.Dataset, *names: str) -> bool:
    """Returns whether a dataset is of one of TensorFlow's classes, by their names."""
    cls = type(dataset)
    return cls.__name__ in names and cls.__module__.startswith('tensorflow.python.data')


def _step(dataset: tf.data.Dataset) -> Step | _Map | tuple | None:
    """Returns what a dataset does with the one before it; () for nothing at all."""
    if _is(dataset, '_PrefetchDataset', '_OptionsDataset'):
        return ()
    if _is(dataset, '_BatchDataset', '_ParallelBatchDataset'):
        return Batch(int(dataset._batch_size), bool(dataset._drop_remainder))
    if _is(dataset, '_MapDataset', '_ParallelMapDataset'):
        return _Map(dataset._map_func.function)
    if _is(dataset, '_TakeDataset') and (count := int(dataset._count)) > 0:
        return Take(count)
    if _is(dataset, '_SkipDataset') and (count := int(dataset._count)) >= 0:
        return Skip(count)
    if _is(dataset, '_RepeatDataset') and (count := int(dataset._count)) > 0:
        fused = _is(dataset._input_dataset, '_ShuffleDataset')
        return Repeat(count, fused) if count > 1 else ()
    if _is(dataset, '_ShuffleDataset') and (size := int(dataset._buffer_size)) > 0:
        seeds = int(dataset._seed), int(dataset._seed2)
        step = Shuffle(dataset, size, seeds, dataset._reshuffle_each_iteration)
        # Without a seed and reshuffling, only TensorFlow knows the one order.
        drawn = step.reshuffle or seeds != (0, 0)
        return step if drawn and shuffles.are_known() else None
    return None


def _extended(plan: Plan, step: Step | _Map | tuple) -> Plan | None:
    """Returns a plan with another step, or None if TensorFlow has to read it."""
    steps = plan.steps
    done = {type(s) for s in steps}
    sliced = _is(plan.source, '_TensorSliceDataset')
    specs = tf.nest.flatten(plan.source.element_spec)
    # Rows of one shape; sparse and ragged tensors are more than an array each.
    if not all(type(s) is tf.TensorSpec and s.shape.is_fully_defined() for s in specs):
        return None
    if step == ():
        return plan
    if isinstance(step, _Map):
        function = row_functions.over_rows(step.function, batched=Batch in done)
        return function and dataclasses.replace(plan, maps=(*plan.maps, function))
    if isinstance(step, Batch | Shuffle) and type(step) in done:
        return None
    # What is not taken need not be read, or is endless.
    if isinstance(step, Take) and (not sliced or Repeat in done):
        return None
    if isinstance(step, Repeat) and (
        {Shuffle, Repeat} <= done or not (sliced or is_steady(plan.source))
    ):
        return None
    return dataclasses.replace(plan, steps=(*steps, step))


def is_steady(dataset: tf.data.Dataset) -> bool:
    """Returns whether each pass over a dataset gives the same, whatever runs beside."""
    return (
        _is(dataset, *_STEADY)
        and not any(_has_state(f.function) for f in dataset._functions())
        and all(is_steady(d) for d in dataset._inputs())
    )


def _has_state(function) -> bool:
    """Returns whether a concrete function draws, or reads or changes variables."""
    handles = (tf.resource, tf.variant)
    return function.function_def.signature.is_stateful or any(
        t.dtype in handles for t in function.captured_inputs
    )
