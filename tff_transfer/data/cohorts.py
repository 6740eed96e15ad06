"""The clients of one round, as arrays."""

import collections
import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import aligned, randomness, reprs
from tff_transfer.data.federated import FederatedData
from tff_transfer.data.rows import PreparedRows, files_of
from tff_transfer.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cohort(Sequence):
    """The examples of the clients of one round, in the order they are trained on.

    A client's examples are the rows from `row_splits[i]` to `row_splits[i + 1]`,
    shuffled and repeated already. Its batches are `batch_size` rows each; the last
    one holds what is left. A client may have no rows.

    As a sequence it gives each client's `tf.data.Dataset` of batches, the form that
    TFF documents. The compiled runtime reads the arrays.

    Attributes:
      examples: Arrays [rows, ...], or `PreparedRows`, by name, in the structure of the
        model's input_spec.
      row_splits: int64 [clients + 1].
      batch_size: Rows of a batch: one number, or one a client, [clients].
    """

    examples: collections.OrderedDict
    row_splits: np.ndarray
    batch_size: int | np.ndarray

    __repr__ = reprs.of_fields

    def __len__(self) -> int:
        """Returns the number of clients."""
        return len(self.row_splits) - 1

    def __getitem__(self, client: int) -> tf.data.Dataset:
        """Returns one client's batches as a `tf.data.Dataset`."""
        if not 0 <= client < len(self):
            raise IndexError(f'client {client} of a cohort of {len(self)}')
        rows = slice(self.row_splits[client], self.row_splits[client + 1])
        mine = tf.nest.map_structure(lambda array: array[rows], self.examples)
        return tf.data.Dataset.from_tensor_slices(mine).batch(self.batch_sizes[client])

    @property
    def batch_sizes(self) -> np.ndarray:
        """Rows of a batch of each client, [clients]."""
        return np.full(len(self), self.batch_size)


def choose_clients(clients: int, size: int, *, seed: int, round_number: int):
    """Chooses the clients of a round, without replacement.

    Args:
      clients: How many there are.
      size: How many are wanted, at most `clients`.
      seed: The run's seed.
      round_number: The round, from 1.

    Returns:
      Their numbers, int64 [size], in the order drawn.

    Raises:
      UserError: More are wanted than there are.
    """
    _check_size(clients, size)
    draw = randomness.generator(seed, 'cohort', round_number)
    return draw.choice(clients, size, replace=False)


def _check_size(clients: int, size: int) -> None:
    if not 1 <= size <= clients:
        raise UserError(
            f'{size} clients a round are wanted of {clients}; ask for 1 to {clients}'
        )


def sample_clients(clients: int, mean: int, *, seed: int, round_number: int):
    """Chooses the clients of a round, each by a draw of its own (Poisson sampling).

    Args:
      clients: How many there are.
      mean: How many are wanted on average, at most `clients`.
      seed: The run's seed.
      round_number: The round, from 1.

    Returns:
      Their numbers, int64 [some or none], ascending.

    Raises:
      UserError: More are wanted than there are.
    """
    _check_size(clients, mean)
    draw = randomness.generator(seed, 'poisson cohort', round_number)
    return np.flatnonzero(draw.random(clients) < mean / clients)


