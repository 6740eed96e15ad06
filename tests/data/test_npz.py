import numpy as np
import pytest

from tff_transfer.data import by_client, npz

N = 12
IMAGES = np.arange(N * 30, dtype=np.uint8).reshape(N, 5, 6)
LABELS = np.arange(N) % 3
CLIENTS = np.arange(N) % 4
NAMES = np.array(['ann', 'bob', 'cleo', 'dan'])[CLIENTS]


def load(tmp_path, arrays, **options):
    np.savez(tmp_path / 'a.npz', **arrays)
    return by_client.load(tmp_path / 'a.npz', test_fraction=0, **options)


def assert_found(data, ids=('0', '1', '2', '3')):
    order = np.argsort(CLIENTS, kind='stable')
    np.testing.assert_array_equal(data.x[..., 0], IMAGES[order])
    np.testing.assert_array_equal(data.y, LABELS[order])
    assert data.client_ids == ids and data.name == 'a.npz'


@pytest.mark.parametrize(
    'arrays',
    [
        {'pixels': IMAGES, 'label': LABELS, 'writer': CLIENTS},
        {'y': LABELS, 'user_ids': CLIENTS, 'X': IMAGES},
        {'a': IMAGES, 'targets': LABELS, 'clientId': CLIENTS},
        {'a': IMAGES, 'b': CLIENTS, 'my_labels': LABELS},
        {'a': IMAGES, 'hospital': CLIENTS, 'b': LABELS},
        {'images': IMAGES, 'masks': IMAGES, 'y': LABELS[:, None], 'site': CLIENTS},
        {'x': IMAGES, 'y': LABELS, 'client': CLIENTS, 'mean': np.float32(0.5)},
        {'x': IMAGES, 'y': LABELS.astype(float), 'client': CLIENTS.astype(float)},
    ],
)
def test_keys_are_found_out(tmp_path, arrays):
    assert_found(load(tmp_path, arrays))


def test_text_is_the_clients_where_names_say_nothing(tmp_path):
    for arrays in (
        {'a': IMAGES, 'b': NAMES, 'c': LABELS},
        {'a': IMAGES, 'b': LABELS, 'c': NAMES.astype(bytes)},
    ):
        if arrays['c'].dtype.kind == 'S':
            arrays['b'], arrays['c'] = arrays['c'], arrays['b']
            arrays['b'] = arrays['b'].astype(str)
        assert_found(load(tmp_path, arrays), ('ann', 'bob', 'cleo', 'dan'))


def test_keys_can_be_named(tmp_path):
    arrays = {'a': IMAGES, 'b': IMAGES[::-1], 'c': LABELS, 'd': CLIENTS, 'e': LABELS}
    data = load(tmp_path, arrays, image_key='a', label_key='c', client_key='d')
    assert_found(data)


def test_vectors_are_the_array_of_two_dimensions(tmp_path):
    vectors = np.arange(N * 5, dtype=np.float64).reshape(N, 5)
    data = load(tmp_path, {'a': vectors, 'label': LABELS, 'client': CLIENTS})
    assert data.x.shape == (N, 5) and data.x.dtype == np.float32


def test_labels_that_are_text_are_sorted_to_class_names(tmp_path):
    names = np.array(['owl', 'cat', 'yak'])[LABELS]
    data = load(tmp_path, {'x': IMAGES, 'y': names, 'client': NAMES})
    assert data.class_names == ('cat', 'owl', 'yak') and data.num_classes == 3
    assert data.y.tolist() == [1, 0, 2, 0, 2, 1, 2, 1, 0, 1, 0, 2]


@pytest.mark.parametrize('dtype', [bool, np.uint8])
def test_a_split_of_its_own_is_kept(tmp_path, dtype):
    is_test = (np.arange(N) >= 8).astype(dtype)
    arrays = {'x': IMAGES, 'y': LABELS, 'client': CLIENTS, 'is_test': is_test}
    data = load(tmp_path, arrays)
    assert data.num_test.tolist() == [1] * 4
    np.testing.assert_array_equal(data.x[data.test_rows(2), ..., 0], IMAGES[[10]])


