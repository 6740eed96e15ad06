"""Which rows are a dataset's elements, and in which order, as steps of a pipeline."""

import dataclasses

import numpy as np
import tensorflow as tf

from tff_transfer.runtime import layouts
from tff_transfer.runtime.datasets import shuffles


@dataclasses.dataclass(frozen=True)
class Order:
    """The elements of a dataset, as numbers of rows of some arrays.

    Attributes:
      rows: int64, the rows of all elements, one element's after another's.
      starts: Where each element's rows start, int64 [elements + 1]; None if each row
        is an element, not a batch of one.
    """

    rows: np.ndarray
    starts: np.ndarray | None = None

    def __len__(self) -> int:
        """Returns how many elements there are."""
        return len(self.rows if self.starts is None else self.starts[1:])

    def select(self, elements: np.ndarray) -> 'Order':
        """Returns elements by their numbers."""
        if self.starts is None:
            return Order(self.rows[elements])
        sizes = np.diff(self.starts)[elements]
        starts = layouts.starts_of(sizes)
        moved = np.repeat(self.starts[elements] - starts[:-1], sizes)
        return Order(self.rows[moved + np.arange(len(moved))], starts)


@dataclasses.dataclass(frozen=True)
class Batch:
    """`Dataset.batch`, of single rows."""

    size: int
    drop_remainder: bool

    def __call__(self, order: Order) -> Order:
        """Returns the batches."""
        rows = order.rows
        if self.drop_remainder:
            rows = rows[: len(rows) - len(rows) % self.size]
        return Order(rows, np.append(np.arange(0, len(rows), self.size), len(rows)))


@dataclasses.dataclass(frozen=True)
class Take:
    """`Dataset.take` of a positive number."""

    count: int

    def __call__(self, order: Order) -> Order:
        """Returns the first elements."""
        return order.select(np.arange(min(self.count, len(order))))


@dataclasses.dataclass(frozen=True)
class Skip:
    """`Dataset.skip` of a number that is not negative."""

    count: int

    def __call__(self, order: Order) -> Order:
        """Returns what comes after the first elements."""
        return order.select(np.arange(min(self.count, len(order)), len(order)))


@dataclasses.dataclass(frozen=True)
class Shuffle:
    """`Dataset.shuffle`: a new order each time, if it reshuffles.

    Attributes:
      dataset: What it returned.
      buffer_size: Of how many elements each is chosen.
      seeds: The two seeds of its passes, 0 and 0 if none was set.
      reshuffle: Whether passes differ.
    """

    dataset: tf.data.Dataset
    buffer_size: int
    seeds: tuple[int, int]
    reshuffle: bool

    def __call__(self, order: Order) -> Order:
        """Returns all elements as the next pass has them."""
        seeds = self.start()
        return order.select(shuffles.order(len(order), self.buffer_size, seeds))

    def start(self) -> tuple[int, int]:
        """Begins a pass; returns its seeds."""
        return shuffles.next_seeds(self.dataset, self.seeds, self.reshuffle)


@dataclasses.dataclass(frozen=True)
class Repeat:
    """`Dataset.repeat` of more than one.

    Attributes:
      count: How often.
      fused: Whether TensorFlow makes one step of it and a shuffle before it.
    """

    count: int
    fused: bool


Step = Batch | Take | Skip | Shuffle | Repeat


def after(count: int, steps: tuple[Step, ...]) -> Order:
    """Returns the order of some rows after the steps of a pipeline.

    Args:
      count: How many rows there are.
      steps: The steps, the first one first; at most one shuffles, and at most one
        repeats what is shuffled.
    """
    order = Order(np.arange(count))
    for number, step in enumerate(steps):
        if not isinstance(step, Repeat):
            order = step(order)
            continue
        before = steps[:number]
        shuffle = next((s for s in before if isinstance(s, Shuffle)), None)
        if shuffle is None:
            order = order.select(np.tile(np.arange(len(order)), step.count))
            continue
        epochs = [order] + [after(count, before) for _ in range(step.count - 1)]
        # TensorFlow begins one epoch more before it finds itself at the end.
        if not step.fused:
            shuffle.start()
        order = _joined(epochs)
    return order


def _joined(epochs: list[Order]) -> Order:
    rows = np.concatenate([epoch.rows for epoch in epochs])
    if epochs[0].starts is None:
        return Order(rows)
    sizes = np.concatenate([np.diff(epoch.starts) for epoch in epochs])
    return Order(rows, layouts.starts_of(sizes))
