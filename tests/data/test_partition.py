import pathlib

import numpy as np
import pytest

from tff_transfer.data import npz, partition

PNEUMONIA = pathlib.Path(__file__).parents[3] / 'shared/data/pneumoniamnist.npz'
ALL = {
    'iid': {},
    'shards': {},
    'dirichlet': {'alpha': 0.3},
    'quantity_skew': {'beta': 0.5},
    'similar': {'similarity': 0.3},
}


def rows(n=1000, classes=10):
    """Inputs that say which row they are."""
    return np.arange(n, dtype=np.float32)[:, None], np.arange(n) * classes // n


def labels_of_clients(data):
    """How often each client has each label, [clients, classes]."""
    counts = np.zeros([len(data), data.num_classes], int)
    np.add.at(counts, (data.client_of_row, data.y), 1)
    return counts


@pytest.mark.parametrize(('name', 'options'), ALL.items())
def test_every_example_is_dealt_to_one_client(name, options):
    x, y = rows()
    deal = getattr(partition, name)
    data = deal(x, y, 30, seed=1, **options)
    assert len(data) == 30 and data.client_ids[10] == '10'
    order = np.argsort(data.x[:, 0])
    np.testing.assert_array_equal(data.x[order], x)
    np.testing.assert_array_equal(data.y[order], y)
    same, other = (deal(x, y, 30, seed=seed, **options) for seed in (1, 2))
    np.testing.assert_array_equal(data.x, same.x)
    assert not np.array_equal(data.x, other.x)


@pytest.mark.parametrize(('name', 'options'), ALL.items())
def test_a_given_split_is_kept(name, options):
    x, y = rows()
    is_test = np.arange(1000) % 10 == 3
    data = getattr(partition, name)(x, y, 5, is_test=is_test, name='mine', **options)
    assert data.name == 'mine' and data.num_test.sum() == 100
    assert set(data.x[~data.is_train, 0] % 10) == {3}


@pytest.mark.parametrize(('name', 'options'), ALL.items())
def test_as_many_clients_as_examples_and_one_client(name, options):
    x, y = rows(40)
    if name == 'shards':
        options = {'shards_per_client': 1}
    data = getattr(partition, name)(x, y, 40, **options)
    assert (data.num_train + data.num_test).tolist() == [1] * 40
    data = getattr(partition, name)(x, y, 1, **options)
    assert (data.num_train + data.num_test).tolist() == [40]


@pytest.mark.parametrize('name', ['iid', 'shards', 'dirichlet', 'similar'])
def test_sizes_differ_by_little(name):
    data = getattr(partition, name)(*rows(), 30, **ALL[name])
    sizes = data.num_train + data.num_test
    # Two shards of 16 or 17 examples each.
    most, least = (34, 32) if name == 'shards' else (34, 33)
    assert sizes.max() == most and sizes.min() >= least


def test_iid_clients_have_all_labels():
    counts = labels_of_clients(partition.iid(*rows(10_000), 10))
    # 100 of each label are expected; 9.5 is the deviation.
    assert counts.min() > 55 and counts.max() < 145


def test_similarity_is_the_share_that_is_dealt_at_random():
    x, y = rows(10_000)
    y = np.random.default_rng(0).permutation(y)
    sorted_alone = labels_of_clients(partition.similar(x, y, 20, similarity=0))
    # 1,000 of each label are two clients' 500 each.
    np.testing.assert_array_equal(sorted_alone.max(axis=1), np.full(20, 500))
    half = labels_of_clients(partition.similar(x, y, 20, similarity=0.5))
    # Of 250 random ones 25 are expected of each label; 4.9 is the deviation. The
    # sorted 250 may cross from one label to the next.
    others = np.sort(half, axis=1)[:, :-2]
    assert others.min() > 5 and others.max() < 50
    assert np.all(np.sort(half, axis=1)[:, -2:].sum(axis=1) > 260)
    alike = labels_of_clients(partition.similar(x, y, 20, similarity=1))
    # 50 are expected; 6.9 is the deviation.
    assert alike.min() > 20 and alike.max() < 85