@pytest.mark.parametrize(
    ('arrays', 'words'),
    [
        ({'x': IMAGES, 'y': LABELS}, ['client_key', 'partition', 'y int64[12]']),
        ({'x': IMAGES, 'client': CLIENTS}, ['label_key', 'no array']),
        ({'y': LABELS, 'client': CLIENTS}, ['image_key', 'no array']),
        ({'a': IMAGES, 'b': LABELS, 'c': CLIENTS}, ['label_key', 'b, c']),
        ({'a': IMAGES, 'b': IMAGES, 'y': LABELS, 'user': CLIENTS}, ['image_key']),
        (
            {'x': IMAGES, 'y': LABELS, 'user': CLIENTS, 'client': CLIENTS},
            ['client_key', 'user, client'],
        ),
        # An example's own number is no client.
        ({'x': IMAGES, 'y': LABELS, 'row': np.arange(N)}, ['client_key', 'no array']),
        ({'x': IMAGES, 'y': LABELS[:-1], 'user': CLIENTS}, ['label_key']),
        ({}, ['image_key', 'no array']),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, refused, arrays, words):
    with refused(tmp_path / 'a.npz', *words):
        load(tmp_path, arrays)


def test_a_key_that_is_not_there_is_refused(tmp_path, refused):
    with refused(tmp_path / 'a.npz', "'z'", 'label_key', 'x uint8'):
        load(tmp_path, {'x': IMAGES}, label_key='z')


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'y': LABELS + 0.5}, ['0.5']),
        ({'y': LABELS - 1}, ['-1']),
        ({'x': np.full(IMAGES.shape, np.nan)}, ['NaN']),
        ({'x': IMAGES * 1.5}, ['[0, 1]']),
        ({'x': IMAGES[..., None].repeat(5, -1)}, ['(12, 5, 6, 5)']),
        ({'x': IMAGES.astype(complex)}, ['complex']),
    ],
)
def test_bad_values_are_refused(tmp_path, refused, change, words):
    with refused('a.npz', *words):
        load(tmp_path, {'x': IMAGES, 'y': LABELS, 'client': CLIENTS, **change})


def parts(clients=CLIENTS, keys='x_{} y_{} client_{}', names=('train', 'test')):
    """Gives a file's arrays of two parts; images of the second are one darker."""
    arrays = [[IMAGES, LABELS, clients], [255 - IMAGES, LABELS, clients[::-1]]]
    return {
        key.format(name): array
        for name, part in zip(names, arrays, strict=True)
        for key, array in zip(keys.split(), part, strict=True)
    }


@pytest.mark.parametrize(
    ('keys', 'names', 'has_test'),
    [
        ('x_{} y_{} client_{}', ('train', 'test'), True),
        ('{}_images {}_labels {}_clients', ('val', 'test'), True),
        ('X{} y{} writer_ids_{}', ('train', 'test'), True),
        ('{}Pixels {}Label {}User', ('validation', 'test'), True),
        ('x_{} y_{} client_{}', ('train', 'valid'), False),
        ('x_{} y_{} who_{}', ('training', 'test'), True),
    ],
)
def test_parts_are_joined(tmp_path, keys, names, has_test):
    data = load(tmp_path, {**parts(NAMES, keys, names), 'classes': np.arange(3)})
    assert data.client_ids == ('ann', 'bob', 'cleo', 'dan') and len(data.y) == 2 * N
    assert data.num_test.tolist() == [3 * has_test] * 4
    first = data.x[data.train_rows(1), ..., 0][:3]
    np.testing.assert_array_equal(first, IMAGES[NAMES == 'bob'])
    rows = data.test_rows(0) if has_test else slice(3, 6)
    np.testing.assert_array_equal(
        data.x[rows, ..., 0], 255 - IMAGES[NAMES[::-1] == 'ann']
    )
    np.testing.assert_array_equal(data.y[rows], LABELS[NAMES[::-1] == 'ann'])


def test_three_parts_are_joined(tmp_path):
    arrays = {**parts(), 'x_val': IMAGES[:2], 'y_val': LABELS[:2, None]}
    data = load(tmp_path, {**arrays, 'client_val': CLIENTS[:2]})
    assert data.num_train.tolist() == [4, 4, 3, 3] and data.num_test.sum() == N


def test_without_a_test_part_a_share_is_drawn(tmp_path):
    arrays = {k: v for k, v in parts().items() if 'train' in k}
    np.savez(tmp_path / 'a.npz', **arrays)
    data = by_client.load(tmp_path / 'a.npz', test_fraction=0.4)
    assert data.num_test.tolist() == [1] * 4


