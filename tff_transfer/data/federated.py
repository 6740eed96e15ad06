"""Examples by client, as arrays."""

import dataclasses
import difflib
import functools
import hashlib
import zlib
from collections.abc import Sequence

import numpy as np

from tff_transfer import randomness
from tff_transfer.data import checks, inputs
from tff_transfer.errors import UserError


@dataclasses.dataclass(frozen=True)
class FederatedData:
    """The examples of many clients in one pair of arrays.

    Rows are grouped by client in the order of `client_ids`; within a client its
    training rows stand before its test rows, so that each part is one slice.

    Attributes:
      name: What the data are, for reports, such as `'emnist digits'`.
      x: Images [n, height, width, 1 or 3], uint8 in [0, 255] or float32 in [0, 1];
        or vectors [n, size], float32. May be memory-mapped.
      y: Labels [n], int32 in [0, num_classes).
      client_ids: The clients' names, all different.
      num_train: Training examples of each client, int64 [clients].
      num_test: Test examples of each client, int64 [clients].
      num_classes: The number of labels.
      class_names: What each label means, or empty.

    Raises:
      UserError: On construction, if these do not fit together; the values of `x` are
        not looked at (`from_rows` does).
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    client_ids: tuple[str, ...]
    num_train: np.ndarray
    num_test: np.ndarray
    num_classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self):
        checks.population(
            self.name,
            self.x,
            self.y,
            {'num_train': self.num_train, 'num_test': self.num_test},
            self.client_ids,
            self.num_classes,
            self.class_names,
        )
        clients = len(self.client_ids)
        if not len(self.num_train) == len(self.num_test) == clients:
            raise UserError(
                f'{self.name}: {clients} client ids, but {len(self.num_train)} counts'
                f' of training and {len(self.num_test)} of test examples'
            )
        rows = int(np.sum(self.num_train) + np.sum(self.num_test))
        if not len(self.x) == len(self.y) == rows:
            raise UserError(
                f'{self.name}: {len(self.x)} inputs and {len(self.y)} labels for'
                f' {rows} examples of clients'
            )
        if len(set(self.client_ids)) != clients:
            raise UserError(f'{self.name}: two clients have the same name')

    def __len__(self) -> int:
        """Returns the number of clients."""
        return len(self.client_ids)

    def __repr__(self) -> str:
        train, test = int(np.sum(self.num_train)), int(np.sum(self.num_test))
        return (
            f'FederatedData {self.name}\n{len(self):,} clients, {train:,} training and'
            f' {test:,} test examples of {self.num_classes} classes\nx:'
            f' {self.x.dtype} {list(self.x.shape)}'
        )

    @functools.cached_property
    def row_splits(self) -> np.ndarray:
        """Where each client's rows start, and the end, int64 [clients + 1]."""
        return np.concatenate([[0], np.cumsum(self.num_train + self.num_test)])

    @functools.cached_property
    def is_train(self) -> np.ndarray:
        """Whether each row is a training example, bool [n]."""
        counts = np.stack([self.num_train, self.num_test], axis=1).ravel()
        return np.repeat(np.tile([True, False], len(self)), counts)

    @functools.cached_property
    def client_of_row(self) -> np.ndarray:
        """The index of the client that holds each row, int64 [n]."""
        return np.repeat(np.arange(len(self)), self.num_train + self.num_test)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of `x`, of its dtype and shape: the key of what is made from it."""
        digest = hashlib.sha256(f'{self.x.dtype.str} {self.x.shape}'.encode())
        for start in range(0, len(self.x), 4096):
            digest.update(np.ascontiguousarray(self.x[start : start + 4096]).data)
        return digest.hexdigest()

    @functools.cached_property
    def content_fingerprint(self) -> str:
        """A SHA-256 of inputs, labels and who holds how many of them."""
        digest = hashlib.sha256(self.fingerprint.encode())
        for array in (self.y, self.num_train, self.num_test):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def number_of(self, client_id: str) -> int:
        """Returns the number of the client of a name.

        Raises:
          UserError: There is none.
        """
        if client_id not in self.client_ids:
            close = difflib.get_close_matches(client_id, self.client_ids, 1)
            (one,) = close or self.client_ids[:1]
            raise UserError(
                f'{self.name} has no client {client_id!r}; one of its clients is {one}'
            )
        return self.client_ids.index(client_id)

    def train_rows(self, client: int) -> slice:
        """Returns where the training examples of client number `client` stand."""
        start = int(self.row_splits[client])
        return slice(start, start + int(self.num_train[client]))

    def test_rows(self, client: int) -> slice:
        """Returns where the test examples of client number `client` stand."""
        end = int(self.row_splits[client + 1])
        return slice(end - int(self.num_test[client]), end)

    def with_x(self, x: np.ndarray) -> 'FederatedData':
        """Returns the same examples with other inputs, such as their features."""
        return dataclasses.replace(self, x=x)

    def select(self, clients: Sequence[int]) -> 'FederatedData':
        """Returns the data of some clients, by their numbers, in that order."""
        rows = [np.arange(self.row_splits[c], self.row_splits[c + 1]) for c in clients]
        rows = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return dataclasses.replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            client_ids=tuple(self.client_ids[c] for c in clients),
            num_train=self.num_train[list(clients)],
            num_test=self.num_test[list(clients)],
        )


def from_rows(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    client_of_row: np.ndarray,
    *,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
    is_test: np.ndarray | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Checks rows of examples and groups them by client.

    Args:
      name: What the data are.
      x: Images [n, h, w] or [n, h, w, 1, 3 or 4], of an integer dtype in [0, 255],
        bool, or floating in [0, 1], [-1, 1] or whole up to 255; or vectors [n, size].
        See `inputs.check`.
      y: Integer labels [n], at least 0, or one-hot labels [n, classes].
      client_of_row: The client of each row, [n], integers or strings.
      num_classes: How many labels there are; if not given, as many as one-hot labels
        or class names have, or the largest label + 1.
      class_names: What each label means, or empty.
      is_test: Which rows are test examples, bool [n]; if not given, a share of each
        client's rows is drawn.
      test_fraction: That share, in [0, 1). A client with one example trains on it.
      split_seed: The seed of that draw.

    Returns:
      The data, clients sorted by id.

    Raises:
      UserError: Shapes, dtypes, labels or pixels that do not fit, in one line.
    """
    if num_classes is None and np.ndim(y) == 2 and np.shape(y)[1] > 1:
        num_classes = np.shape(y)[1]
    x, y = inputs.check(name, x), checks.labels(name, y)
    clients = np.asarray(client_of_row)
    if clients.shape != (len(x),) or len(y) != len(x):
        raise UserError(
            f'{name}: {len(x)} inputs, {len(y)} labels and client ids of shape'
            f' {clients.shape}; there must be one label and one client id an example'
        )
    if not len(x):
        raise UserError(f'{name}: there are no examples; give at least one')
    num_classes = checks.num_classes(name, y, num_classes, class_names)
    unique, client_index = np.unique(checks.ids(name, clients), return_inverse=True)
    client_ids = checks.names(name, unique)
    if is_test is None:
        is_test = _draw_test_rows(
            name, client_index, client_ids, test_fraction, split_seed
        )
    is_test = np.asarray(is_test)
    if is_test.dtype != bool or is_test.shape != (len(x),):
        raise UserError(
            f'{name}: is_test is {is_test.dtype} {is_test.shape}, but must be bool'
            f' ({len(x)},)'
        )
    order = np.lexsort([is_test, client_index])
    if not np.array_equal(order, np.arange(len(x))):
        x, y = x[order], y[order]
    return FederatedData(
        name=name,
        x=x,
        y=y,
        client_ids=client_ids,
        num_train=np.bincount(client_index[~is_test], minlength=len(unique)),
        num_test=np.bincount(client_index[is_test], minlength=len(unique)),
        num_classes=num_classes,
        class_names=tuple(class_names),
    )


