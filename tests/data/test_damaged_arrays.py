"""Flipped, overwritten and lost bytes of files of arrays."""

import numpy as np
import pytest

from tff_transfer.data import by_client, federated, sqlite
from tff_transfer.errors import UserError

MUTATIONS = 1500
N = 12
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (N, 5, 6)).astype(np.uint8)
LABELS = np.arange(N) % 3
NAMES = np.array(['owl', 'cat', 'yak'])[LABELS]
CLIENTS = np.array(['ann', 'bob', 'cleo', 'dan'])[np.arange(N) % 4]


def write_rows(path, save=np.savez):
    save(path, x=IMAGES, y=NAMES, client=CLIENTS, is_test=LABELS == 0)


def write_compressed(path):
    write_rows(path, np.savez_compressed)


def write_parts(path):
    arrays = {'x': IMAGES, 'y': LABELS, 'client': CLIENTS}
    parts = ('train', 'test')
    np.savez(path, **{f'{k}_{part}': a for part in parts for k, a in arrays.items()})


def write_database(path):
    names = ['a', 'b', 'c']
    data = federated.from_rows('d', IMAGES, LABELS, CLIENTS, class_names=names)
    sqlite.write(data, path)


def damaged(content, draw):
    """Returns a file's content after one accident."""
    content = bytearray(content)
    kind, place = draw.integers(5), draw.integers(len(content))
    if kind == 0:
        return content[:place]
    if kind == 1:
        # Where headers and directories are.
        place = draw.choice([place % 2000, len(content) - 1 - place % 600])
        place %= len(content)
    if kind == 2:
        end = min(place + draw.integers(1, 64), len(content))
        content[place:end] = bytes(int(end - place))
    elif kind == 3:
        content[place] ^= 1 << draw.integers(8)
    else:
        content[place] = draw.integers(256)
    return content


def fields(data):
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(data).items()
        if name in data.__dataclass_fields__
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'write'),
    [
        ('a.npz', write_rows),
        ('compressed.npz', write_compressed),
        ('parts.npz', write_parts),
        ('a.sqlite', write_database),
    ],
)
def test_damage_is_refused_or_changes_nothing(tmp_path, name, write):
    path = tmp_path / name
    write(path)
    content, expected = path.read_bytes(), fields(by_client.load(path))
    refused = 0
    for number in range(MUTATIONS):
        path.write_bytes(damaged(content, np.random.default_rng(number)))
        try:
            found = by_client.load(path)
        except UserError as error:
            assert '\n' not in str(error), number
            refused += 1
        else:
            assert fields(found) == expected, number
    assert MUTATIONS > refused > MUTATIONS / 5
