import os

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tff_transfer.data import by_client, sqlite


def save(path, value=0, size=(4, 3), mode='L'):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new(mode, size, value).save(path)


def test_a_folder_for_each_client(tmp_path):
    save(tmp_path / 'bob/owl/1.png', 1)
    save(tmp_path / 'bob/cat/1.png', 2)
    save(tmp_path / 'ann/owl/1.png', 3)
    save(tmp_path / 'ann/owl/.hidden.png', 4)
    save(tmp_path / '.cache/owl/1.png', 4)
    (tmp_path / 'README.txt').write_text('passed over')
    data = by_client.load(tmp_path, test_fraction=0)
    assert data.client_ids == ('ann', 'bob') and data.class_names == ('cat', 'owl')
    assert data.x.shape == (3, 3, 4, 1) and data.x[:, 0, 0, 0].tolist() == [3, 2, 1]
    assert data.y.tolist() == [1, 0, 1] and data.name == tmp_path.name


def test_a_folder_for_each_class(tmp_path):
    save(tmp_path / '3/f01_a_1.png', 1)
    save(tmp_path / '3/f02_b_2.PNG', 2)
    save(tmp_path / '11/f01_a_3.png', 3)
    data = by_client.load(tmp_path, test_fraction=0)
    assert data.client_ids == ('f01_a', 'f02_b')
    assert data.y.tolist() == [1, 0, 0] and data.class_names == ('3', '11')
    assert data.x[:, 0, 0, 0].tolist() == [3, 1, 2]


def test_a_split_of_its_own_is_kept(tmp_path):
    for part, value in (('train', 1), ('train', 2), ('test', 3)):
        save(tmp_path / part / 'ann/owl' / f'{value}.png', value)
    data = by_client.load(tmp_path)
    assert data.num_train.tolist() == [2] and data.num_test.tolist() == [1]
    assert data.x[:, 0, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize('name', ['val', 'validation'])
def test_images_for_validation_are_trained_on(tmp_path, name):
    for part, value in (('train', 1), (name, 2), ('test', 3)):
        save(tmp_path / part / 'owl' / f'ann_{value}.png', value)
        save(tmp_path / part / 'owl' / f'bob_{value}.png', value)
    data = by_client.load(tmp_path)
    assert data.client_ids == ('ann', 'bob')
    assert data.num_train.tolist() == [2, 2] and data.num_test.tolist() == [1, 1]
    assert data.x[:, 0, 0, 0].tolist() == [1, 2, 3, 1, 2, 3] or (
        data.x[:, 0, 0, 0].tolist() == [2, 1, 3, 2, 1, 3]
    )


def test_without_test_images_a_share_is_drawn(tmp_path):
    for part in ('train', 'val'):
        for i in range(5):
            save(tmp_path / part / 'ann/owl' / f'{i}.png')
    data = by_client.load(tmp_path, test_fraction=0.2)
    assert data.client_ids == ('ann',) and data.num_test.tolist() == [2]


def test_folders_beside_train_and_test_are_refused(tmp_path, refused):
    for part in ('train', 'test', 'more'):
        save(tmp_path / part / 'owl/ann_1.png')
    with refused(tmp_path, 'more'):
        by_client.load(tmp_path)


@pytest.mark.parametrize(
    ('mode', 'value', 'pixel'),
    [
        ('1', 1, [255]),
        ('L', 7, [7]),
        ('LA', (7, 9), [7]),
        ('RGB', (1, 2, 3), [1, 2, 3]),
        ('RGBA', (1, 2, 3, 4), [1, 2, 3]),
        ('P', 0, [0, 0, 0]),
    ],
)
def test_modes_of_images(tmp_path, mode, value, pixel):
    save(tmp_path / 'ann/owl/1.png', value, mode=mode)
    data = by_client.load(tmp_path)
    assert data.x.shape == (1, 3, 4, len(pixel)) and data.x[0, 0, 0].tolist() == pixel


def test_grey_images_among_coloured_ones_become_coloured(tmp_path):
    save(tmp_path / 'ann/owl/1.png', 5)
    save(tmp_path / 'ann/owl/2.png', (1, 2, 3), mode='RGB')
    data = by_client.load(tmp_path, test_fraction=0)
    assert data.x[:, 0, 0].tolist() == [[5, 5, 5], [1, 2, 3]]


@pytest.mark.parametrize(
    ('names', 'words'),
    [
        ([], ['holds no images', 'CLIENT/LABEL/FILE.png']),
        (['a.png'], ['[1] levels']),
        (['a/b/c.png', 'a/b_c.png'], ['[2, 3] levels']),
        (['a/b/c/d.png'], ['[4] levels']),
        (['owl/1.png', 'cat/2.png'], ['partition']),
        (['owl/img_1.png', 'cat/img_2.png'], ['partition']),
        (['owl/ann_1.png', 'cat/2.png'], ['partition']),
    ],
)
def test_other_layouts_are_refused(tmp_path, refused, names, words):
    for name in names:
        save(tmp_path / name)
    with refused(tmp_path, *words):
        by_client.load(tmp_path)


def test_images_of_unlike_sizes_are_refused(tmp_path, refused):
    save(tmp_path / 'ann/owl/1.png')
    save(tmp_path / 'ann/owl/2.png', size=(5, 3))
    with refused(tmp_path / 'ann/owl/2.png', '5 x 3', '4 x 3', '--image_size'):
        by_client.load(tmp_path)


def test_images_of_more_bits_are_refused(tmp_path, refused):
    save(tmp_path / 'ann/owl/1.png', 40_000, mode='I;16')
    with refused(tmp_path / 'ann/owl/1.png', 'more than 8 bits'):
        by_client.load(tmp_path)


@pytest.mark.parametrize('suffix', ['.png', '.jpg', '.gif', '.bmp'])
@pytest.mark.parametrize('kept', [0, 0.1, 0.5])
def test_truncated_images_are_refused(tmp_path, refused, suffix, kept):
    path = tmp_path / f'ann/owl/1{suffix}'
    path.parent.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, [40, 40]).astype(np.uint8)
    PIL.Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with refused(path, 'truncated'):
        by_client.load(tmp_path)


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tiff'])
def test_photographs_are_upright(tmp_path, suffix, orientation):
    """The corner that EXIF's table says is at the top left of the stored image."""
    upright = np.full([16, 24], 20, np.uint8)
    upright[:8, :8] = 120  # top left
    upright[8:, :8] = 220  # bottom left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),  # to be turned clockwise
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f'ann/owl/1{suffix}'
    path.parent.mkdir(parents=True)
    PIL.Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    data = by_client.load(tmp_path, test_fraction=0)
    assert data.x.shape[1:3] == (16, 24)
    found = data.x[0, ..., 0].astype(int)
    assert np.abs(found[[4, 12, 4], [4, 4, 20]] - [120, 220, 20]).max() < 6


