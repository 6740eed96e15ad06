import collections
import contextlib
import os
import sqlite3

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.data import examples, federated, sqlite


def sample(shape=(28, 28, 1), dtype=np.uint8, classes=62, n=60, name='sample'):
    draw = np.random.default_rng(1)
    x = draw.integers(0, 256, (n, *shape)).astype(np.uint8)
    if dtype == np.float32:
        x = draw.random((n, *shape), np.float32)
    return federated.from_rows(
        name,
        x,
        draw.integers(0, classes, n),
        draw.choice(['f01', 'f02', 'f10'], n),
        num_classes=classes,
        test_fraction=0.3,
    )


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.x, expected.x)
    assert found.x.dtype == expected.x.dtype
    np.testing.assert_array_equal(found.y, expected.y)
    assert found.client_ids == expected.client_ids
    assert found.num_train.tolist() == expected.num_train.tolist()
    assert found.num_test.tolist() == expected.num_test.tolist()
    assert found.num_classes == expected.num_classes
    assert found.class_names == expected.class_names


@pytest.mark.parametrize(
    ('shape', 'dtype'),
    [
        ((28, 28, 1), np.uint8),
        ((28, 28, 1), np.float32),
        ((4, 6, 3), np.uint8),
        ((9,), np.float32),
    ],
)
def test_what_is_written_is_read(tmp_path, shape, dtype):
    data = sample(shape, dtype)
    sqlite.write(data, tmp_path / 'a.sqlite')
    assert_equal(sqlite.read(tmp_path / 'a.sqlite'), data)
    assert os.listdir(tmp_path) == ['a.sqlite']


@pytest.mark.parametrize('only_digits', [True, False])
def test_tff_s_own_reader_gives_the_same(tmp_path, only_digits):
    data = sample()
    sqlite.write(data, tmp_path / 'emnist_all.sqlite')
    theirs = tff.simulation.datasets.emnist.load_data(
        only_digits=only_digits, cache_dir=str(tmp_path)
    )
    ours = sqlite.read(
        tmp_path / 'emnist_all.sqlite', prefix='digits_only_' if only_digits else 'all_'
    )
    for client_data, rows_of in zip(
        theirs, (ours.train_rows, ours.test_rows), strict=True
    ):
        for client, client_id in enumerate(ours.client_ids):
            rows = rows_of(client)
            if client_id not in client_data.client_ids:
                assert rows.start == rows.stop
                continue
            dataset = client_data.create_tf_dataset_for_client(client_id)
            (batch,) = dataset.batch(100).as_numpy_iterator()
            np.testing.assert_array_equal(batch['label'], ours.y[rows])
            np.testing.assert_array_equal(
                batch['pixels'], ours.x[rows, ..., 0].astype(np.float32) / 255
            )
    expected = data.y < 10 if only_digits else data.y >= 0
    assert len(ours.y) == expected.sum() > 0
    np.testing.assert_array_equal(ours.x, data.x[expected])


def test_tff_parses_other_shapes_by_their_spec(tmp_path):
    data = sample((4, 6, 3), classes=5)
    sqlite.write(data, tmp_path / 'a.sqlite')
    spec = collections.OrderedDict(
        label=tf.TensorSpec([], tf.int32), pixels=tf.TensorSpec([4, 6, 3], tf.float32)
    )
    theirs = tff.simulation.datasets.load_and_parse_sql_client_data(
        str(tmp_path / 'a.sqlite'), spec, 'train'
    )
    assert theirs.client_ids == list(data.client_ids)
    (batch,) = theirs.create_tf_dataset_for_client('f02').batch(100).as_numpy_iterator()
    rows = data.train_rows(1)
    np.testing.assert_array_equal(batch['label'], data.y[rows])
    np.testing.assert_array_equal(batch['pixels'] * 255, data.x[rows])


