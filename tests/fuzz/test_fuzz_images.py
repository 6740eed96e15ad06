"""Images and folders of them with damage: the same pixels, or one line."""

import os
import shutil

import numpy as np
import PIL.Image
import pytest
from test_fuzz_tables import assert_equal, assert_sound

from tff_transfer.data import by_client

pytestmark = pytest.mark.slow


def write_folder(folder, suffix='.png', channels=()):
    """Writes four images of 9 x 7 pixels by two clients, of two classes."""
    draw = np.random.default_rng(0)
    for client in ('ann', 'bob'):
        for label in ('cat', 'dog'):
            path = folder / client / label / f'0{suffix}'
            path.parent.mkdir(parents=True)
            image = draw.integers(0, 256, (7, 9, *channels)).astype(np.uint8)
            PIL.Image.fromarray(image).save(path)
    return folder / 'bob' / 'cat' / f'0{suffix}'


@pytest.mark.parametrize(
    ('family', 'channels'), [('PNG of greys', ()), ('PNG of colours', (3,))]
)
def test_png(tmp_path, fuzz, family, channels):
    path = write_folder(tmp_path, '.png', channels)
    whole = by_client.load(tmp_path)

    def judge(found, _):
        assert_equal(found, whole)
        return 'right'

    fuzz.damage(family, path, lambda: by_client.load(tmp_path), judge, 150)


def test_jpeg(tmp_path, fuzz):
    path = write_folder(tmp_path, '.jpg', (3,))
    whole = by_client.load(tmp_path)

    def judge(found, _):
        """Its format has no checksum: all but the one image's pixels is as it was."""
        assert_sound(found)
        assert found.client_ids == ('ann', 'bob')
        assert found.class_names == ('cat', 'dog')
        np.testing.assert_array_equal(found.y, whole.y)
        same = (found.x == whole.x).all((1, 2, 3))
        assert same.sum() >= 3
        return 'right' if same.all() else 'explained'

    fuzz.damage('JPEG', path, lambda: by_client.load(tmp_path), judge, 200)


def _remove(path):
    path.unlink()
    return 3


def _empty(path):
    path.write_bytes(b'')


def _text(path):
    path.write_text('no image')


def _folder(path):
    path.unlink()
    path.mkdir()
    return 3


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


def _dangling(path):
    path.unlink()
    path.symlink_to('nowhere')


def _to_itself(path):
    path.unlink()
    path.symlink_to(path)


def _bytes_as_a_name(path):
    os.rename(path, os.fsencode(path.parent) + b'/\xff\xfe.png')
    return 4


def _bytes_as_a_client(path):
    client = path.parents[1]
    os.rename(client, os.fsencode(client.parent) + b'/\xff')
    return 4


def _line_as_a_name(path):
    path.rename(path.with_name('0\n1.png'))
    return 4


def _line_as_a_class(path):
    path.parent.rename(path.parent.with_name('c\nat'))
    return 4


def _circle(path):
    (path.parent / 'up').symlink_to(path.parents[2])
    return 4


def _many_pixels(path):
    path.write_bytes(
        b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\0\0\0\x01\0\0\x08\0\0\0\0\xda\x65\x1f\x27'
    )


def _sixteen_bits(path):
    PIL.Image.fromarray(np.full((7, 9), 9999, np.uint16)).save(path)


def _beside_the_others(path):
    shutil.move(path, path.parents[2])


@pytest.mark.parametrize(
    'damage',
    [
        _remove,
        _empty,
        _text,
        _folder,
        _pipe,
        _dangling,
        _to_itself,
        _bytes_as_a_name,
        _bytes_as_a_client,
        _line_as_a_name,
        _line_as_a_class,
        _circle,
        _many_pixels,
        _sixteen_bits,
        _beside_the_others,
    ],
)
def test_folder(tmp_path, fuzz, damage):
    """Either all images that are left are read, or one line says what is wrong."""
    whole = by_client.load(write_folder(tmp_path / 'whole').parents[2])
    path = write_folder(tmp_path / 'damaged')
    left = damage(path)

    def judge(found):
        assert_sound(found)
        assert len(found.x) == left
        pixels = {image.tobytes() for image in whole.x}
        assert all(image.tobytes() in pixels for image in found.x)
        return 'right'

    name = damage.__name__.strip('_')
    folder = path.parents[2]
    fuzz.attempt('image folder', name, name, lambda: by_client.load(folder), judge)
    fuzz.check()
