"""Robust rules as TFF aggregation processes, on both runtimes."""

import dataclasses

import numpy as np
import pytest
import tensorflow_federated as tff
import walks

from tff_transfer import runtime
from tff_transfer.aggregation.clipping import CentredClipping, NormClip
from tff_transfer.aggregation.coordinates import Median
from tff_transfer.aggregation.geometric_median import GeometricMedian
from tff_transfer.aggregation.registry import KINDS
from tff_transfer.aggregation.robust import Bucketed, Robust
from tff_transfer.errors import UserError

CLIENTS, SIZE = 11, 6
ROBUST = {
    name: kind
    for name in KINDS.NAMES
    if issubclass(kind := KINDS.options(name), Robust)
}
FLOAT = tff.TensorType(np.float32)
VALUE = tff.types.to_type(((np.float32, [2]), (np.float32, [2, 2])))
VECTORS = np.random.default_rng(0).normal(size=(CLIENTS, SIZE)).astype(np.float32)


def value(vector):
    return vector[:2], vector[2:].reshape(2, 2)


def joined(result):
    return np.concatenate([np.ravel(part) for part in result])


def run(kind, rows, weights=None, rounds=1, clients=CLIENTS):
    """Returns the aggregate and the state after some rounds of the same updates."""
    factory = kind.aggregator(clients, 3)
    remembers = getattr(factory, 'remembers', False)
    of = tff.types.to_type((VALUE, (np.float32, [SIZE]))) if remembers else VALUE
    process = factory.create(of, FLOAT)
    weights = np.ones(len(rows), np.float32) if weights is None else weights
    values = [(value(row), row) if remembers else value(row) for row in rows]
    more = ()
    if getattr(factory, 'needs_reference', False):
        more = (value(VECTORS[0]),)
    state = process.initialize()
    for _ in range(rounds):
        given = list(map(np.float32, weights))
        out = process.next(state, values, given, *more)
        state = out.state
    return joined(out.result), state, out.measurements


@pytest.fixture(autouse=True)
def compiled():
    with runtime.use_compiled():
        yield


def test_who_counts_for_nothing_is_no_vector_of_zeros():
    rows = np.r_[VECTORS, np.zeros((4, SIZE)), np.full((1, SIZE), 1e30)]
    weights = np.r_[np.ones(CLIENTS), np.zeros(4), 1]
    found, _, _ = run(Median(), rows.astype(np.float32), weights, clients=16)
    np.testing.assert_array_equal(found, np.median(VECTORS, axis=0))


def test_of_nobody_zeros_come_and_the_aggregate_before_stays():
    kind = CentredClipping(radius=100.0)
    factory = kind.aggregator(CLIENTS, 0)
    process = factory.create(VALUE, FLOAT)
    values, ones = list(map(value, VECTORS)), [np.float32(1)] * CLIENTS
    state = process.next(process.initialize(), values, ones).state
    before = np.array(state.previous)
    np.testing.assert_allclose(before, VECTORS.mean(0), atol=1e-6)
    for some in ((values, [np.float32(0)] * CLIENTS), ([], [])):
        out = process.next(state, *some)
        state = out.state
        np.testing.assert_array_equal(joined(out.result), np.zeros(SIZE))
        np.testing.assert_array_equal(state.previous, before)
        assert out.measurements['clipped'] == 0


def test_rounds_of_communication_and_side_by_side_are_one_geometric_median():
    weights = np.arange(1, CLIENTS + 1)
    rows = np.r_[VECTORS, np.full((1, SIZE), 1e25)].astype(np.float32)
    kind = GeometricMedian(iterations=2)
    found, _, _ = run(kind, rows, [*weights, 5])
    z = np.average(VECTORS, axis=0, weights=weights)
    for _ in range(2):
        near = weights / np.linalg.norm(VECTORS - z, axis=1)
        z = np.average(VECTORS, axis=0, weights=near)
    np.testing.assert_allclose(found, z, atol=1e-5)
    np.testing.assert_array_equal(run(kind, rows, [0] * 12)[0], np.zeros(SIZE))


def test_one_bucket_of_all_is_the_mean():
    weights = np.arange(1, CLIENTS + 1)
    for kind, mean in [
        (Median, VECTORS.mean(0)),
        (NormClip, np.average(VECTORS, axis=0, weights=weights)),
    ]:
        found, _, _ = run(kind(bucket_size=CLIENTS), VECTORS, weights)
        norm = np.linalg.norm(mean)
        clipped = mean / max(norm, 1) if kind is NormClip else mean
        np.testing.assert_allclose(found, clipped, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    walks.over(ROBUST, ('trimmedmean', 'krum', 'centredclipping', 'fltrust')),
)
def test_both_runtimes_give_the_same(name):
    kind, rows = ROBUST[name](), VECTORS + 0.5
    weights = np.r_[np.ones(CLIENTS - 1), 0]
    kinds = [kind]
    if isinstance(kind, Bucketed) and not hasattr(kind, 'attackers'):
        kinds.append(dataclasses.replace(kind, bucket_size=3))
    for each in kinds:
        ours = run(each, rows, weights, rounds=2)
        with runtime.use_stock():
            stock = run(each, rows, weights, rounds=2)
        np.testing.assert_allclose(ours[0], stock[0], atol=1e-6)
        assert np.linalg.norm(ours[0]) > 0
        assert ours[2] == pytest.approx(stock[2])


@pytest.mark.parametrize(
    ('name', 'options', 'clients', 'words'),
    [
        ('krum', {'attackers': 4}, 10, 'needs 11 clients a round or more'),
        ('multikrum', {'attackers': 2, 'chosen': 9}, 12, '9 chosen . 2 attackers . 2'),
        ('bulyan', {'attackers': 2}, 10, '4 x 2 attackers . 3'),
        ('krum', {'bucket_size': 2}, 8, 'needs 5 buckets of clients'),
        ('median', {'bucket_size': 9}, 8, 'more than --clients_per_round=8'),
        ('trimmedmean', {'trimmed': 0.1}, 9, '0.1 of 9 leaves nobody out'),
    ],
)
def test_too_few_clients_for_a_rule_are_refused(name, options, clients, words):
    kind = ROBUST[name](**options)
    with pytest.raises(UserError, match=words):
        kind.check(name, clients)
    kind.check(name, clients + 3)