def test_a_database_that_tff_wrote_is_read(tmp_path):
    path = tmp_path / 'theirs.sqlite'
    labels = {'a': [0, 2, 1], 'b': [1]}

    def dataset(client_id):
        y = np.array(labels[client_id])
        pixels = np.stack([np.full([28, 28], 1 - k / 255, np.float32) for k in y])
        return tf.data.Dataset.from_tensor_slices({'label': y, 'pixels': pixels})

    tff.simulation.datasets.save_to_sql_client_data(
        ['a', 'b'],
        dataset,
        str(path),
        split_names_by_client_id={'a': 'train', 'b': 'train'},
    )
    data = sqlite.read(path)
    assert data.client_ids == ('a', 'b') and data.num_classes == 3
    assert data.y.tolist() == [0, 2, 1, 1] and data.num_test.sum() == 0
    assert data.x.shape == (4, 28, 28, 1) and data.x.dtype == np.uint8
    np.testing.assert_array_equal(data.x[:, 0, 0, 0], [255, 253, 254, 254])


def test_without_split_names_a_test_share_is_drawn(tmp_path):
    path = tmp_path / 'theirs.sqlite'

    def dataset(client_id):
        del client_id
        return tf.data.Dataset.from_tensor_slices(
            {'image': np.zeros([10, 12], np.int64), 'label': np.arange(10)}
        )

    tff.simulation.datasets.save_to_sql_client_data(['a'], dataset, str(path))
    data = sqlite.read(path, test_fraction=0.3)
    assert data.x.shape == (10, 2, 2, 3) and data.x.dtype == np.uint8
    assert data.num_train.tolist() == [7] and data.num_test.tolist() == [3]


def test_clients_with_one_example_or_only_test_examples_are_kept(tmp_path):
    data = federated.from_rows(
        'd',
        np.zeros([3, 28, 28]),
        np.array([0, 1, 2]),
        np.array(['one', 'test', 'test']),
        is_test=np.array([False, True, True]),
    )
    sqlite.write(data, tmp_path / 'a.sqlite')
    found = sqlite.read(tmp_path / 'a.sqlite')
    assert found.client_ids == ('one', 'test')
    assert found.num_train.tolist() == [1, 0] and found.num_test.tolist() == [0, 2]


def test_a_quote_in_a_client_id_is_refused(tmp_path, refused):
    data = federated.from_rows('d', np.zeros([1, 2]), np.array([0]), np.array(["o'h"]))
    with refused(tmp_path / 'a.sqlite', "o'h", 'rename'):
        sqlite.write(data, tmp_path / 'a.sqlite')
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_refused(tmp_path, refused):
    (tmp_path / 'file').write_text('')
    with refused(tmp_path / 'file/a.sqlite', 'cannot be written'):
        sqlite.write(sample(), tmp_path / 'file/a.sqlite')


def test_a_full_disk_leaves_what_was_there(tmp_path, refused, monkeypatch):
    path = tmp_path / 'a.sqlite'
    path.write_text('before')
    # SQLite then fails as it does on a full disk, with some rows written.
    monkeypatch.setattr(
        sqlite, '_SCHEMA', f'PRAGMA max_page_count = 20; {sqlite._SCHEMA}'
    )
    with refused(path, 'database or disk is full', 'make room'):
        sqlite.write(sample(), path)
    assert path.read_text() == 'before' and os.listdir(tmp_path) == ['a.sqlite']


@pytest.fixture
def written(tmp_path):
    path = tmp_path / 'a.sqlite'
    sqlite.write(sample(), path)
    return path


@pytest.mark.parametrize('kept', [0.3, 0.9, 0.999])
def test_a_truncated_database_is_refused(written, refused, kept):
    whole = written.read_bytes()
    written.write_bytes(whole[: int(len(whole) * kept)])
    with refused(written, 'truncated', str(len(whole)), 'delete it'):
        sqlite.splits(written)


@pytest.mark.parametrize(
    'content', [b'', b'<html>Not found</html>', b'SQLite format 3']
)
def test_another_file_is_refused(tmp_path, refused, content):
    path = tmp_path / 'a.sqlite'
    path.write_bytes(content)
    with refused(path, 'not an SQLite database'):
        sqlite.read(path)


def test_an_absent_file_is_refused(tmp_path, refused):
    with refused(tmp_path / 'a.sqlite', 'cannot be read'):
        sqlite.read(tmp_path / 'a.sqlite')


def test_a_damaged_page_is_refused(written, refused):
    content = bytearray(written.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40_000] = b'\xff' * 40_000
    written.write_bytes(content)
    with refused(written, 'delete it'):
        sqlite.read(written)


