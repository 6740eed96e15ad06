import io
import sys

import numpy as np
import PIL.Image
import pytest

from tff_transfer.data import by_client

IMAGES = np.random.default_rng(0).integers(0, 256, [4, 5, 5]).astype(np.uint8)
LABELS = [1, 0, 1, 2]
CLIENTS = ['b', 'a', 'b', 'a']
ORDER = [1, 3, 0, 2]  # grouped by client


def png(image):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, format='PNG')
    return file.getvalue()


@pytest.fixture
def load(tmp_path):
    """Writes columns to a Parquet file and loads it."""
    pyarrow = pytest.importorskip('pyarrow', reason='pyarrow is not installed')
    parquet = pytest.importorskip('pyarrow.parquet')

    def write_and_load(columns, types=None, **options):
        arrays = [
            pyarrow.array(values, (types or {}).get(name))
            for name, values in columns.items()
        ]
        table = pyarrow.Table.from_arrays(arrays, list(columns))
        parquet.write_table(table, tmp_path / 'a.parquet')
        return by_client.load(tmp_path / 'a.parquet', test_fraction=0, **options)

    return write_and_load


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, refused, monkeypatch):
    for name in ('pyarrow', 'pyarrow.parquet'):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / 'a.parquet').write_bytes(b'PAR1')
    with refused(tmp_path / 'a.parquet', 'pip install', 'pyarrow'):
        by_client.load(tmp_path / 'a.parquet')


def test_columns_of_pixels_in_any_order(load):
    pixels = {f'pixel{i}': IMAGES.reshape(4, 25)[:, i] for i in sorted(range(25))[::-1]}
    data = load({**pixels, 'client': CLIENTS, 'label': LABELS})
    assert data.name == 'a.parquet' and data.client_ids == ('a', 'b')
    assert data.x.dtype == np.uint8
    np.testing.assert_array_equal(data.x[..., 0], IMAGES[ORDER])
    assert data.y.tolist() == [0, 2, 1, 1]


def test_other_numbers_are_a_vector_without_pandas_index(load):
    data = load(
        {
            'client': [10, 9, 10, 9],
            'label': ['owl', 'cat', 'owl', 'cat'],
            'Unnamed: 0': [7, 3, 4, 5],
            'v': [0.5, 1.5, 2.5, 3.5],
            'w': [1, 2, 3, 4],
            '__index_level_0__': ['x', 'y', 'x', 'y'],
        }
    )
    assert data.client_ids == ('9', '10') and data.class_names == ('cat', 'owl')
    assert data.x.tolist() == [[1.5, 2], [3.5, 4], [0.5, 1], [2.5, 3]]


@pytest.mark.parametrize('name', ['image', 'scan'])
def test_encoded_images_as_datasets_writes_them(load, tmp_path, name):
    (tmp_path / 'last.png').write_bytes(png(IMAGES[3]))
    structs = [{'bytes': png(image), 'path': 'gone.png'} for image in IMAGES[:3]]
    structs.append({'bytes': None, 'path': 'last.png'})
    split = ['train', 'validation', 'test', 'test']
    data = load({name: structs, 'label': LABELS, 'user': CLIENTS, 'split': split})
    np.testing.assert_array_equal(data.x[..., 0], IMAGES[ORDER])
    assert data.num_test.tolist() == [1, 1]
    data = load({name: [png(i) for i in IMAGES], 'label': LABELS, 'user': CLIENTS})
    np.testing.assert_array_equal(data.x[..., 0], IMAGES[ORDER])


def test_encoded_images_of_mixed_size(load, refused):
    columns = {
        'image': [png(IMAGES[0]), png(IMAGES[1][:, :3])],
        'label': [0, 1],
        'client': ['a', 'b'],
    }
    with refused('example 2', '3 x 5', '5 x 5', '--image_size'):
        load(columns)
    assert load(columns, image_size=(4, 6)).x.shape == (2, 4, 6, 1)


def test_lists_of_pixels(load):
    flat, nested = IMAGES.reshape(4, 25).tolist(), IMAGES.tolist()
    colours = np.repeat(IMAGES[..., np.newaxis], 3, axis=3).tolist()
    for images in (flat, nested):
        data = load({'pixels': images, 'label': LABELS, 'client': CLIENTS})
        np.testing.assert_array_equal(data.x[..., 0], IMAGES[ORDER])
    data = load({'x': colours, 'label': LABELS, 'client': CLIENTS})
    np.testing.assert_array_equal(data.x[..., 2], IMAGES[ORDER])
    features = [[0.5, 1.5], [2.5, -3.5]]
    data = load({'features': features, 'label': [0, 1], 'client': ['a', 'b']})
    assert data.x.tolist() == features


@pytest.mark.parametrize(
    ('columns', 'words'),
    [
        ({'client': [], 'label': [], 'v': []}, ['no examples']),
        ({'client': [1], 'v': [1]}, ['label', '--label_key']),
        (
            {'client': ['a', None], 'label': [1, 2], 'v': [1, 2]},
            ['example 2', 'client'],
        ),
        ({'client': [1, 2], 'label': [1, None], 'v': [1, 2]}, ['example 2', 'label']),
        ({'client': [1, 2], 'label': [0, 1], 'v': [1, None]}, ['example 2', "'v'"]),
        ({'client': [1], 'label': [0], 'v': ['x']}, ["'v'", 'numbers', '--image_key']),
        ({'client': ['a', 'a '], 'label': [0, 1], 'v': [1, 2]}, ['spaces']),
        ({'client': ['a\0', 'a'], 'label': [0, 1], 'v': [1, 2]}, ['damaged']),
        ({'client': [1, 2], 'label': [0, 1], 'v': [[1], [1, 2]]}, ['one length']),
        ({'client': [1, 2], 'label': [0, 1], 'v': [[], []]}, ['one length']),
        ({'client': [1], 'label': [0], 'v': [['x']]}, ['lists of numbers']),
        ({'client': [1], 'label': [0], 'image': [b'abc']}, ['example 1', 'no image']),
        ({'client': [1], 'label': [0], 'image': [3]}, ["'image'", 'int64']),
        ({'client': [1], 'label': [0], 'image': [{'a': 3}]}, ["'image'", 'struct']),
        ({'client': [1], 'label': [0], 'a': [[1]], 'b': [[1]]}, ["'a'", 'numbers']),
    ],
)
def test_bad_files_are_refused(load, refused, columns, words):
    with refused('a.parquet', *words):
        load(columns)


def test_damaged_files_are_refused(load, tmp_path, refused):
    path = tmp_path / 'a.parquet'
    load({'image': IMAGES.tolist(), 'label': LABELS, 'client': CLIENTS})
    content = path.read_bytes()
    for kept in (0, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:kept])
        with refused(path, 'truncated'):
            by_client.load(path)
    path.write_bytes(content)
    with refused(path, '--client_key', 'no column'):
        by_client.load(path, client_key='who')


def test_numbers_as_labels_are_numbered_as_in_other_files(load):
    columns = {'x1': [1.0, 2.0, 3.0, 4.0], 'label': [100, 10, 100, 1]}
    data = load({**columns, 'client': CLIENTS})
    assert data.class_names == ('1', '10', '100')
    np.testing.assert_array_equal(data.y, np.array([2, 1, 2, 0])[ORDER])
