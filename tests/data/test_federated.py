import hashlib

import numpy as np
import pytest

from tff_transfer.data import checks, federated


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


def shown(x, **options):
    """Returns what becomes of two inputs."""
    return federated.from_rows('d', x, np.array([0, 1]), np.array([0, 0]), **options).x


def test_alpha_is_left_out_and_said(caplog):
    x = np.arange(2 * 5 * 4 * 4, dtype=np.uint8).reshape(2, 5, 4, 4)
    found = shown(x, test_fraction=0)
    np.testing.assert_array_equal(found, x[..., :3])
    assert found.flags.c_contiguous and 'alpha, is left out' in caplog.text


def test_true_is_white():
    x = np.arange(24).reshape(2, 3, 4) % 5 == 0
    np.testing.assert_array_equal(
        shown(x, test_fraction=0)[..., 0], np.where(x, 255, 0)
    )
    assert shown(x).dtype == np.uint8 and shown(x[:, 0]).dtype == np.float32


def test_pixels_from_minus_one_to_one_are_moved_and_said(caplog):
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 8, 16)
    found = shown((pixels / 127.5 - 1).astype(np.float32), test_fraction=0)
    np.testing.assert_allclose(found[..., 0], pixels / 255, atol=1e-7)
    assert found.dtype == np.float32 and '[-1, 1] are moved to [0, 1]' in caplog.text


def test_whole_floats_up_to_255_are_bytes(caplog):
    pixels = np.arange(256, dtype=np.uint8).reshape(2, 8, 16)
    found = shown(pixels.astype(np.float64), test_fraction=0)
    np.testing.assert_array_equal(found[..., 0], pixels)
    assert found.dtype == np.uint8 and 'become uint8' in caplog.text


def test_columns_that_stand_first_in_memory_change_nothing():
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    found = shown(np.asfortranarray(x), test_fraction=0)
    np.testing.assert_array_equal(found[..., 0], x)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(
        shown(x[:, :, ::2], test_fraction=0)[..., 0], x[:, :, ::2]
    )


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
        # As where -1 marks what is missing, and where a mean is taken away.
        (image(-1) + image(1)[::-1], ['[-1, 1]', '[0, 1]']),
        (image(-0.4) + image(0.6)[::-1], ['[-0.4, 0.6]']),
        (image(-1.5) + image(1)[::-1], ['[-1.5, 1]']),
        (image(1.5), ['divide by 255']),
        (image(256, int), ['[0, 255]']),
        (image(-1, int), ['[0, 255]']),
        (image(1, complex), ['complex']),
        (np.full([2, 4, 4], 'a'), ['<U1']),
        (np.zeros([2, 4, 4, 2]), ['(2, 4, 4, 2)']),
        (np.zeros([2, 0, 4]), ['hold no values']),
        (np.zeros([2]), ['(2,)']),
        (np.array([[1, np.nan], [0, 0]]), ['NaN']),
        (np.array([[1, np.inf], [0, 0]]), ['infinite']),
        (np.array([[1, 1e300], [0, 0]]), ['float32']),
        (np.zeros([2, 4, 4, 5]), ['(2, 4, 4, 5)']),
        (np.zeros([2, 4], 'i4, i4'), ['dtype']),
        (np.array(3.0), ['()']),
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
        ([[0.9, 0.1], [0, 1]], ['argmax', 'one-hot']),
        ([[1, 0], [1, 1]], ['example 1', '2 labels']),
        ([[1, 0], [0, 0]], ['example 1', '0 labels']),
        (['a', 'b'], ['<U1']),
        ([None, 1], ['object']),
        (np.zeros(2, 'i4, i4'), ['dtype']),
        (1, ['()']),
        ([0, 1j], ['complex']),
        (np.array([[0.0, np.nan], [1, 0]]), ['one-hot']),
    ],
)
def test_bad_labels_are_refused(refused, y, words):
    with refused('file.npz', *words):
        federated.from_rows('file.npz', np.zeros([2, 3]), np.array(y), np.array([0, 0]))


@pytest.mark.parametrize('dtype', [np.uint8, bool, np.float32])
def test_one_hot_labels_are_places(dtype):
    y = np.eye(4)[[2, 0, 1]].astype(dtype)
    data = federated.from_rows('d', np.zeros([3, 2]), y, np.zeros(3), test_fraction=0)
    assert data.y.tolist() == [2, 0, 1] and data.num_classes == 4


def test_classes_without_examples_are_said(caplog):
    x, clients = np.zeros([2, 3]), np.zeros(2, int)
    federated.from_rows('d', x, np.array([0, 2]), clients, num_classes=4)
    assert 'd: 2 of 4 classes have no examples: 1, 3' in caplog.text
    federated.from_rows('e', x, np.array([0, 2]), clients, class_names=['a', 'b', 'c'])
    assert 'e: 1 of 3 classes have no examples: b' in caplog.text
    federated.from_rows('f', x, np.array([0, 1]), clients)
    assert 'f:' not in caplog.text