def test_shards_hold_one_label_each():
    x, y = rows()
    y = np.random.default_rng(0).permutation(y)
    data = partition.shards(x, y, 25, shards_per_client=2)
    counts = labels_of_clients(data)
    # 50 shards of 20 within labels of 100: each shard has one label.
    assert set(np.unique(counts)) <= {0, 20, 40}
    assert (counts > 0).sum(1).max() == 2
    of_three = labels_of_clients(partition.shards(x, y, 10, shards_per_client=5))
    assert (of_three > 0).sum(1).max() <= 5 < 10


def test_dirichlet_s_variance_is_that_of_the_distribution():
    """Var(q) = p (1 - p) / (alpha + 1) where sum(alpha * p) = alpha."""
    x, y = rows(200_000, classes=4)
    for alpha in (0.5, 4.0):
        # Few of the examples are used up by the first clients.
        counts = labels_of_clients(partition.dirichlet(x, y, 2000, alpha=alpha))
        shares = counts[:500] / counts[:500].sum(1, keepdims=True)
        drawn = 0.25 * 0.75 / (alpha + 1)
        # And the draw of 100 examples adds p (1 - p) / 100 of what is left.
        expected = drawn + (0.25 * 0.75 - drawn) / 100
        assert np.var(shares) == pytest.approx(expected, rel=0.1)
        np.testing.assert_allclose(shares.mean(0), 0.25, atol=0.06)


def test_dirichlet_s_limits():
    x, y = rows()
    one_label = labels_of_clients(partition.dirichlet(x, y, 10, alpha=1e-4))
    assert (one_label.max(1) == 100).sum() >= 5
    alike = labels_of_clients(partition.dirichlet(x, y, 10, alpha=1e6))
    # The last client takes what is left.
    assert alike[:-1].max() < 25 and alike[:-1].min() > 0


def test_dirichlet_passes_over_labels_that_nobody_has():
    data = partition.dirichlet(
        np.zeros([4, 2]), np.array([2, 2, 7, 7]), 2, alpha=1, num_classes=9
    )
    assert sorted(data.y) == [2, 2, 7, 7] and data.num_classes == 9


def test_quantity_skew_grows_as_beta_falls():
    x, y = rows()

    def spread(beta):
        data = partition.quantity_skew(x, y, 50, beta=beta)
        sizes = data.num_train + data.num_test
        assert sizes.min() >= 1
        return np.std(sizes)

    assert spread(0.1) > spread(1) > spread(1000)
    assert spread(1e6) < 6


@pytest.mark.parametrize(
    ('name', 'clients', 'options', 'words'),
    [
        ('iid', 0, {}, ['num_clients is 0']),
        ('iid', 11, {}, ['10 examples', '11 clients']),
        ('shards', 6, {}, ['12 shards']),
        ('shards', 2, {'shards_per_client': 0}, ['shards_per_client is 0']),
        ('dirichlet', 2, {'alpha': 0}, ['alpha is 0']),
        ('dirichlet', 2, {'alpha': np.nan}, ['alpha is nan']),
        ('quantity_skew', 2, {'beta': -1}, ['beta is -1']),
        ('iid', 2, {'test_fraction': 2}, ['test_fraction is 2']),
    ],
)
def test_bad_values_are_refused(refused, name, clients, options, words):
    with refused(*words):
        getattr(partition, name)(*rows(10), clients, **options)


def test_bad_data_are_refused(refused):
    with refused('3 inputs', '4 labels'):
        partition.iid(np.zeros([3, 2]), np.zeros(4, int), 2)
    with refused('NaN'):
        partition.iid(np.full([4, 2], np.nan), np.zeros(4, int), 2)


def test_real_chest_x_rays():
    if not PNEUMONIA.exists():
        pytest.skip(f'{PNEUMONIA} is not here')
    x, y, is_test = npz.read_central(PNEUMONIA)
    data = partition.dirichlet(x, y, 12, alpha=0.5, is_test=is_test)
    assert data.x.shape == (5856, 28, 28, 1) and data.num_test.sum() == 624
    assert len(data) == 12 and data.num_classes == 2
