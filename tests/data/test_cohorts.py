import collections

import numpy as np
import pytest

from tff_transfer.data import cohorts, federated
from tff_transfer.features import file_format


@pytest.fixture
def data():
    counts = [3, 0, 7, 1]
    n = sum(counts) + 4
    return federated.FederatedData(
        'd',
        np.arange(n, dtype=np.float32).reshape(n, 1),
        np.arange(n, dtype=np.int32),
        ('a', 'empty', 'c', 'd'),
        np.array(counts),
        np.ones(4, int),
        n,
    )


def cohort_of(data, clients, **changes):
    options = {'batch_size': 2, 'epochs': 1, 'seed': 5, 'round_number': 1, **changes}
    return cohorts.training_cohort(data, clients, **options)


def test_a_round_s_clients_are_a_function_of_seed_and_round():
    draw = [
        cohorts.choose_clients(50, 10, seed=seed, round_number=number).tolist()
        for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    ]
    assert draw[0] == draw[1] and draw[0] not in draw[2:]
    assert all(len(set(d)) == 10 and 0 <= min(d) <= max(d) < 50 for d in draw)


def test_every_client_can_be_chosen_once():
    chosen = cohorts.choose_clients(7, 7, seed=0, round_number=1)
    assert sorted(chosen) == list(range(7))


@pytest.mark.parametrize('size', [0, 8])
def test_a_round_of_more_clients_than_there_are_is_refused(refused, size):
    with refused(f'{size} clients a round', '1 to 7'):
        cohorts.choose_clients(7, size, seed=0, round_number=1)


def test_pooled_clients_are_one_whose_examples_are_shuffled_together(data):
    cohort = cohort_of(data, [0, 1, 2], epochs=2, pooled=True)
    assert cohort.row_splits.tolist() == [0, 20]
    of_all = sorted(data.y[data.is_train & (data.client_of_row < 3)])
    for epoch in np.split(cohort.examples['y'], 2):
        assert sorted(epoch) == of_all
        assert np.diff(epoch < 3).sum() > 1  # The first client's are not together.


def test_each_epoch_holds_each_training_example_once(data):
    cohort = cohort_of(data, [2, 1, 3, 0], epochs=2)
    assert cohort.row_splits.tolist() == [0, 14, 14, 16, 22]
    rows = cohort.examples['y'].tolist()
    # Before client 2's rows stand the three training and two test rows of others.
    assert sorted(rows[:7]) == sorted(rows[7:14]) == list(range(5, 12))
    assert rows[:7] != rows[7:14]
    assert rows[14:16] == [13, 13]
    np.testing.assert_array_equal(cohort.examples['x'][:, 0], rows)
    # Where TensorFlow can use them without a copy.
    assert cohort.examples['x'].ctypes.data % 64 == 0


def test_a_client_s_examples_depend_on_seed_round_and_client_alone(data):
    def order(clients, index, **changes):
        cohort = cohort_of(data, clients, **changes)
        splits = cohort.row_splits
        return cohort.examples['y'][splits[index] : splits[index + 1]].tolist()

    assert order([2], 0) == order([0, 2, 3], 1)
    assert order([2], 0) != order([2], 0, round_number=2)
    assert order([2], 0) != order([2], 0, seed=6)


def test_examples_of_a_client_can_be_limited(data):
    cohort = cohort_of(data, [2, 3], max_examples=2, epochs=2)
    assert cohort.row_splits.tolist() == [0, 4, 6]


def test_clients_may_do_unequal_epochs(data):
    cohort = cohort_of(data, [2, 1, 3, 0], epochs=[2, 4, 0, 1])
    assert cohort.row_splits.tolist() == [0, 14, 14, 14, 17]
    # The first of more epochs are those of fewer.
    longer = cohort_of(data, [2], epochs=3).examples['y']
    np.testing.assert_array_equal(cohort.examples['y'][:14], longer[:14])


def epochs_of(clients, share, **changes):
    options = {'seed': 5, 'round_number': 1, **changes}
    return cohorts.draw_epochs(clients, 2, 5, straggler_fraction=share, **options)


def test_a_share_of_the_clients_are_stragglers():
    clients = np.arange(40, 50)
    for share, count in ((0, 0), (0.3, 3), (0.54, 5), (0.9, 9), (1, 10)):
        epochs, late = epochs_of(clients, share)
        assert late.sum() == count
        assert all(epochs[~late] == 5) and all(epochs[late] >= 2)
    rounds = [epochs_of(clients, 0.5, round_number=n)[1] for n in range(1, 201)]
    # Each is one in half of the rounds: by 5 standard deviations of the mean.
    assert abs(np.mean(rounds, axis=0) - 0.5).max() < 5 * 0.5 / 200**0.5