def _draw_test_rows(
    name: str,
    client_index: np.ndarray,
    client_ids: Sequence[str],
    test_fraction: float,
    split_seed: int,
) -> np.ndarray:
    """Draws a share of each client's rows, bool [n]; never all that a client has."""
    if not 0 <= test_fraction < 1:
        raise UserError(
            f'{name}: test_fraction is {test_fraction}, but must be in [0, 1)'
        )
    is_test = np.zeros(len(client_index), bool)
    rows = np.split(
        np.argsort(client_index, kind='stable'),
        np.cumsum(np.bincount(client_index))[:-1],
    )
    for client_id, mine in zip(client_ids, rows, strict=True):
        # The id, not its number: other clients that come or go change nothing.
        key = zlib.crc32(client_id.encode())
        draw = randomness.generator(split_seed, 'test examples', key)
        count = min(round(test_fraction * len(mine)), len(mine) - 1)
        is_test[draw.permutation(mine)[:count]] = True
    return is_test


def split_clients(
    clients: int, unseen_fraction: float = 0.1, split_seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Splits clients into those that train and those that are never trained on.

    Args:
      clients: How many there are.
      unseen_fraction: The share of unseen ones, in [0, 1); rounded, and at least
        one of each kind if the share is above 0 and there are two clients.
      split_seed: The unseen ones are the first of
        `numpy.random.default_rng(split_seed).permutation(clients)`.

    Returns:
      The seen and the unseen clients' numbers, each sorted, int64.
    """
    if not 0 <= unseen_fraction < 1:
        raise UserError(f'unseen_fraction is {unseen_fraction}, but must be in [0, 1)')
    unseen = 0
    if unseen_fraction and clients > 1:
        unseen = min(max(round(unseen_fraction * clients), 1), clients - 1)
    order = np.random.default_rng(split_seed).permutation(clients)
    return np.sort(order[unseen:]), np.sort(order[:unseen])
