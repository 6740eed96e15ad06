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
    names = np.array(['7', '10', '2'])[LABELS]
    data = load(tmp_path, {'x': IMAGES, 'y': names, 'client': NAMES})
    assert data.class_names == () and set(data.y) == {2, 7, 10}


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
        ({'x_train': IMAGES, 'y_test': LABELS}, ['no pairs', 'x_train']),
        ({'a': IMAGES, 'b': LABELS}, ['no pairs']),
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
