"""Clients' datasets as arrays in the runtime's layout."""

import math
import os
import weakref
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import machine
from tff_transfer.data.rows import Rows
from tff_transfer.errors import UserError
from tff_transfer.runtime import layouts
from tff_transfer.runtime.datasets import pipelines, plans
from tff_transfer.runtime.datasets.orders import (
    Batch,
    Order,
    Repeat,
    Skip,
    Take,
    after,
)

# For dataset objects whose elements are numbers of rows of their own arrays, in the
# same order at each pass: these, and the type and order that they were asked for in.
_kept: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def read(
    datasets: Sequence[tf.data.Dataset],
    names: Sequence[str],
    positions: Sequence[Sequence[int]],
    element: tff.Type,
) -> list[layouts.Elements]:
    """Reads datasets, of which each begins anew.

    Args:
      datasets: The datasets, of the right type.
      names: What each is called in errors.
      positions: For each, which component of its elements, in TensorFlow's order, is
        each of the type's leaves.
      element: The type of their elements.

    Returns:
      The elements of each.

    Raises:
      UserError: A dataset is endless, or takes more memory than there is.
    """
    wanted = [(element, tuple(order)) for order in positions]
    found = [_known(dataset, of) for dataset, of in zip(datasets, wanted, strict=True)]
    anew = [number for number, elements in enumerate(found) if elements is None]
    if not anew:
        return found
    made = {number: plans.plan(datasets[number]) for number in anew}
    read_now = _read(
        list(made.values()),
        [names[number] for number in anew],
        [positions[number] for number in anew],
        element,
    )
    for number, elements in zip(anew, read_now, strict=True):
        found[number] = elements
        if _may_be_kept(made[number], elements):
            _kept[datasets[number]] = wanted[number], elements
    return found


def _known(dataset: tf.data.Dataset, wanted: tuple) -> layouts.Elements | None:
    """Returns what is kept of a dataset, if it is what is wanted."""
    of, elements = _kept.get(dataset, (None, None))
    return elements if of == wanted else None


def _may_be_kept(plan: plans.Plan, elements: layouts.Elements) -> bool:
    """Returns whether they are the same at each pass, and take little memory."""
    return (
        plan.arrays is not None
        # Strings are other objects than the dataset's.
        and all(array.dtype != object for array in plan.arrays)
        and not plan.maps
        and all(isinstance(step, Batch | Take | Skip) for step in plan.steps)
        and all(isinstance(values, Rows) for values, *_ in elements.leaves)
    )


def _read(
    made: list[plans.Plan],
    names: Sequence[str],
    positions: Sequence[Sequence[int]],
    element: tff.Type,
) -> list[layouts.Elements]:
    """Reads what was not read before, as `read` does."""
    limit = machine.memory().free
    for plan, name in zip(made, names, strict=True):
        if plan.arrays is None and _is_endless(plan.source):
            raise UserError(
                f'{name} is an endless dataset, which cannot be read whole: end it'
                ' with .take(n), or give .repeat() a number'
            )
    try:
        sources = _sources(made, names, limit)
        return [
            _elements(plan, columns, name, order, element, limit)
            for plan, columns, name, order in zip(
                made, sources, names, positions, strict=True
            )
        ]
    except MemoryError as error:
        raise UserError(
            f'{str(error) or "the datasets take more memory than there is"}: give'
            ' fewer clients or examples a round, or if it is endless, end it with'
            ' .take(n)'
        ) from error


def _is_endless(dataset: tf.data.Dataset) -> bool:
    return int(dataset.cardinality()) == tf.data.INFINITE_CARDINALITY


def _sources(made: list[plans.Plan], names: Sequence[str], limit: int) -> list[list]:
    """Returns what each plan begins with: its components' arrays."""
    found = [plan.arrays for plan in made]
    groups: dict[tuple, list[int]] = {}
    for number, plan in enumerate(made):
        if found[number] is None:
            dtypes = [s.dtype for s in tf.nest.flatten(plan.source.element_spec)]
            groups.setdefault(tuple(dtypes), []).append(number)
    for numbers in groups.values():
        sources = [made[n].source for n in numbers]
        steady = all(map(plans.is_steady, sources))
        threads = len(os.sched_getaffinity(0)) if steady else 1
        columns = pipelines.read(sources, [names[n] for n in numbers], limit, threads)
        for number, mine in zip(numbers, columns, strict=True):
            found[number] = mine
    return found


def _elements(
    plan: plans.Plan,
    columns: list,
    name: str,
    positions: Sequence[int],
    element: tff.Type,
    limit: int,
) -> layouts.Elements:
    """Returns what a plan gives, from its source's components."""
    types = layouts.leaf_types(element)
    if not plan.steps and not plan.maps:
        count = len(columns[0])
        values = [list(columns[p]) for p in positions]
        leaves = [layouts.concatenate(v, t) for v, t in zip(values, types, strict=True)]
        return layouts.Elements(count, tuple(leaves))
    specs = tf.nest.flatten(plan.source.element_spec)
    columns = [_stacked(c, s) for c, s in zip(columns, specs, strict=True)]
    repeats = [step.count for step in plan.steps if isinstance(step, Repeat)]
    size = sum(c.nbytes for c in columns) * math.prod(repeats)
    if size > limit:
        raise MemoryError(
            f'{name} holds {size / 2**30:.1f} GiB, and {limit / 2**30:.1f} are free'
        )
    order = after(len(columns[0]), plan.steps)
    if plan.maps and len(order.rows):
        first = order.rows.min()
        columns = [c[first : order.rows.max() + 1] for c in columns]
        order = Order(order.rows - first, order.starts)
    for function in plan.maps:
        columns = function(columns)
    leaves = [
        _laid_out(columns[p], order, t) for p, t in zip(positions, types, strict=True)
    ]
    return layouts.Elements(len(order), tuple(leaves))


def _stacked(column: np.ndarray | list, spec: tf.TensorSpec) -> np.ndarray:
    """Returns the values of elements of one shape as one array."""
    if isinstance(column, np.ndarray):
        return column
    empty = np.zeros((0, *spec.shape), spec.dtype.as_numpy_dtype)
    return np.stack(column) if column else empty


def _laid_out(column: np.ndarray, order: Order, leaf: tff.TensorType) -> tuple:
    """Returns the arrays of one component, its rows not yet gathered if possible."""
    kind = layouts.layout(leaf)
    if kind == 'stacked' and order.starts is None:
        return (Rows([(column, order.rows)], column.shape[1:], column.dtype),)
    if kind == 'rows' and order.starts is not None:
        rows = Rows([(column, order.rows)], column.shape[1:], column.dtype)
        return rows, order.starts
    gathered = column[order.rows]
    values = list(gathered)
    if order.starts is not None:
        values = np.split(gathered, order.starts[1:-1]) if len(order) else []
    return layouts.concatenate(values, leaf)
