import hashlib

import numpy as np
import pytest

from tff_transfer.data import federated


def rows(n=6):
    x = np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2)
    return x, np.arange(n) % 3


def test_rows_are_grouped_by_client_with_training_rows_first():
    x, y = rows()
    data = federated.from_rows(
        'd',
        x,
        y,
        np.array([10, 9, 10, 9, 10, 9]),
        is_test=np.array([True, False, False, True, False, False]),
    )
    assert data.client_ids == ('9', '10')
    np.testing.assert_array_equal(data.x[..., 0], x[[1, 5, 3, 2, 4, 0]])
    np.testing.assert_array_equal(data.y, [1, 2, 0, 2, 1, 0])
    assert data.x.dtype == np.uint8 and data.y.dtype == np.int32
    assert data.num_train.tolist() == [2, 2] and data.num_test.tolist() == [1, 1]
    assert data.num_classes == 3 and len(data) == 2
    assert data.row_splits.tolist() == [0, 3, 6]
    assert data.is_train.tolist() == [True, True, False, True, True, False]
    assert data.client_of_row.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train_rows(1) == slice(3, 5) and data.test_rows(1) == slice(5, 6)


def test_test_share_is_drawn_within_each_client():
    clients = np.repeat(['one', 'ten', 'hundred'], [1, 10, 100])
    data = federated.from_rows(
        'd', np.zeros([111, 3]), np.zeros(111, int), clients, test_fraction=0.25
    )
    assert data.client_ids == ('hundred', 'one', 'ten')
    assert data.num_test.tolist() == [25, 0, 2]
    assert data.num_train.tolist() == [75, 1, 8]


def test_test_share_depends_on_the_seed_and_the_client_alone():
    x = np.arange(40, dtype=np.float32).reshape(40, 1)
    y, clients = np.zeros(40, int), np.repeat([0, 1], 20)

    def drawn(seed, start=0):
        data = federated.from_rows(
            'd', x[start:], y[start:], clients[start:], split_seed=seed
        )
        return data.x[data.test_rows(len(data) - 1)].ravel().tolist()

    assert drawn(0) == drawn(0) == drawn(0, start=20)
    assert drawn(0) != drawn(1)
    assert federated.from_rows('d', x, y, clients, test_fraction=0).num_test.sum() == 0


@pytest.mark.parametrize(
    ('x', 'shape', 'dtype'),
    [
        (np.zeros([2, 5, 4], np.uint8), (2, 5, 4, 1), np.uint8),
        (np.full([2, 5, 4, 3], 255, np.int64), (2, 5, 4, 3), np.uint8),
        (np.full([2, 5, 4, 1], 0.5), (2, 5, 4, 1), np.float32),
        (np.full([2, 7], -3), (2, 7), np.float32),
        (np.full([2, 7], 1e3), (2, 7), np.float32),
    ],
)
def test_inputs_become_one_of_three_forms(x, shape, dtype):
    data = federated.from_rows('d', x, np.array([0, 1]), np.array([0, 0]))
    assert data.x.shape == shape and data.x.dtype == dtype
    np.testing.assert_array_equal(data.x.reshape(x.shape), x)


def image(value, dtype=np.float32):
    x = np.zeros([2, 4, 4], dtype)
    x[1, 2, 3] = value
    return x


@pytest.mark.parametrize(
    ('x', 'words'),
    [
        (image(np.nan), ['NaN']),
        (image(np.inf), ['[0, 1]']),
        (image(-0.5), ['[-0.5, 0]', '[0, 1]']),
        (image(255), ['divide by 255']),
        (image(256, int), ['[0, 255]']),
        (image(-1, int), ['[0, 255]']),
        (image(True, bool), ['bool']),
        (image(1, complex), ['complex']),
        (np.full([2, 4, 4], 'a'), ['<U1']),
        (np.zeros([2, 4, 4, 2]), ['(2, 4, 4, 2)']),
        (np.zeros([2, 0, 4]), ['hold no values']),
        (np.zeros([2]), ['(2,)']),
        (np.array([[1, np.nan], [0, 0]]), ['NaN']),
        (np.array([[1, np.inf], [0, 0]]), ['infinite']),
        (np.zeros([3, 4, 4]), ['3 inputs', '2 labels']),
        (np.zeros([0, 4, 4]), ['0 inputs']),
    ],
)
def test_bad_inputs_are_refused(refused, x, words):
    with refused('file.npz', *words):
        federated.from_rows('file.npz', x, np.array([0, 1]), np.array([0, 0]))