def test_images_of_mixed_size_are_resized_as_backbones_do(tmp_path):
    draw = np.random.default_rng(0)
    blocks = [draw.integers(0, 256, [5, 7, 3]), draw.integers(0, 256, [4, 3, 3])]
    images = [
        np.kron(blocks[0], np.ones([9, 9, 1])).astype(np.uint8),
        np.kron(blocks[1], np.ones([2, 2, 1])).astype(np.uint8),
    ]
    (tmp_path / 'ann/owl').mkdir(parents=True)
    for i, image in enumerate(images):
        PIL.Image.fromarray(image).save(tmp_path / f'ann/owl/{i}.png')
    data = by_client.load(tmp_path, test_fraction=0, image_size=(20, 24))
    assert data.x.shape == (2, 20, 24, 3) and data.x.dtype == np.uint8
    for found, image, antialias in zip(data.x, images, (True, False), strict=True):
        wanted = tf.image.resize(image, (20, 24), antialias=antialias)
        assert np.abs(found - wanted).max() < 1.5


def test_images_of_one_size_are_not_resized(tmp_path):
    save(tmp_path / 'ann/owl/1.png')
    save(tmp_path / 'ann/owl/2.png')
    data = by_client.load(tmp_path, image_size=(20, 24))
    assert data.x.shape == (2, 3, 4, 1)


def test_names_that_are_no_utf_8_can_be_printed_and_written(tmp_path):
    for client in (b'caf\xe9', b'caf\xe8', 'caf\xe9'.encode()):
        save(tmp_path / os.fsdecode(client) / os.fsdecode(b'\xff') / '1.png')
    data = by_client.load(tmp_path)
    assert data.client_ids == ('caf\\xe8', 'caf\\xe9', 'caf\xe9')
    assert data.class_names == ('\\xff',)
    sqlite.write(data, tmp_path / 'a.sqlite')
    assert sqlite.read(tmp_path / 'a.sqlite').client_ids == data.client_ids


