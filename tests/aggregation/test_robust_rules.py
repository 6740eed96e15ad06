"""Each robust rule beside a few lines of NumPy from its paper, and SciPy."""

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf

from tff_transfer.aggregation import order_statistics
from tff_transfer.aggregation.bulyan import Bulyan
from tff_transfer.aggregation.clipping import CentredClipping, NormClip
from tff_transfer.aggregation.coordinates import Median, TrimmedMean
from tff_transfer.aggregation.geometric_median import GeometricMedian
from tff_transfer.aggregation.krum import Krum, MultiKrum
from tff_transfer.aggregation.side_by_side import Updates, in_buckets
from tff_transfer.aggregation.trust import FLTrust, FoolsGold, by_unlikeness

SIZE = 7


def vectors(rows, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, SIZE)).astype(np.float32)


def combined(kind, rows, *, most=None, weights=None, previous=None, **more):
    """Returns what a rule makes of rows, in a graph of the kind that TFF makes."""
    rows = np.asarray(rows, np.float32)
    weights = np.ones(len(rows)) if weights is None else weights
    previous = np.zeros(rows.shape[1]) if previous is None else previous
    combine = tf.function(kind.rule(most or len(rows)).combine, autograph=False)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        # Of whom there are how many is not known there.
        given = tf.compat.v1.placeholder(tf.float32, [None, rows.shape[1]])
        updates = Updates(
            given,
            tf.constant(weights, tf.float32),
            tf.constant(previous, tf.float32),
            more.get('reference'),
            more.get('histories'),
        )
        return session.run(combine(updates)[0], {given: rows})


@pytest.mark.parametrize('rows', [1, 2, 3, 8, 13, 64, 100])
def test_a_network_sorts_whatever_it_is_given(rows):
    # What sorts all of zeros and ones sorts everything (Knuth, 5.3.4, theorem Z).
    given = np.random.default_rng(rows).integers(0, 2, (rows, 500))
    if rows <= 8:
        given = (np.arange(2**rows)[None] >> np.arange(rows)[:, None]) & 1
    found = given.copy()
    for i, j in order_statistics.comparators(rows):
        found[[i, j]] = np.minimum(found[i], found[j]), np.maximum(found[i], found[j])
    np.testing.assert_array_equal(found, np.sort(given, axis=0))


# As many rows as the network is for, fewer, and more than any network is for.
@pytest.mark.parametrize(('rows', 'most'), [(9, 9), (10, 10), (8, 9), (9, 200)])
def test_the_median_and_the_trimmed_mean_are_those_of_numpy_and_scipy(rows, most):
    given = vectors(rows)
    found = combined(Median(), given, most=most)
    np.testing.assert_array_equal(found, np.median(given, axis=0))
    for share in (0, 0.3):
        found = combined(TrimmedMean(trimmed=share), given, most=most)
        expected = scipy.stats.trim_mean(given.astype(np.float64), share)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_order_of_many_columns_is_found_in_parts():
    given = np.random.default_rng(3).normal(size=(5, 40_000)).astype(np.float32)
    found = combined(Median(), given)
    np.testing.assert_array_equal(found, np.median(given, axis=0))


def test_the_geometric_median_is_where_the_sum_of_distances_is_least():
    given, weights = vectors(9).astype(np.float64), np.arange(1.0, 10.0)

    def cost(z):
        return weights @ np.linalg.norm(given - z, axis=1)

    expected = scipy.optimize.minimize(cost, given.mean(0), tol=1e-10).x
    kind = GeometricMedian(iterations=40)
    found = combined(kind, given, weights=weights)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_few_steps_towards_the_geometric_median_are_those_of_weiszfeld():
    given, weights, nu = vectors(6).astype(np.float64), np.arange(1.0, 7.0), 2.0
    z = np.average(given, axis=0, weights=weights)
    for _ in range(2):
        near = [
            w / max(nu, np.linalg.norm(x - z))
            for w, x in zip(weights, given, strict=True)
        ]
        z = sum(b * x for b, x in zip(near, given, strict=True)) / sum(near)
    kind = GeometricMedian(iterations=2, nu=nu)
    np.testing.assert_allclose(combined(kind, given, weights=weights), z, atol=1e-6)