@pytest.mark.parametrize(
    ('y', 'words'),
    [
        ([0, -1], ['example 1', '-1']),
        ([0, 1.5], ['example 1', '1.5']),
        ([0, np.nan], ['example 1', 'nan', 'missing']),
        ([0, np.inf], ['example 1', 'inf']),
        ([0, 2**40], ['int32']),
        ([0, 1_000_000], ['1000001 classes', 'from 0 on']),
        ([0, 1, 2], ['3 labels']),
        ([[1, 0], [0, 1]], ['argmax']),
        (['a', 'b'], ['<U1']),
        ([None, 1], ['object']),
    ],
)
def test_bad_labels_are_refused(refused, y, words):
    with refused('file.npz', *words):
        federated.from_rows('file.npz', np.zeros([2, 3]), np.array(y), np.array([0, 0]))


def test_whole_floats_and_columns_are_labels():
    for y in (np.array([2.0, 0.0]), np.array([[2], [0]], np.uint8)):
        data = federated.from_rows('d', np.zeros([2, 3]), y, np.zeros(2, int))
        assert sorted(data.y) == [0, 2] and data.y.dtype == np.int32


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'num_classes': 2}, ['example 1', '2 classes']),
        ({'class_names': ['a', 'b', 'c'], 'num_classes': 4}, ['3 class names']),
        ({'class_names': ['a', 'b']}, ['2 classes']),
        ({'test_fraction': 1.0}, ['test_fraction is 1.0']),
        ({'test_fraction': -0.1}, ['test_fraction is -0.1']),
        ({'is_test': np.array([0, 1])}, ['is_test', 'bool']),
        ({'is_test': np.array([True])}, ['is_test', '(1,)']),
    ],
)
def test_bad_options_are_refused(refused, options, words):
    with refused('d:', *words):
        federated.from_rows(
            'd', np.zeros([2, 3]), np.array([0, 2]), np.array([0, 0]), **options
        )


@pytest.mark.parametrize('ids', [[0, np.nan], [0, 0.5], [0], [[0, 1]]])
def test_bad_client_ids_are_refused(refused, ids):
    with refused('d:', 'client ids'):
        federated.from_rows('d', np.zeros([2, 3]), np.array([0, 1]), np.array(ids))


def test_no_examples_are_refused(refused):
    with refused('d:', 'no examples'):
        federated.from_rows('d', np.zeros([0, 3]), np.zeros(0, int), np.zeros(0, int))


def data_with_an_empty_client():
    return federated.FederatedData(
        'd',
        np.arange(5, dtype=np.float32).reshape(5, 1),
        np.array([0, 1, 0, 1, 1], np.int32),
        ('a', 'empty', 'c'),
        np.array([2, 0, 1]),
        np.array([1, 0, 1]),
        2,
    )


def test_selecting_clients_takes_their_rows_in_order():
    data = data_with_an_empty_client()
    part = data.select([2, 1])
    assert part.client_ids == ('c', 'empty')
    assert part.x.ravel().tolist() == [3, 4] and part.y.tolist() == [1, 1]
    assert part.num_train.tolist() == [1, 0] and part.num_test.tolist() == [1, 0]
    assert len(data.select([])) == 0
    assert data.train_rows(1) == slice(3, 3) == data.test_rows(1)


def test_other_inputs_keep_the_rest():
    data = data_with_an_empty_client()
    features = np.ones([5, 7], np.float32)
    other = data.with_x(features)
    assert other.x is features and other.y is data.y
    assert other.client_ids == data.client_ids


def test_the_fingerprint_is_of_values_shape_and_dtype():
    data = data_with_an_empty_client()
    digest = hashlib.sha256(b'<f4 (5, 1)' + data.x.tobytes()).hexdigest()
    assert data.fingerprint == digest
    assert data.with_x(data.x + 1).fingerprint != digest
    assert data.with_x(data.x.view(np.int32)).fingerprint != digest


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'client_ids': ('a', 'b')}, ['2 client ids']),
        ({'client_ids': ('a', 'b', 'a')}, ['same name']),
        ({'y': np.zeros(4, np.int32)}, ['4 labels']),
        ({'num_train': np.array([2, 0, 2])}, ['6 examples']),
    ],
)
def test_inconsistent_data_are_refused(refused, change, words):
    good = data_with_an_empty_client()
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    with refused('d:', *words):
        federated.FederatedData(**{**fields, **change})


def test_unseen_clients_are_the_first_of_the_permutation():
    seen, unseen = federated.split_clients(400, 0.1, 0)
    expected = np.random.default_rng(0).permutation(400)[:40]
    assert unseen.tolist() == sorted(expected)
    assert sorted([*seen, *unseen]) == list(range(400)) and len(seen) == 360


@pytest.mark.parametrize(
    ('clients', 'fraction', 'unseen'),
    [(2, 0.01, 1), (2, 0.99, 1), (1, 0.5, 0), (10, 0, 0), (10, 0.25, 2), (0, 0.1, 0)],
)
def test_how_many_clients_are_unseen(clients, fraction, unseen):
    parts = federated.split_clients(clients, fraction)
    assert [len(part) for part in parts] == [clients - unseen, unseen]


def test_all_clients_unseen_is_refused(refused):
    with refused('unseen_fraction is 1'):
        federated.split_clients(10, 1)