def change(path, *statements):
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(*statement)
    connection.close()


@pytest.mark.parametrize(
    ('statement', 'words'),
    [
        ('DROP TABLE client_metadata', ['client_metadata']),
        ('ALTER TABLE examples RENAME client_id TO who', ['examples lacks client_id']),
        ('DROP TABLE examples', ['examples lacks']),
    ],
)
def test_another_schema_is_refused(written, refused, statement, words):
    change(written, [statement])
    with refused(written, "TFF's schema", *words):
        sqlite.read(written)


def test_no_examples_are_refused(written, refused):
    change(written, ['DELETE FROM examples'])
    with refused(written, 'no examples'):
        sqlite.read(written)


@pytest.mark.parametrize('blob', [b'\xff\xff\xff', b'', 'text', 5])
@pytest.mark.parametrize('first', [True, False])
def test_examples_that_are_none_are_refused(written, refused, blob, first):
    row = 'MIN(rowid)' if first else 'MAX(rowid)'
    change(
        written,
        [
            'UPDATE examples SET serialized_example_proto = ? WHERE rowid ='
            f" (SELECT {row} FROM examples WHERE split_name = 'all_train')",
            [blob],
        ],
    )
    with refused(written):
        sqlite.read(written)


@pytest.mark.parametrize(
    ('x', 'words'),
    [(np.nan, ['NaN']), (7, ['[0, 1]']), (-1, ['[0, 1]'])],
)
def test_pixels_out_of_range_are_refused(tmp_path, refused, x, words):
    good = sample(dtype=np.float32)
    pixels = good.x.copy()
    pixels[5, 3, 3] = x
    sqlite.write(good.with_x(pixels), tmp_path / 'a.sqlite')
    with refused('a.sqlite', *words):
        sqlite.read(tmp_path / 'a.sqlite')


def of_other_origin(path, *statements):
    """Makes a database one that TFF might have written, and changes it."""
    change(
        path,
        ['DROP TABLE tff_transfer_metadata'],
        ['PRAGMA application_id = 0'],
        *statements,
    )


def test_negative_labels_are_refused(written, refused):
    (example,) = examples.serialize(np.zeros([1, 28, 28, 1]), np.array([-3]))
    of_other_origin(
        written,
        ['UPDATE examples SET serialized_example_proto = ? WHERE rowid = 1', [example]],
    )
    with refused('a.sqlite', '-3'):
        sqlite.read(written)


