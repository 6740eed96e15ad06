"""Deals examples that belong to nobody out to clients.

`npz.read_central` gives the inputs, labels and test rows that these functions take.
"""

from collections.abc import Callable

import numpy as np

from tff_transfer import randomness
from tff_transfer.data import checks, federated
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError


def iid(
    x: np.ndarray, y: np.ndarray, num_clients: int, *, seed: int = 0, **options
) -> FederatedData:
    """Deals examples out at random, to each client the same number or one more.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", AISTATS 2017, section 3.

    Args:
      x: Images or vectors [n, ...], as for `federated.from_rows`.
      y: Labels [n].
      num_clients: How many clients there are to be, at most n.
      seed: The seed of the draw.
      **options: Passed to `federated.from_rows`, such as `name` and `is_test`; a
        given split into training and test examples is kept, and each part is dealt
        out with the rest.

    Returns:
      The data; the clients are called `'0'` to `str(num_clients - 1)`.

    Raises:
      UserError: There are fewer examples than clients, or what `from_rows` refuses.
    """

    def deal(labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        return draw.permutation(len(labels)) % num_clients

    return _dealt(x, y, num_clients, 'iid', seed, deal, options)


def shards(
    x: np.ndarray,
    y: np.ndarray,
    num_clients: int,
    *,
    shards_per_client: int = 2,
    seed: int = 0,
    **options,
) -> FederatedData:
    """Sorts examples by label, cuts them into shards and deals these out.

    Most clients then have examples of `shards_per_client` labels only: the
    pathological non-IID partition of McMahan et al. 2017, section 3.

    Args:
      x: Images or vectors [n, ...].
      y: Labels [n].
      num_clients: How many clients there are to be.
      shards_per_client: How many shards each gets; shards differ by one example at
        most.
      seed: The seed of the draw.
      **options: As for `iid`.

    Returns:
      The data, as for `iid`.

    Raises:
      UserError: There are fewer examples than shards, or as for `iid`.
    """
    _check(shards_per_client >= 1, f'shards_per_client is {shards_per_client}', '1 up')
    count = num_clients * shards_per_client
    if len(y) < count:
        raise UserError(
            f'{len(y)} examples cannot make {count} shards; ask for fewer clients or'
            ' shards_per_client'
        )

    def deal(labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        # Which examples of a label share a shard is random, too.
        order = np.lexsort([draw.random(len(labels)), labels])
        owner = draw.permutation(count) // shards_per_client
        client = np.empty(len(labels), np.int64)
        client[order] = owner[np.arange(len(labels)) * count // len(labels)]
        return client

    return _dealt(x, y, num_clients, 'shards', seed, deal, options)


def dirichlet(
    x: np.ndarray,
    y: np.ndarray,
    num_clients: int,
    *,
    alpha: float,
    seed: int = 0,
    **options,
) -> FederatedData:
    """Gives each client its own mixture of labels, drawn from a Dirichlet.

    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for
    Federated Visual Classification", arXiv:1909.06335: client k draws label
    proportions q_k ~ Dir(alpha * p), where p are the labels' shares of the whole, and
    then examples of these labels without replacement; all clients have the same
    number or one more. Where a label is used up, the client's other labels take its
    place in their proportions.

    Args:
      x: Images or vectors [n, ...].
      y: Labels [n].
      num_clients: How many clients there are to be, at most n.
      alpha: The concentration, above 0: towards 0 each client has one label, for
        large values all have the labels' shares of the whole.
      seed: The seed of the draw.
      **options: As for `iid`.

    Returns:
      The data, as for `iid`.

    Raises:
      UserError: alpha is not above 0, or as for `iid`.
    """
    _check(0 < alpha < np.inf, f'alpha is {alpha}', 'above 0')

    def deal(labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        _, label_index = np.unique(labels, return_inverse=True)
        left = np.bincount(label_index)
        prior = left / len(labels)
        # The rows of each label in random order, and where the next of them stands.
        rows = np.lexsort([draw.random(len(labels)), label_index])
        place = np.cumsum(left) - left
        client_of_row = np.empty(len(labels), np.int64)
        for client in range(num_clients):
            size = (len(labels) + client) // num_clients
            for label, count in enumerate(
                _counts(draw, draw.dirichlet(alpha * prior), size, left)
            ):
                mine = rows[place[label] : place[label] + count]
                client_of_row[mine] = client
                place[label] += count
                left[label] -= count
        return client_of_row

    return _dealt(x, y, num_clients, f'dirichlet {alpha:g}', seed, deal, options)


def _counts(
    draw: np.random.Generator, shares: np.ndarray, size: int, left: np.ndarray
) -> np.ndarray:
    """Draws how many examples of each label make up `size`, of what is left."""
    counts = np.zeros_like(left)
    while missing := size - counts.sum():
        weights = shares * (left > counts)
        if not weights.sum():
            weights = (left - counts).astype(float)
        drawn = draw.multinomial(missing, weights / weights.sum())
        counts = np.minimum(counts + drawn, left)
    return counts


def similar(
    x: np.ndarray,
    y: np.ndarray,
    num_clients: int,
    *,
    similarity: float,
    seed: int = 0,
    **options,
) -> FederatedData:
    """Deals a share of the examples out at random, and the rest sorted by label.

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated
    Learning", ICML 2020, section 7, after Hsu et al. 2019: all clients have the same
    number of examples or one more, of which the share `similarity` is random.

    Args:
      x: Images or vectors [n, ...].
      y: Labels [n].
      num_clients: How many clients there are to be, at most n.
      similarity: The share, from 0, where most clients have one or two labels, to 1,
        which is `iid`.
      seed: The seed of the draw.
      **options: As for `iid`.

    Returns:
      The data, as for `iid`.

    Raises:
      UserError: similarity is out of range, or as for `iid`.
    """
    _check(0 <= similarity <= 1, f'similarity is {similarity}', 'in [0, 1]')

    def deal(labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        drawn = draw.permutation(len(labels))
        count = round(similarity * len(labels))
        rest = drawn[count:]
        client = np.empty(len(labels), np.int64)
        client[drawn] = np.arange(len(labels)) % num_clients
        missing = np.bincount(client[rest], minlength=num_clients)
        by_label = rest[np.argsort(labels[rest], kind='stable')]
        client[by_label] = np.repeat(np.arange(num_clients), missing)
        return client

    return _dealt(x, y, num_clients, f'similarity {similarity:g}', seed, deal, options)


def quantity_skew(
    x: np.ndarray,
    y: np.ndarray,
    num_clients: int,
    *,
    beta: float,
    seed: int = 0,
    **options,
) -> FederatedData:
    """Deals examples out at random in unequal numbers.

    Li, Diao, Chen and He, "Federated Learning on Non-IID Data Silos: An Experimental
    Study", ICDE 2022, section IV-C: the clients' shares are q ~ Dir(beta). Here each
    client gets one example first, so that none is empty.

    Args:
      x: Images or vectors [n, ...].
      y: Labels [n].
      num_clients: How many clients there are to be, at most n.
      beta: The concentration, above 0: the smaller, the more unequal.
      seed: The seed of the draw.
      **options: As for `iid`.

    Returns:
      The data, as for `iid`.

    Raises:
      UserError: beta is not above 0, or as for `iid`.
    """
    _check(0 < beta < np.inf, f'beta is {beta}', 'above 0')

    def deal(labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        shares = draw.dirichlet(np.full(num_clients, beta))
        sizes = 1 + draw.multinomial(len(labels) - num_clients, shares)
        return draw.permutation(np.repeat(np.arange(num_clients), sizes))

    return _dealt(x, y, num_clients, f'quantity skew {beta:g}', seed, deal, options)


def _dealt(
    x: np.ndarray,
    y: np.ndarray,
    num_clients: int,
    purpose: str,
    seed: int,
    deal: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    options: dict,
) -> FederatedData:
    """Checks what all partitions have in common and groups the rows."""
    _check(num_clients >= 1, f'num_clients is {num_clients}', '1 up')
    options = {'name': f'{num_clients} clients, {purpose}', **options}
    labels = checks.labels(options['name'], y)
    if len(labels) < num_clients:
        raise UserError(
            f'{len(labels)} examples are not enough for {num_clients} clients; ask for'
            ' fewer'
        )
    client_of_row = deal(labels, randomness.generator(seed, 'partition'))
    return federated.from_rows(x=x, y=y, client_of_row=client_of_row, **options)


def _check(holds: bool, found: str, wanted: str) -> None:
    if not holds:
        raise UserError(f'{found}, but must be {wanted}')
