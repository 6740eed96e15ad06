import numpy as np
import PIL.Image
import pytest

from tff_transfer.data import by_client


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
    with refused(tmp_path / 'ann/owl/2.png', '5 x 3', '4 x 3'):
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