@pytest.mark.parametrize('part', ['train', 'test'])
def test_a_changed_value_is_refused(written, refused, part):
    with contextlib.closing(sqlite3.connect(written)) as connection:
        example, client_id = connection.execute(
            'SELECT serialized_example_proto, client_id FROM examples'
            f" WHERE split_name = 'all_{part}'"
        ).fetchone()
    content = written.read_bytes()
    row = f'all_{part}{client_id}'.encode() + example
    assert content.count(row) == 1
    for place in (len(row) // 2, len(f'all_{part}')):
        changed = bytearray(row)
        changed[place] ^= 1
        written.write_bytes(content.replace(row, changed))
        with refused(written, 'not those that were written'):
            sqlite.read(written)


def test_lost_and_doubled_rows_are_refused(written, refused):
    whole = written.read_bytes()
    one = "(SELECT MIN(rowid) FROM examples WHERE split_name = 'all_test')"
    for statement in (
        f'DELETE FROM examples WHERE rowid = {one}',
        f'INSERT INTO examples SELECT * FROM examples WHERE rowid = {one}',
        f"UPDATE examples SET client_id = 'f99' WHERE rowid = {one}",
        f"UPDATE examples SET split_name = 'all_train' WHERE rowid = {one}",
    ):
        written.write_bytes(whole)
        change(written, [statement])
        with refused(written, 'not those that were written'):
            sqlite.read(written)


@pytest.mark.parametrize(
    'statement',
    [
        ["UPDATE tff_transfer_metadata SET json = '[1]'"],
        ["UPDATE tff_transfer_metadata SET json = REPLACE(json, '62', '63')"],
        ["UPDATE tff_transfer_metadata SET json = x'00ff'"],
        ['UPDATE tff_transfer_metadata SET crc32 = NULL'],
        ['DELETE FROM tff_transfer_metadata'],
        ['DROP TABLE tff_transfer_metadata'],
    ],
)
def test_damaged_metadata_are_refused(written, refused, statement):
    change(written, statement)
    with refused(written, 'tff_transfer_metadata is damaged', 'again'):
        sqlite.read(written)


@pytest.mark.parametrize(
    'json',
    ['{', 'null', '[]', '3', '{"shape": 28}', '{"shape": ["a"]}', '{"shape": [0]}',
     '{"num_classes": "9"}', '{"num_classes": -1}', '{"class_names": "ab"}',
     '{"class_names": [1]}', '{"checksums": []}'],
)  # fmt: skip
def test_metadata_of_another_kind_are_refused(written, refused, json):
    of_other_origin(
        written,
        ['CREATE TABLE tff_transfer_metadata (json TEXT)'],
        ['INSERT INTO tff_transfer_metadata VALUES (?)', [json]],
    )
    with refused(written, 'tff_transfer_metadata is damaged'):
        sqlite.read(written)


def test_metadata_without_checksums_are_read(written):
    expected = sqlite.read(written)
    of_other_origin(
        written,
        ['CREATE TABLE tff_transfer_metadata (json TEXT)'],
        [
            'INSERT INTO tff_transfer_metadata VALUES (?)',
            ['{"shape": [28, 28, 1], "num_classes": 62, "class_names": []}'],
        ],
    )
    assert_equal(sqlite.read(written), expected)


@pytest.mark.parametrize('blob', [b'f01', b'\xff', None, 5])
def test_client_ids_that_are_no_text_are_refused(written, refused, blob):
    statements = [
        'CREATE TABLE new (split_name, client_id, serialized_example_proto)',
        'INSERT INTO new SELECT * FROM examples',
        'DROP TABLE examples',
        'ALTER TABLE new RENAME TO examples',
    ]
    of_other_origin(
        written,
        *([statement] for statement in statements),
        ['UPDATE examples SET client_id = ? WHERE rowid = 1', [blob]],
    )
    with refused(written, repr(blob), 'TEXT'):
        sqlite.read(written)


def test_client_ids_that_are_no_utf_8_are_refused(written, refused):
    of_other_origin(
        written,
        ["UPDATE examples SET client_id = CAST(x'ff' AS TEXT) WHERE rowid = 1"],
    )
    with refused(written, 'UTF-8', 'client_id'):
        sqlite.read(written)


def test_a_lost_page_of_another_origin_is_refused(written, refused):
    of_other_origin(written)
    content = bytearray(written.read_bytes())
    # The number of rows in a leaf of the table that holds nearly all pages.
    page = next(
        start
        for start in range(4096, len(content), 4096)
        if content[start] == 13 and int.from_bytes(content[start + 3 : start + 5]) > 1
    )
    content[page + 3 : page + 5] = (1).to_bytes(2)
    written.write_bytes(content)
    with refused(written, 'delete it'):
        sqlite.read(written)


def test_fewer_rows_than_a_database_says_are_logged(written, caplog):
    of_other_origin(written, ['DELETE FROM examples WHERE rowid = 1'])
    assert len(sqlite.read(written).y) == 59
    assert 'has 59 examples, not 60' in caplog.text


def test_a_schema_that_is_no_text_is_refused(written, refused):
    content = written.read_bytes()
    written.write_bytes(content.replace(b'CREATE TABLE c', b'CREATE TABL\xe6 c'))
    with refused(written, 'delete it'):
        sqlite.read(written)


def test_a_test_split_alone_is_kept(tmp_path):
    data = federated.from_rows(
        'd',
        np.zeros([2, 3]),
        np.array([0, 1]),
        np.array(['a', 'b']),
        is_test=np.ones(2, bool),
    )
    sqlite.write(data, tmp_path / 'a.sqlite')
    assert sqlite.read(tmp_path / 'a.sqlite').num_test.tolist() == [1, 1]


def test_several_data_sets_in_one_database_are_refused(written, refused):
    change(
        written,
        ["UPDATE client_metadata SET split_name = 'b_train' WHERE client_id = 'f01'"],
    )
    with refused(written, 'b_train', 'one pair'):
        sqlite.read(written)
    with refused(written, 'no split c_train'):
        sqlite.read(written, prefix='c_')