def test_names_that_would_be_written_alike_are_refused(tmp_path, refused):
    for client in (b'caf\xe9', rb'caf\xe9'):
        save(tmp_path / os.fsdecode(client) / 'owl/1.png')
    with refused(tmp_path, r'caf\xe9', 'rename'):
        by_client.load(tmp_path)


def test_links_to_clients_are_followed_but_not_in_circles(tmp_path):
    save(tmp_path / 'elsewhere/owl/1.png', 1)
    save(tmp_path / 'data/ann/owl/1.png', 2)
    (tmp_path / 'data/bob').symlink_to('../elsewhere')
    (tmp_path / 'data/cid').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'data/ann/owl/all').symlink_to(tmp_path / 'data')
    (tmp_path / 'data/root').symlink_to('/')
    data = by_client.load(tmp_path / 'data', test_fraction=0)
    assert data.client_ids == ('ann', 'bob', 'cid')
    assert data.x[:, 0, 0, 0].tolist() == [2, 1, 1]
    (tmp_path / 'data/self').symlink_to('self')
    with pytest.raises(ValueError, match='cannot be read'):
        by_client.load(tmp_path / 'data')


def test_links_that_lead_to_each_other_end(tmp_path, refused):
    save(tmp_path / 'a/owl/1.png')
    save(tmp_path / 'b/owl/1.png')
    (tmp_path / 'a/b').symlink_to('../b')
    (tmp_path / 'b/a').symlink_to('../a')
    with refused(tmp_path, '[3, 4] levels'):
        by_client.load(tmp_path)


@pytest.mark.parametrize('factor', [1, 4])
def test_decompression_bombs_are_refused(tmp_path, refused, monkeypatch, factor):
    """A little above Pillow's limit it only warns, far above it raises an error."""
    save(tmp_path / 'ann/owl/1.png', size=(50, 50))
    monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 2000 // factor)
    with refused(tmp_path / 'ann/owl/1.png', 'more than', 'pixels'):
        by_client.load(tmp_path)


@pytest.mark.parametrize('suffix', ['.gif', '.png', '.webp', '.tiff'])
def test_images_of_several_pictures_are_refused(tmp_path, refused, suffix):
    path = tmp_path / f'ann/owl/1{suffix}'
    path.parent.mkdir(parents=True)
    frames = [PIL.Image.new('L', (4, 4), value) for value in (0, 255)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with refused(path, 'several pictures'):
        by_client.load(tmp_path)


def test_the_second_picture_of_a_photograph_is_passed_over(tmp_path):
    path = tmp_path / 'ann/owl/1.jpg'
    path.parent.mkdir(parents=True)
    frames = [PIL.Image.new('L', (8, 8), value) for value in (50, 200)]
    frames[0].save(path, format='MPO', save_all=True, append_images=frames[1:])
    data = by_client.load(tmp_path)
    assert data.x.shape == (1, 8, 8, 1) and abs(int(data.x.mean()) - 50) < 3


def test_files_that_cannot_be_read_are_refused(tmp_path, refused, monkeypatch):
    save(tmp_path / 'ann/owl/1.png')

    def deny(*args, **kwargs):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('builtins.open', deny)
    with refused(tmp_path / 'ann/owl/1.png', 'cannot be read: Permission denied'):
        by_client.load(tmp_path)


@pytest.mark.parametrize('kind', ['empty', 'no pixels', 'pipe', 'broken link'])
def test_files_that_are_no_images_are_refused(tmp_path, refused, kind):
    path = tmp_path / 'ann/owl/1.pgm'
    path.parent.mkdir(parents=True)
    if kind == 'pipe':
        os.mkfifo(path)
    elif kind == 'broken link':
        path.symlink_to('nowhere')
    else:
        path.write_bytes(b'' if kind == 'empty' else b'P5 0 0 255\n')
    with refused(path):
        by_client.load(tmp_path)


def test_every_changed_byte_of_a_png_is_noticed(tmp_path, refused):
    """Its checksums are read, which Pillow leaves out; its end mark has no content."""
    path = tmp_path / 'ann/owl/1.png'
    save(path, 5)
    content = path.read_bytes()
    for place in range(len(content) - 12):
        changed = bytearray(content)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        with refused(path):
            by_client.load(tmp_path)
