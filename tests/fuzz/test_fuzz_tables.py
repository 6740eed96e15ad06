"""npz, CSV and SQLite files with damage: the same data, explained ones, or a line."""

import collections
import contextlib
import csv
import dataclasses
import io
import sqlite3

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.data import by_client, federated, npz
from tff_transfer.data import sqlite as tff_sqlite

pytestmark = pytest.mark.slow

DRAW = np.random.default_rng(0)
CLIENTS = np.repeat(['ann', 'bob', 'eve'], 4)
LABELS = np.tile(np.arange(4), 3)
IMAGES = DRAW.integers(0, 256, (12, 3, 3)).astype(np.uint8)
IS_TEST = np.tile([False, False, True, False], 3)


def assert_sound(data):
    """Asserts what holds for all data, whatever their values."""
    assert len(data.x) == len(data.y) == data.num_train.sum() + data.num_test.sum()
    assert data.x.dtype in (np.uint8, np.float32) and data.y.dtype == np.int32
    assert np.isfinite(data.x).all()
    if data.x.ndim == 4 and data.x.dtype == np.float32:
        assert data.x.min() >= 0 and data.x.max() <= 1
    assert data.y.min() >= 0 and data.y.max() < data.num_classes
    assert len(set(data.client_ids)) == len(data.client_ids)
    assert len(data.class_names) in (0, data.num_classes)


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_array_equal(found.num_train, expected.num_train)
    np.testing.assert_array_equal(found.num_test, expected.num_test)
    assert found.client_ids == expected.client_ids
    assert found.class_names == expected.class_names
    assert (found.x.dtype, found.y.dtype) == (expected.x.dtype, expected.y.dtype)


@pytest.mark.parametrize('save', [np.savez, np.savez_compressed])
def test_npz(tmp_path, fuzz, save):
    path = tmp_path / 'a.npz'
    save(path, images=IMAGES, labels=LABELS, writers=CLIENTS, is_test=IS_TEST)
    whole = by_client.load(path)

    def judge(found, _):
        assert_equal(found, whole)
        return 'right'

    fuzz.damage('npz', path, lambda: by_client.load(path), judge, 200)


def test_npz_without_clients(tmp_path, fuzz):
    path = tmp_path / 'a.npz'
    np.savez(path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:2], y_test=LABELS[:2])
    whole = npz.read_central(path)

    def judge(found, _):
        for mine, expected in zip(found, whole, strict=True):
            np.testing.assert_array_equal(mine, expected)
        return 'right'

    family = 'npz without clients'
    fuzz.damage(family, path, lambda: npz.read_central(path), judge, 100)


def as_number(text):
    """Returns a label that is a number as one, so that 1 and 01 are the same."""
    try:
        return float(text)
    except ValueError:
        return text.strip()


def rows_of(data):
    """Returns how often each (client, label, test, inputs) occurs."""
    names = data.class_names or [str(label) for label in range(data.num_classes)]
    ids = np.array(data.client_ids)[data.client_of_row]
    return collections.Counter(
        (client, as_number(names[label]), not train, tuple(np.sort(x, None).tolist()))
        for client, label, train, x in zip(
            ids.tolist(), data.y, data.is_train, data.x, strict=True
        )
    )


def explained_by_text(found, damaged, is_input):
    """Asserts that Python's own reader finds the same rows in the text."""
    assert_sound(found)
    text = damaged.decode('utf-8-sig')
    rows = csv.reader(io.StringIO(text, newline=''))
    # A row of blank cells is no example.
    header, *rows = [row for row in rows if any(map(str.strip, row))]
    header = [cell.strip() for cell in header]
    names = {name.lower(): i for i, name in enumerate(header)}
    inputs = [i for i, name in enumerate(header) if is_input(name)]
    expected = collections.Counter()
    for row in rows:
        assert len(row) == len(header)
        # In any order: what a damaged name does to the order of columns is open.
        values = np.sort(np.array([row[i] for i in inputs], np.float32))
        is_test = row[names['split']].strip() == 'test' if 'split' in names else None
        client, label = row[names['client']].strip(), row[names['label']]
        expected[client, as_number(label), is_test, tuple(values.tolist())] += 1
    mine = collections.Counter()
    for (client, label, is_test, values), times in rows_of(found).items():
        is_test = is_test if 'split' in names else None
        mine[client, label, is_test, values] += times
    assert mine == expected
    return 'explained'


def write_csv(path, header, inputs):
    parts = np.where(IS_TEST, 'test', 'train')
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['client', 'label', 'split', *header])
        for client, label, part, values in zip(
            CLIENTS, LABELS, parts, inputs, strict=True
        ):
            writer.writerow([client, label, part, *values])


def test_csv_of_pixels(tmp_path, fuzz):
    path = tmp_path / 'a.csv'
    write_csv(path, [f'pixel{i}' for i in range(9)], IMAGES.reshape(12, 9))
    whole = rows_of(by_client.load(path))

    def judge(found, damaged):
        if rows_of(found) == whole:
            return 'right'
        return explained_by_text(found, damaged, lambda name: 'pixel' in name)

    fuzz.damage('CSV of pixels', path, lambda: by_client.load(path), judge, 300)


def test_csv_of_vectors(tmp_path, fuzz):
    path = tmp_path / 'a.csv'
    write_csv(path, ['height', 'weight'], DRAW.normal(size=(12, 2)).round(3))
    taken = ('client', 'label', 'split')

    def judge(found, damaged):
        return explained_by_text(found, damaged, lambda name: name.lower() not in taken)

    fuzz.damage('CSV of vectors', path, lambda: by_client.load(path), judge, 200)


def numbered_rows_of(data):
    """Returns the same by label's numbers: a damaged name cannot be noticed."""
    return rows_of(dataclasses.replace(data, class_names=()))


def explained_by_database(found, path):
    """Asserts that SQLite and protobuf find the same rows, as many as are declared."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            'SELECT split_name, client_id, serialized_example_proto FROM examples'
        ).fetchall()
        declared = connection.execute(
            'SELECT split_name, client_id, SUM(num_examples) FROM client_metadata'
            ' GROUP BY split_name, client_id'
        ).fetchall()
    counted = collections.Counter((split, client) for split, client, _ in rows)
    assert counted == {(split, client): count for split, client, count in declared}
    assert {split for split, _ in counted} == {'train', 'test'}
    expected = collections.Counter()
    for split, client, proto in rows:
        features = tf.train.Example.FromString(proto).features.feature
        values = np.array(features['pixels'].float_list.value, np.float32)
        (label,) = features['label'].int64_list.value
        if found.x.dtype == np.uint8:
            values = np.rint(values * 255)
        values = tuple(np.sort(values).tolist())
        expected[client, label, split == 'test', values] += 1
    assert numbered_rows_of(found) == expected
    return 'explained'


def test_sqlite(tmp_path, fuzz):
    path = tmp_path / 'a.sqlite'
    data = federated.from_rows(
        'drawn', IMAGES, LABELS, CLIENTS, class_names='abcd', is_test=IS_TEST
    )
    tff_sqlite.write(data, path)

    whole = numbered_rows_of(by_client.load(path))

    def judge(found, _):
        assert_sound(found)
        if numbered_rows_of(found) == whole:
            return 'right'
        return explained_by_database(found, path)

    fuzz.damage('SQLite', path, lambda: by_client.load(path), judge, 400)