@pytest.mark.parametrize(
    ('labels', 'y', 'names'),
    [
        (['1', '10', '100'], [0, 1, 2], ('1', '10', '100')),
        (['100', '10', '9'], [2, 1, 0], ('9', '10', '100')),
        ([100, 1, 10], [2, 0, 1], ('1', '10', '100')),
        ([1.0, 3.0, 2.0], [0, 2, 1], ('1', '2', '3')),
        (['2.0', '1.0'], [1, 0], ('1', '2')),
        (['1', '01', '1'], [1, 0, 1], ('01', '1')),
        (['01', '02'], [0, 1], ('01', '02')),
        (['1', '1.0'], [0, 1], ('1', '1.0')),
        (['1_0', '5'], [0, 1], ('1_0', '5')),
        ([b'\xe9', b'a'], [1, 0], ('a', '\xe9')),
        # Numbers of classes already, one of which may be without examples.
        (['0', '2', '1'], [0, 2, 1], ()),
        ([0, 2, 3], [0, 2, 3], ()),
        (['0', '2', '3'], [0, 2, 3], ()),
        ([0, 7], [0, 1], ('0', '7')),
    ],
)
def test_labels_that_occur_are_numbered_and_keep_their_names(labels, y, names):
    found, found_names = checks.index_labels(np.array(labels))
    assert found.tolist() == y and found_names == names


def test_what_is_no_label_is_left_to_be_refused():
    for labels in ([-1, 1], [0.5, 7.0], [np.nan, 7.0], [np.inf, 7.0]):
        found, names = checks.index_labels(labels)
        np.testing.assert_array_equal(found, labels)
        assert names == ()


def test_classes_that_are_not_the_labels_are_said(caplog):
    y, names = checks.index_labels(['10', '1', '100'])
    federated.from_rows('d', np.zeros([3, 2]), y, np.zeros(3), class_names=names)
    assert 'd: the labels 1, 10, 100 are classes 0 to 2' in caplog.text
    caplog.clear()
    names = ['0', '1', '2']
    federated.from_rows('d', np.zeros([3, 2]), y, np.zeros(3), class_names=names)
    assert caplog.text == ''


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


@pytest.mark.parametrize(
    'ids',
    [
        [0, np.nan],
        [0, 0.5],
        [0],
        [[0, 1]],
        0,
        [np.inf, -np.inf],
        [2.0**60, 0],
        [True, False],
        [1j, 0],
        np.zeros(2, 'i4, i4'),
        np.array([b'a', 'a'], object),
        np.array([1, '1'], object),
        np.array(['2026-01-01', '2026-01-02'], 'M8[D]'),
        np.zeros(2, 'V3'),
    ],
)
def test_bad_client_ids_are_refused(refused, ids):
    with refused('d:', 'client ids'):
        federated.from_rows('d', np.zeros([2, 3]), np.array([0, 1]), np.array(ids))


def test_ids_that_are_no_text_are_refused(refused):
    with refused('d:', 'Unicode'):
        federated.from_rows(
            'd', np.zeros([2, 3]), np.array([0, 1]), np.array(['\udce9', 'a'])
        )


@pytest.mark.parametrize(
    ('ids', 'expected'),
    [
        ([b'\xff', b'\xfe', b'a'], ('a', '\xfe', '\xff')),
        (['é'.encode(), 'è'.encode()], ('è', 'é')),
        # Latin-1 for all if one is no UTF-8: what is not equal must not become so.
        (['é'.encode(), b'\xe9'], ('Ã©', 'é')),
        (np.array(['b', 'a'], object), ('a', 'b')),
        ([3.0, 20.0], ('3', '20')),
    ],
)
def test_unlike_client_ids_stay_unlike(ids, expected):
    ids = np.asarray(ids)
    y = np.arange(len(ids))
    data = federated.from_rows('d', np.zeros([len(ids), 3]), y, ids)
    assert data.client_ids == expected


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
    assert data.with_x(data.x.view(np.uint8)).fingerprint != digest


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'client_ids': ('a', 'b')}, ['2 client ids']),
        ({'client_ids': ('a', 'b', 'a')}, ['same name']),
        ({'y': np.zeros(4, np.int32)}, ['4 labels']),
        ({'num_train': np.array([2, 0, 2])}, ['6 examples']),
        ({'x': np.zeros([5, 1])}, ['float64', 'float32']),
        ({'x': np.zeros([5, 2, 2, 1], np.int64)}, ['int64', 'from_rows']),
        ({'x': np.zeros(5, np.float32)}, ['float32 [5]']),
        ({'x': [[0.0]] * 5}, ['a list']),
        ({'y': np.zeros(5, int)}, ['int64', 'astype(np.int32)']),
        ({'y': np.zeros([5, 1], np.int32)}, ['int32 [5, 1]']),
        ({'y': [0] * 5}, ['a list']),
        ({'y': np.full(5, 2, np.int32)}, ['[2, 2]', '[0, 1]']),
        ({'y': np.full(5, -1, np.int32)}, ['[-1, -1]']),
        ({'num_train': np.array([3, -1, 1])}, ['num_train', 'at least 0']),
        ({'num_test': np.array([1.0, 0, 1])}, ['num_test', 'integers']),
        ({'num_test': [1, 0, 1]}, ['num_test', 'a list']),
        ({'client_ids': (1, 2, 3)}, ['no strings', 'str(id)']),
        ({'num_classes': 0}, ['num_classes is 0']),
        ({'num_classes': 2.0}, ['num_classes is 2.0']),
        ({'class_names': ('a',)}, ['1 class names']),
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