def test_stragglers_draw_their_epochs_uniformly():
    epochs, _ = epochs_of(range(4000), 1)
    found = np.bincount(epochs, minlength=7)
    assert found[[0, 1, 6]].tolist() == [0, 0, 0]
    # By 5 standard deviations of a count of 4000 with probability 1/4.
    assert abs(found[2:6] - 1000).max() < 5 * (4000 * 1 / 4 * 3 / 4) ** 0.5


def test_a_straggler_s_epochs_depend_on_seed_round_and_client_alone():
    all_of, _ = epochs_of(range(100), 1)
    some, _ = epochs_of([7, 70, 3], 1)
    assert some.tolist() == all_of[[7, 70, 3]].tolist()
    for change in ({'seed': 6}, {'round_number': 2}):
        assert epochs_of(range(100), 1, **change)[0].tolist() != all_of.tolist()


def test_as_a_sequence_a_cohort_gives_datasets(data):
    cohort = cohort_of(data, [2, 1])
    assert len(cohort) == 2
    batches = [list(client.as_numpy_iterator()) for client in cohort]
    assert [len(b['y']) for b in batches[0]] == [2, 2, 2, 1] and batches[1] == []
    joined = np.concatenate([b['x'] for b in batches[0]])
    np.testing.assert_array_equal(joined, cohort.examples['x'][:7])
    with pytest.raises(IndexError):
        cohort[2]


def test_inputs_are_transformed_after_they_are_gathered(data):
    seen = []

    def transform(x):
        seen.append(len(x))
        return x * 10

    cohort = cohort_of(data, [0], transform=transform)
    assert seen == [3]
    np.testing.assert_array_equal(cohort.examples['x'][:, 0], 10 * cohort.examples['y'])


def test_compact_features_are_expanded_for_the_rows_of_the_cohort_alone(data):
    class Watched(file_format.Compact):
        def __array__(self, dtype=None):
            raise AssertionError('all features are expanded')

    bytes_ = np.arange(len(data.x), dtype=np.uint8)[:, None]
    half = np.full(1, 0.5, np.float32)
    compact = data.with_x(Watched(bytes_, low=-half, step=half))
    found = cohort_of(compact, [0, 2]).examples
    assert found['x'].dtype == np.float32
    np.testing.assert_array_equal(found['x'][:, 0], found['y'] / 2 - 0.5)


def test_keys_are_per_row_and_do_not_depend_on_the_other_clients(data):
    alone = cohort_of(data, [2], keys=True).examples['x']
    among = cohort_of(data, [0, 2], keys=True).examples['x']
    assert isinstance(alone, collections.OrderedDict)
    assert alone['key'].shape == (7, 2) and alone['key'].dtype == np.int32
    np.testing.assert_array_equal(alone['key'], among['key'][3:])
    assert len(np.unique(among['key'], axis=0)) == 10
    assert among['key'].min() >= 0


def test_labels_are_among_the_inputs_where_they_are_asked_for(data):
    found = cohort_of(data, [2, 0], keys=True, labels=True).examples
    assert list(found['x']) == ['inputs', 'key', 'label']
    np.testing.assert_array_equal(found['x']['label'], found['y'])
    without = cohort_of(data, [2, 0], keys=True).examples
    np.testing.assert_array_equal(found['x']['inputs'], without['x']['inputs'])
    np.testing.assert_array_equal(found['x']['key'], without['x']['key'])


@pytest.mark.parametrize('keys', [False, True])
def test_a_cohort_of_no_clients_is_empty(data, keys):
    cohort = cohort_of(data, [], keys=keys)
    assert len(cohort) == 0 and len(cohort.examples['y']) == 0


@pytest.mark.parametrize('most', [None, 5])
def test_what_is_held_out_is_last_and_the_same_in_each_round(data, most):
    options = {'held_out': 0.45, 'max_examples': most, 'batch_size': 99}
    rounds = [
        cohort_of(data, [0, 2, 1, 3], round_number=number, **options)
        for number in range(1, 9)
    ]
    for client, examples in enumerate((3, most or 7)):
        orders = [
            cohort.examples['y'][slice(*cohort.row_splits[client : client + 2])]
            for cohort in rounds
        ]
        cut = examples - int(0.45 * examples)
        assert len({*map(len, orders), examples}) == 1
        assert len({tuple(order[cut:]) for order in orders}) == 1
        assert len({tuple(order[:cut]) for order in orders}) > 1
        assert len({frozenset(order) for order in orders}) == 1
    # Of no examples, and of one, nothing is held out.
    assert np.diff(rounds[0].row_splits[2:]).tolist() == [0, 1]
    others = cohort_of(data, [2], seed=6, **options).examples['y']
    assert not np.array_equal(others[-3:], rounds[0].examples['y'][-4:-1])
