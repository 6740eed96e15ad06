import numpy as np
import PIL.Image
import pytest

from tff_transfer.data import by_client


def load(tmp_path, text, **options):
    path = tmp_path / 'a.csv'
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return by_client.load(path, test_fraction=0, **options)


PIXELS = 'client,label,' + ','.join(f'pixel{i}' for i in range(4))


def test_pixel_columns_are_a_square_image(tmp_path):
    data = load(tmp_path, PIXELS + '\n10,2,1,2,3,255\n9,0,5,6,7,8\n\n10,1,0,0,0,0\n')
    assert data.client_ids == ('9', '10') and data.name == 'a.csv'
    assert data.x.dtype == np.uint8 and data.x.shape == (3, 2, 2, 1)
    assert data.x[:2, ..., 0].tolist() == [[[5, 6], [7, 8]], [[1, 2], [3, 255]]]
    assert data.y.tolist() == [0, 2, 1]


def test_colours_stand_together_in_pixel_columns(tmp_path):
    header = 'writer,y,' + ','.join(f'{i // 3}x{i}' for i in range(12))
    data = load(tmp_path, header + '\na,0,' + ','.join(map(str, range(12))))
    np.testing.assert_array_equal(data.x[0], np.arange(12).reshape(2, 2, 3))


def test_pixels_may_be_floats_and_files_have_a_mark(tmp_path):
    data = load(tmp_path, '\ufeff' + PIXELS + '\r\na,x,0,0.5,1,0.25\r\n')
    assert data.x.dtype == np.float32
    assert data.x.ravel().tolist() == [0, 0.5, 1, 0.25]
    assert data.class_names == ('x',)


def test_other_numbers_are_a_vector(tmp_path):
    data = load(tmp_path, 'age,site,label,height\n3,a,0,-1.5\n"4",b,1,2e3\n')
    assert data.x.tolist() == [[3, -1.5], [4, 2000]] and data.client_ids == ('a', 'b')


def test_labels_that_are_text_and_the_file_s_own_split(tmp_path):
    data = load(
        tmp_path,
        'split,client,label,v,w\ntest,007,owl,1,1\ntrain,8,"cat, big",2,2\n'
        'train,007,owl,3,3\n',
    )
    assert data.client_ids == ('007', '8')
    assert data.class_names == ('cat, big', 'owl')
    assert data.x[:, 0].tolist() == [3, 1, 2] and data.y.tolist() == [1, 1, 0]
    assert data.num_test.tolist() == [1, 0]


def test_a_column_of_image_paths(tmp_path):
    (tmp_path / 'sub').mkdir()
    PIL.Image.fromarray(np.full([3, 5], 7, np.uint8)).save(tmp_path / 'sub/a.png')
    PIL.Image.fromarray(np.full([3, 5, 3], 9, np.uint8)).save(tmp_path / 'b.png')
    data = load(tmp_path, 'user,label,path\nu,0,sub/a.png\nv,1,b.png\n')
    assert data.x.shape == (2, 3, 5, 3) and data.x[:, 0, 0].tolist() == [
        [7] * 3,
        [9] * 3,
    ]


def test_columns_can_be_named(tmp_path):
    PIL.Image.new('L', (2, 2)).save(tmp_path / 'a.png')
    data = load(
        tmp_path,
        'label,who,what,where\nno,a,1,a.png\n',
        image_key='where',
        label_key='what',
        client_key='who',
    )
    assert data.client_ids == ('a',)
    assert data.y.tolist() == [0] and data.class_names == ('1',)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('', ['is empty', 'header']),
        ('a,b\n1,2\n', ['label', 'no column', 'label_key']),
        ('label,v\n1,2\n', ['client', 'client_key', 'partition']),
        ('client,label,y,v\n1,2,3,4\n', ['label', '2 column']),
        ('client,label,v\n', ['no examples']),
        ('client,label\n1,2\n', ['no column of image paths']),
        ('client,label,v\n1,2,3\n1,2\n', ['line 3', '2 cells', 'header has 3']),
        ('client,label,v\n1,2,3,4\n', ['line 2', '4 cells']),
        ('client,label,v\n1,,3\n', ['example 1', 'no label']),
        ('client,label,v\n1,1,3\n,1,3\n', ['example 2', 'no client']),
        ('client,label,v\n1,-1,3\n', ['-1']),
        ('client,label,v\n1,0.5,3\n', ['0.5']),
        ('client,label,v\n1,nan,3\n', ['nan']),
        ('client,label,v,w\n1,1,3,\n', ['a number', 'image_key']),
        ('client,label,v,w\n1,1,3,date\n', ['a number', 'date']),
        ('client,label,v,w\n1,1,3,nan\n', ['NaN']),
        (PIXELS + '\n1,1,0,0,nan,0\n', ['NaN']),
        (PIXELS + '\n1,1,0,0,256,0\n', ['[0, 255]']),
        (PIXELS + '\n1,1,0,-1,0,0\n', ['[-1, 0]']),
        (PIXELS + '\n1,1,0,0,0.5,9\n', ['[0, 1]']),
        (PIXELS + ',px5\n1,1,0,0,0,0,0\n', ['5 pixel columns']),
        ('client,label,path\n1,1,absent.png\n', ['absent.png', 'no such image']),
        ('client,label,path\n1,1,a.csv\n', ['a.csv', 'no image']),
        ('client,label,split,v\n1,1,val,3\n', ["'val'", 'train and test']),
        (b'client,label,v\n1,1,\xff\n', ['UTF-8']),
        (b'client,label,v\n1,1,\x00\n', ['a.csv']),
    ],
)
def test_bad_files_are_refused(tmp_path, refused, text, words):
    with refused('a.csv' if 'absent.png' not in words else '', *words):
        load(tmp_path, text)


def test_a_column_that_is_not_there_is_refused(tmp_path, refused):
    with refused(tmp_path / 'a.csv', 'image_key'):
        load(tmp_path, 'client,label,v\n1,1,1\n', image_key='file')