def choose_in_turn(
    clients: int,
    size: int,
    *,
    seed: int,
    round_number: int,
    groups: int | None = None,
    present: np.ndarray | None = None,
):
    """Chooses the clients of a round so that each one's rounds are far apart.

    The clients are divided, once, into as many groups as there are disjoint cohorts;
    the groups have their turn one after another, so that from one round of a client
    to its next it is `clients // size` rounds, or a multiple of that.

    Args:
      clients: How many there are.
      size: How many are wanted, at most `clients`.
      seed: The run's seed.
      round_number: The round, from 1.
      groups: How many groups there are, if fewer than that.
      present: The numbers of those that may be chosen, if not all.

    Returns:
      Their numbers, int64 [size], in the order drawn from the round's group; fewer if
      fewer of it are present.

    Raises:
      UserError: More are wanted than there are.
    """
    _check_size(clients, size)
    group = _group(clients, groups or clients // size, seed, round_number)
    if present is not None:
        group = group[np.isin(group, present)]
    draw = randomness.generator(seed, 'cohort in turn', round_number)
    return draw.choice(group, min(size, len(group)), replace=False)


def sample_in_turn(
    clients: int, mean: int, *, groups: int, seed: int, round_number: int
):
    """Chooses clients of one group after another, each by a draw of its own.

    Args:
      clients: How many there are, divided once into groups (as by `choose_in_turn`).
      mean: How many are wanted on average, at most those of a group on average.
      groups: How many groups there are.
      seed: The run's seed.
      round_number: The round, from 1.

    Returns:
      Their numbers, int64 [some or none]; each of the round's group is there with
      probability `mean * groups / clients`.

    Raises:
      UserError: More are wanted than there are.
    """
    _check_size(clients // groups, mean)
    group = _group(clients, groups, seed, round_number)
    draw = randomness.generator(seed, 'poisson cohort in turn', round_number)
    return group[draw.random(len(group)) < mean * groups / clients]


def _group(clients: int, groups: int, seed: int, round_number: int):
    """Returns the numbers of the clients whose turn it is."""
    order = randomness.generator(seed, 'groups').permutation(clients)
    return order[(round_number - 1) % groups :: groups]


def draw_epochs(
    clients: Sequence[int],
    least: int,
    most: int,
    *,
    straggler_fraction: float,
    seed: int,
    round_number: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws how many epochs each client of a round does.

    As the stragglers of Li et al. 2020, "Federated optimization in heterogeneous
    networks", section 5.2: a share of the round's clients does fewer.

    Args:
      clients: The numbers of the clients of this round.
      least: The fewest epochs of a straggler.
      most: Its most, drawn uniformly, and the epochs of all others.
      straggler_fraction: The share of stragglers; their number is rounded.
      seed: The run's seed.
      round_number: The round, from 1. Who is a straggler is a function of seed, round
        and place in the cohort; how many epochs it does, of seed, round and client.

    Returns:
      The epochs, int64 [clients], and who is a straggler, bool [clients].
    """
    draw = randomness.generator(seed, 'stragglers', round_number)
    late = draw.permutation(len(clients)) < round(straggler_fraction * len(clients))
    epochs = np.full(len(clients), most, np.int64)
    if least < most:
        for place in np.flatnonzero(late):
            draw = randomness.generator(seed, 'epochs', round_number, clients[place])
            epochs[place] = draw.integers(least, most, endpoint=True)
    return epochs, late


def num_held_out(examples, fraction: float) -> tf.Tensor:
    """Returns how many of a client's examples are its validation part, rounded down.

    Args:
      examples: How many it has, integers [...].
      fraction: The share that is held out, in [0, 1).

    Returns:
      int32 [...].
    """
    return tf.cast(fraction * tf.cast(examples, tf.float64), tf.int32)


def training_cohort(
    data: FederatedData,
    clients: Sequence[int],
    *,
    batch_size: int | np.ndarray,
    epochs: int | Sequence[int],
    seed: int,
    round_number: int,
    max_examples: int | None = None,
    transform: Callable[[np.ndarray], np.ndarray] = lambda x: x,
    keys: bool = False,
    labels: bool = False,
    augment: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    pooled: bool = False,
    held_out: float = 0.0,
    late: bool = False,
) -> Cohort:
    """Gathers the shuffled training examples of some clients.

    Args:
      data: The population.
      clients: The numbers of the clients of this round.
      batch_size: Rows of a batch: one number, or one a client.
      epochs: How often each example is seen; each epoch is shuffled anew. One number,
        or one a client, of which 0 leaves its examples out.
      seed: The run's seed.
      round_number: The round, from 1: the order of a client's examples is a
        function of seed, round and client.
      max_examples: The most examples of one client in an epoch, or None for all.
      transform: What is done to the gathered inputs [rows, ...].
      keys: Whether to give each row a seed, int32 [rows, 2], for what a model draws
        in training: a function of seed, round, client and the row's position.
      labels: Whether to give each row its label among the inputs too, for models that
        are conditioned on it; only with keys.
      augment: Changes the inputs before that, each by a key int32 [2] of its own, of
        the same kind, such as a `data.augmentation.Augmentation`.
      pooled: Whether their examples are those of one client, shuffled together; it
        draws as the first of them would.
      held_out: The share of a client's examples that is its validation part
        (`num_held_out`): the last ones of an epoch, in each round the same in the same
        order, a function of seed and client. Then `max_examples` keeps the same ones
        in each round too.
      late: Whether inputs that lie in a file are gathered and transformed when they
        are used, so that whoever uses them may read the file (`PreparedRows`).

    Returns:
      The cohort, with the examples `x` and `y`; with keys, `x` holds `inputs` and
      `key`, with labels `label` too.
    """
    rows, counts = [], []
    held = [np.r_[data.train_rows(client)] for client in clients]
    if pooled:
        clients, held = clients[:1], [np.concatenate(held)]
    of_client = np.broadcast_to(epochs, [len(clients)])
    for client, mine, passes in zip(clients, held, of_client, strict=True):
        draw = randomness.generator(seed, 'examples', round_number, client)
        last = mine[:0]
        if held_out:
            fixed = randomness.generator(seed, 'validation', client).permutation(mine)
            mine = fixed[:max_examples]
            cut = len(mine) - int(num_held_out(len(mine), held_out))
            mine, last = mine[:cut], mine[cut:]
        epoch_rows = [
            np.concatenate([mine[draw.permutation(len(mine))[:max_examples]], last])
            for _ in range(passes)
        ]
        rows.extend(epoch_rows)
        counts.append(sum(map(len, epoch_rows)))
    rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)

    def drawn(purpose: str) -> np.ndarray:
        draws = [
            randomness.generator(seed, purpose, round_number, client).integers(
                0, 2**31 - 1, size=(count, 2), dtype=np.int32
            )
            for client, count in zip(clients, counts, strict=True)
        ]
        return np.concatenate(draws) if draws else np.zeros([0, 2], np.int32)

    if late and augment is None and files_of(data.x):
        x = PreparedRows(data.x, rows, transform)
    else:
        x = aligned.take(data.x, rows)
        if augment is not None:
            x = augment(x, drawn('augmentation'))
        x = transform(x)
    if keys:
        x = collections.OrderedDict(inputs=x, key=drawn('keys'))
        if labels:
            x['label'] = data.y[rows]
    return Cohort(
        collections.OrderedDict(x=x, y=data.y[rows]),
        np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
        batch_size,
    )