def test_keys_of_parts_can_be_named(tmp_path):
    arrays = parts(keys='foo_{} y_{} client_{}')
    assert load(tmp_path, arrays, image_key='foo').num_test.sum() == N
    # A key of one part asks for it alone.
    keys = {'label_key': 'y_train', 'client_key': 'client_train'}
    assert_found(load(tmp_path, arrays, image_key='foo_train', **keys))


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'client_test': None}, ['client_train', 'the part test']),
        ({'x_train': None}, ['x_test', 'the part train']),
        ({'y_test': LABELS[:-1]}, ['y_test', '[11] and [12, 5, 6]']),
        ({'y_train': LABELS[:-1], 'y_test': np.arange(N + 1)}, ['y_train', '[11]']),
        ({'y_test': LABELS.astype(str)}, ['y_test', 'dtypes', 'int64 and <U']),
        ({'x_test': IMAGES / 255}, ['x_train and x_test', 'uint8 and float64']),
        ({'x_test': IMAGES[:, 1:]}, ['unlike shapes', '[12, 5, 6] and [12, 4, 6]']),
        ({'client_test': np.int64(3)}, ['client_test', '[]']),
        ({'train_x': IMAGES}, ['x_train and train_x', 'keep one']),
        ({'x': IMAGES}, ['x is of no part']),
        ({'writer': np.arange(2 * N)}, ['writer is of no part']),
        ({'is_test': np.zeros(N, bool)}, ['is_test is of no part']),
        ({'split': np.array(['train'] * 2 * N)}, ['split is of no part']),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, refused, change, words):
    arrays = {k: v for k, v in {**parts(), **change}.items() if v is not None}
    with refused(tmp_path / 'a.npz', *words):
        load(tmp_path, arrays)


@pytest.mark.parametrize('dtype', [str, bytes])
def test_an_array_of_words_tells_the_split(tmp_path, dtype):
    split = np.array(['train', 'val', 'test'] * 4).astype(dtype)
    arrays = {'x': IMAGES, 'y': LABELS, 'client': CLIENTS, 'split': split}
    data = load(tmp_path, arrays)
    is_test = np.arange(N) % 3 == 2
    assert data.num_test.tolist() == [1, 1, 1, 1]
    for client in range(4):
        np.testing.assert_array_equal(
            data.x[data.test_rows(client), ..., 0],
            IMAGES[is_test & (client == CLIENTS)],
        )


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'split': np.array(['train', 'held out'] * 6)}, ["'held out'", 'train, val']),
        ({'split': np.arange(N) % 2}, ['split int64', 'is_test']),
        ({'test': np.arange(N) % 3}, ['test int64', 'does not tell']),
        ({'is_train': np.ones(N, bool)}, ['is_train bool', 'is_test']),
        ({'is_test': LABELS > 0, 'split': np.array(['test'] * N)}, ['is_test, split']),
        ({'test': LABELS > 0, 'is_test': LABELS > 0}, ['test, is_test', 'keep one']),
        ({'x_test': np.zeros([3, 5, 6])}, ['is of no part']),
        ({'features': np.zeros([N, 64])}, ['features, x', 'image_key']),
        ({'labels': LABELS}, ['y, labels', 'label_key']),
        ({'labels': np.eye(3)[LABELS]}, ['y, labels', 'label_key']),
    ],
)
def test_two_that_tell_the_same_are_refused(tmp_path, refused, change, words):
    with refused(tmp_path / 'a.npz', *words):
        load(tmp_path, {'x': IMAGES, 'y': LABELS, 'client': CLIENTS, **change})


def test_one_key_for_two_roles_is_refused(tmp_path, refused):
    arrays = {'x': IMAGES, 'y': LABELS, 'client': CLIENTS}
    for keys in (
        {'image_key': 'x', 'label_key': 'x'},
        {'label_key': 'y', 'client_key': 'y'},
    ):
        with refused(tmp_path / 'a.npz', 'two of image_key'):
            load(tmp_path, arrays, **keys)


def test_one_hot_labels_and_alpha_are_read(tmp_path, refused):
    images = np.repeat(IMAGES[..., None], 4, axis=3)
    arrays = {'x': images, 'y': np.eye(5)[LABELS], 'client': CLIENTS}
    data = load(tmp_path, arrays)
    order = np.argsort(CLIENTS, kind='stable')
    np.testing.assert_array_equal(data.y, LABELS[order])
    np.testing.assert_array_equal(data.x, images[order, ..., :3])
    assert data.num_classes == 5
    with refused('example 0 has 5 labels'):
        load(tmp_path, {**arrays, 'y': np.ones([N, 5])})


def test_numbers_with_gaps_become_classes_with_names(tmp_path, caplog):
    labels = np.array([10, 1, 100])[LABELS]
    data = load(tmp_path, {'x': IMAGES, 'y': labels, 'client': CLIENTS})
    assert data.class_names == ('1', '10', '100') and data.num_classes == 3
    order = np.argsort(CLIENTS, kind='stable')
    np.testing.assert_array_equal(data.y, np.array([1, 0, 2])[LABELS][order])
    assert 'a.npz: the labels 1, 10, 100 are classes 0 to 2' in caplog.text