def scores(given, attackers):
    found = []
    for i, x in enumerate(given):
        apart = sorted(np.sum((x - y) ** 2) for j, y in enumerate(given) if j != i)
        found.append(sum(apart[: max(len(given) - attackers - 2, 1)]))
    return np.array(found)


def test_krum_and_multi_krum_choose_by_their_scores():
    given = vectors(9)
    best = np.argsort(scores(given.astype(np.float64), 2))
    np.testing.assert_allclose(combined(Krum(attackers=2), given), given[best[0]])
    for chosen, count in [(None, 5), (3, 3)]:
        found = combined(MultiKrum(attackers=2, chosen=chosen), given)
        np.testing.assert_allclose(found, given[best[:count]].mean(0), atol=1e-6)


def numpy_bulyan(given, attackers):
    given = list(given.astype(np.float64))
    selected, count = [], len(given)
    while len(selected) < count - 2 * attackers:
        selected.append(given.pop(np.argmin(scores(given, attackers))))
    selected = np.array(selected)
    apart = np.abs(selected - np.median(selected, axis=0))
    near = np.argsort(apart, axis=0)[: len(selected) - 2 * attackers]
    return np.take_along_axis(selected, near, 0).mean(0)


@pytest.mark.parametrize('seed', range(2))
def test_bulyan_is_krum_again_and_again_then_what_is_near_the_median(seed):
    given = vectors(11, seed)
    found = combined(Bulyan(attackers=2), given)
    np.testing.assert_allclose(found, numpy_bulyan(given, 2), atol=1e-5)