def test_bytes_that_are_no_utf_8_stay_unlike(tmp_path):
    ids = np.array([b'\xe9', b'\xe8', b'\xff', b'a'])[CLIENTS]
    names = np.array([b'\xe9', b'\xe8', b'\xea'])[LABELS]
    data = load(tmp_path, {'x': IMAGES, 'y': names, 'client': ids})
    assert data.client_ids == ('a', 'è', 'é', 'ÿ') and data.class_names == tuple('èéê')
    assert data.num_train.tolist() == [3] * 4


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'client': CLIENTS > 1}, ['client ids', 'bool']),
        ({'client': np.zeros(N, 'i4, i4')}, ['client ids', 'dtype']),
        ({'client': CLIENTS + 1j}, ['client ids', 'complex']),
        ({'y': np.zeros(N, 'i4, i4')}, ['labels', 'dtype']),
        ({'y': np.float32(3)}, ['no array can be the labels']),
        ({'x': np.float32(3)}, ['no array can be the images']),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path, refused, change, words):
    with refused('a.npz', *words):
        load(tmp_path, {'x': IMAGES, 'y': LABELS, 'client': CLIENTS, **change})


def test_a_single_value_that_is_named_is_refused(tmp_path, refused):
    arrays = {'x': IMAGES, 'y': LABELS, 'client': CLIENTS, 'n': np.int64(3)}
    for role in ('image', 'label', 'client'):
        with refused('a.npz'):
            load(tmp_path, arrays, **{f'{role}_key': 'n'})


def test_arrays_in_any_order_of_memory_are_read(tmp_path):
    arrays = {
        'x': np.asfortranarray(IMAGES),
        'y': LABELS.astype('>i4'),
        'client': np.stack([CLIENTS, CLIENTS])[:, ::-1][0][::-1],
    }
    assert_found(load(tmp_path, arrays))


def test_python_objects_are_refused(tmp_path, refused):
    images = np.array([np.zeros([2, 2]), np.zeros([3, 3])], object)
    with refused(tmp_path / 'a.npz', 'Python objects'):
        load(tmp_path, {'x': images})


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
@pytest.mark.parametrize('kept', [0, 0.1, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, refused, save, kept):
    path = tmp_path / 'a.npz'
    save(path, x=IMAGES, y=LABELS, client=CLIENTS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with refused(path, 'truncated'):
        by_client.load(path)


def test_damaged_files_are_refused(tmp_path, refused):
    path = tmp_path / 'a.npz'
    for save in (np.savez, np.savez_compressed):
        save(path, x=np.random.default_rng(0).integers(0, 256, [N, 99, 99]))
        content = bytearray(path.read_bytes())
        content[5000:5100] = bytes(100)
        path.write_bytes(content)
        with refused(path, 'damaged'):
            by_client.load(path)


@pytest.mark.parametrize('content', [b'text', b'\x80\x04K\x01.', b'PK\x03\x04'])
def test_other_files_are_refused(tmp_path, refused, content):
    path = tmp_path / 'a.npz'
    path.write_bytes(content)
    with refused(path, 'no .npz'):
        by_client.load(path)


def test_an_npy_file_is_refused(tmp_path, refused):
    with open(tmp_path / 'a.npz', 'wb') as file:
        np.save(file, IMAGES)
    with refused(tmp_path / 'a.npz', 'no .npz'):
        by_client.load(tmp_path / 'a.npz')


@pytest.mark.parametrize(
    ('keys', 'is_test'),
    [
        (('x_train', 'y_train', 'x_test', 'y_test'), [0, 1]),
        (('val_images', 'val_labels', 'test_images', 'test_labels'), [0, 1]),
        (('images', 'labels'), [0]),
    ],
)
def test_central_data_are_joined(tmp_path, keys, is_test):
    arrays = dict(
        zip(keys, [IMAGES, LABELS[:, None], IMAGES + 1, LABELS], strict=False)
    )
    np.savez(tmp_path / 'a.npz', **arrays)
    x, y, found = npz.read_central(tmp_path / 'a.npz')
    parts = len(is_test)
    np.testing.assert_array_equal(x, np.concatenate([IMAGES, IMAGES + 1][:parts]))
    np.testing.assert_array_equal(y, np.tile(LABELS, parts))
    np.testing.assert_array_equal(found, np.repeat(np.array(is_test, bool), N))


@pytest.mark.parametrize(
    ('arrays', 'words'),
    [
        ({'x_train': IMAGES, 'y_test': LABELS}, ['x_train', 'the part test']),
        ({'a': IMAGES, 'client': CLIENTS}, ['no array', 'labels']),
        ({}, ['none']),
        (
            {
                'x_train': IMAGES,
                'y_train': LABELS,
                'x_test': IMAGES[:, 1:],
                'y_test': LABELS,
            },
            ['unlike shapes'],
        ),
    ],
)
def test_central_data_of_other_keys_are_refused(tmp_path, refused, arrays, words):
    np.savez(tmp_path / 'a.npz', **arrays)
    with refused(tmp_path / 'a.npz', *words):
        npz.read_central(tmp_path / 'a.npz')