def test_clipping_is_to_a_norm_around_zero_or_around_the_last_aggregate():
    given, weights = 3 * vectors(5), [1, 4, 2, 3, 0.5]
    clipped = [x / max(1, np.linalg.norm(x) / 6) for x in given]
    found = combined(NormClip(norm=6.0), given, weights=weights)
    expected = np.average(clipped, axis=0, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    v = previous = vectors(1, 5)[0]
    for _ in range(3):
        v = v + np.mean(
            [(x - v) * min(1, 4 / np.linalg.norm(x - v)) for x in given], axis=0
        )
    kind = CentredClipping(radius=4.0, iterations=3)
    np.testing.assert_allclose(combined(kind, given, previous=previous), v, rtol=1e-4)


def numpy_fools_gold(histories, kappa):
    n = len(histories)
    unit = histories / np.linalg.norm(histories, axis=1)[:, None]
    cs = unit @ unit.T - np.eye(n)
    v = cs.max(1)
    for i in range(n):
        for j in range(n):
            if i != j and v[i] < v[j]:
                cs[i, j] *= v[i] / v[j]
    alpha = np.clip(1 - cs.max(1), 0, 1)
    alpha /= alpha.max()
    alpha[alpha == 1] = 0.99
    with np.errstate(divide='ignore'):
        alpha = kappa * (np.log(alpha / (1 - alpha)) + 0.5)
    return np.clip(alpha, 0, 1)


@pytest.mark.parametrize('kappa', [1.0, 0.3])
def test_fools_gold_is_the_algorithm_of_its_authors(kappa):
    histories, given = vectors(6) + 0.3, vectors(6, 1)
    histories[4] = histories[1] + 0.05 * vectors(1, 2)[0]
    trust = numpy_fools_gold(histories.astype(np.float64), kappa)
    assert trust.min() < 0.1 < 0.9 * kappa < trust.max()
    found = by_unlikeness(histories, kappa)
    np.testing.assert_allclose(found, trust, atol=1e-4)
    found = combined(FoolsGold(confidence=kappa), given, histories=histories)
    expected = np.average(given, axis=0, weights=trust)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_fools_gold_counts_nobody_of_those_who_are_all_alike():
    alike = np.repeat(vectors(1), 3, 0)
    found = combined(FoolsGold(), alike, histories=alike)
    np.testing.assert_array_equal(found, np.zeros(SIZE))


def test_fl_trust_weighs_by_the_cosine_to_the_servers_update():
    given, ours = 2 * vectors(6), vectors(1, 4)[0]
    cosine = given @ ours / np.linalg.norm(given, axis=1) / np.linalg.norm(ours)
    trust = np.maximum(cosine, 0)
    assert 0 < np.count_nonzero(trust) < 6
    long = given * np.linalg.norm(ours) / np.linalg.norm(given, axis=1)[:, None]
    found = combined(FLTrust(), given, reference=ours)
    expected = np.average(long, axis=0, weights=trust)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    against = combined(FLTrust(), -np.repeat(ours[None], 3, 0), reference=ours)
    np.testing.assert_array_equal(against, np.zeros(SIZE))


# The rule, and how many of eleven may say the same far thing before it is believed:
# Krum believes a group of n - f - 1, each of whom has neighbours enough at no distance;
# of the seven that Bulyan chooses, the last choices among 8, 7, 6 and 5 are theirs if
# they are five, which is most of the seven.
@pytest.mark.parametrize(
    ('kind', 'borne'),
    [
        (Median(), 5),
        (TrimmedMean(trimmed=0.2), 2),
        (GeometricMedian(iterations=40), 5),
        (Krum(attackers=4), 5),
        (MultiKrum(attackers=4, chosen=1), 5),
        (Bulyan(attackers=2), 4),
    ],
)
def test_one_attacker_more_than_a_rule_bears_is_believed(kind, borne):
    honest = 0.1 * vectors(11) + 1
    for attackers in (borne, borne + 1):
        given = honest.copy()
        given[:attackers] = 1000.0
        moved = np.abs(combined(kind, given) - 1).max()
        assert (moved > 10) == (attackers > borne), attackers


def test_an_attacker_moves_a_clipped_mean_by_a_norm_and_no_more():
    honest = 0.1 * vectors(10)
    for kind in (NormClip(norm=2.0), CentredClipping(radius=2.0)):
        clean = combined(kind, honest)
        for attackers in (1, 9):
            given = honest.copy()
            given[:attackers] = 1e6
            moved = np.linalg.norm(combined(kind, given) - clean)
            assert moved == pytest.approx(attackers * 2 / 10, rel=0.2)


def test_all_but_one_may_be_attackers_where_the_server_knows_the_way():
    ours = np.ones(SIZE, np.float32)
    given = np.repeat(-1000 * ours[None], 10, 0)
    given[3] = 5 * ours
    np.testing.assert_allclose(combined(FLTrust(), given, reference=ours), ours)


def test_sybils_count_for_nothing_and_one_attacker_alone_counts():
    given = np.eye(SIZE, dtype=np.float32)
    given[4:] = [0, 0, 0, 0, 5, 5, 5]  # Three who say the same.
    found = combined(FoolsGold(), given, histories=given)
    np.testing.assert_allclose(found, np.r_[[0.25] * 4, 0, 0, 0], atol=1e-6)
    one = combined(FoolsGold(), given[:5], histories=given[:5])
    np.testing.assert_allclose(one, np.r_[[0.2] * 4, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    'kind',
    [TrimmedMean(trimmed=0.0), NormClip(norm=1e6), CentredClipping(radius=1e6)],
)
def test_what_leaves_nothing_out_is_the_mean(kind):
    given = vectors(9)
    np.testing.assert_allclose(combined(kind, given), given.mean(0), atol=1e-6)


@pytest.mark.parametrize(('clients', 'size'), [(6, 2), (7, 3), (5, 5)])
def test_buckets_are_means_of_clients_of_whom_each_is_in_one(clients, size):
    weights = np.arange(1, clients + 1, dtype=np.float32)
    rows, total = in_buckets(np.eye(clients, dtype=np.float32), weights, size, [3, 1])
    inside = rows.numpy() > 0
    assert sorted(inside.sum(1)) == sorted(
        [size] * (clients // size) + [clients % size] * (clients % size > 0)
    )
    np.testing.assert_array_equal(inside.sum(0), 1)
    np.testing.assert_allclose(total, inside @ weights)
    expected = inside * weights / (inside @ weights)[:, None]
    np.testing.assert_allclose(rows, expected, rtol=1e-6)


def test_buckets_are_others_in_each_round_and_for_each_seed():
    given = np.eye(12, dtype=np.float32)

    def drawn(seed, round_number):
        key = [seed, round_number]
        return in_buckets(given, np.ones(12, np.float32), 3, key)[0].numpy()

    np.testing.assert_array_equal(drawn(1, 1), drawn(1, 1))
    assert (drawn(1, 1) != drawn(1, 2)).any()
    assert (drawn(1, 1) != drawn(2, 1)).any()
