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
    header = 'writer,y,' + ','.join(f'pixel{i}' for i in range(12))
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
        (PIXELS + ',px4\n1,1,0,0,0,0,0\n', ['5 pixel columns']),
        (PIXELS + ',px5\n1,1,0,0,0,0,0\n', ['no column of pixel 4', 'px5']),
        (PIXELS + ',px3\n1,1,0,0,0,0,0\n', ['pixel3', 'px3', 'same pixel']),
        (PIXELS + ',1x1\n1,1,0,0,0,0,0\n', ['two ways', '1x1']),
        ('client,label,px2,px3\n1,1,0,0\n', ['no column of pixel 1']),
        ('client,label,1x1,1x2,2x2\n1,1,0,0,0\n', ['no column of pixel 2x1']),
        (f'client,label,px{"9" * 5000}\n1,1,x\n', ['should be a number']),
        ('client,label,path\n1,1,absent.png\n', ['absent.png', 'no such image']),
        ('client,label,path\n1,1,a.csv\n', ['a.csv', 'no image']),
        ('client,label,split,v\n1,1,dev,3\n', ["'dev'", 'validation']),
        ('split,client,label,split\n1,1,1,3\n', ['2 column', 'split', 'keep one']),
        (b'client,label,v\n1,1,\xff\n', ['UTF-8']),
        ('client,label,v\nM\xfcller,1,1\n'.encode('latin-1'), ['UTF-8']),
        ('client,label,v\n1,1,1\n'.encode('utf-16'), ['UTF-8']),
        (b'client,label,v\n1,1,\x00\n', ['line 2', 'NUL']),
        (b'client,label,v\na\x00,1,1\na,1,1\n', ['line 2', 'NUL']),
        ('\n \r\n', ['is empty']),
        ('client;label;v\na;0;1,5\n', ["'1,5'", "column 'v'", 'with a point']),
        ('client,label,v\na,0,1_000\n', ["'1_000'", 'number']),
        ('client,label,v\na,0,1\nb,"0,2\nc,0,3\n', ['CSV', 'unexpected end']),
        ('v,client,label\n1,a,x\n2,b,"y\n3,c,z\n', ['CSV', 'unexpected end']),
        (f'client,label,v\na,0,{"1" * 200_000}\n', ['field larger']),
        (f'client,label,v\n{"a" * 2000},0,1\n', ['client', '2000 characters']),
        ('client,label,v\na,0,1\n a ,0,1\n', ["'a'", "' a '", 'spaces']),
        ('client,label,v,\na,0,1,0.5\n', ['column 4', 'no name', 'index=False']),
        ('Unnamed: 0,client,label,v\n3,a,0,1\n3,b,0,1\n', ['column 1', 'no name']),
    ],
)
def test_bad_files_are_refused(tmp_path, refused, text, words):
    with refused('a.csv' if 'absent.png' not in words else '', *words):
        load(tmp_path, text)


def test_a_column_that_is_not_there_is_refused(tmp_path, refused):
    with refused(tmp_path / 'a.csv', 'image_key'):
        load(tmp_path, 'client,label,v\n1,1,1\n', image_key='file')


@pytest.mark.parametrize('name', ['', 'Unnamed: 0', 'Unnamed: 0.1'])
@pytest.mark.parametrize('rows', [(0, 1, 2), (1, 2, 3), (17, 3, 5), ('', '', '')])
def test_a_column_that_numbers_the_rows_is_no_feature(tmp_path, name, rows):
    lines = [f'{row},{c},{c % 2},{c + 0.5}' for c, row in enumerate(rows)]
    data = load(tmp_path, '\n'.join([f'{name},client,label,v', *lines]))
    assert data.x.tolist() == [[0.5], [1.5], [2.5]]


def test_pixels_are_put_in_the_order_of_their_numbers(tmp_path):
    numbers = sorted(range(16), key=str)  # 0, 1, 10, 11, ..., 2, 3
    header = ','.join(f'pixel{i}' for i in numbers)
    cells = ','.join(str(2 * i) for i in numbers)
    data = load(tmp_path, f'{header},client,label\n{cells},a,0\n')
    np.testing.assert_array_equal(data.x[0, ..., 0], 2 * np.arange(16).reshape(4, 4))


def test_pixels_are_put_in_the_order_of_rows_and_columns(tmp_path):
    places = sorted(f'{r}x{c}' for r in range(1, 3) for c in range(1, 13))
    assert places[1] == '1x10'
    cells = [str(20 * int(p.split('x')[0]) + int(p.split('x')[1])) for p in places]
    text = f'label,{",".join(places)},client\n0,{",".join(cells)},a\n'
    data = load(tmp_path, text)
    expected = [[21 + c for c in range(12)], [41 + c for c in range(12)]]
    assert data.x[0, ..., 0].tolist() == expected


@pytest.mark.parametrize('separator', [';', '\t', '|'])
def test_other_separators(tmp_path, separator):
    text = 'label,client,size (cm, or so),w\n0,"a,;\t|b",1.5,2\n'
    for old, new in (('(cm, or so)', '(cm~ or so)'), ('a,;', 'a~;')):
        text = text.replace(old, new)
    text = text.replace(',', separator).replace('~', ',')
    data = load(tmp_path, text)
    assert data.client_ids == ('a,;\t|b',) and data.x.tolist() == [[1.5, 2]]


def test_tsv_files(tmp_path):
    (tmp_path / 'a.TSV').write_text('client\tlabel\tv\na b\t0\t1.5\n')
    data = by_client.load(tmp_path / 'a.TSV')
    assert data.client_ids == ('a b',) and data.x.tolist() == [[1.5]]


def test_blank_lines_are_passed_over(tmp_path):
    data = load(tmp_path, '\n  \r\n,,\nclient,label,v\n\na,0,1\n,,\n')
    assert data.client_ids == ('a',)


def test_client_ids_that_look_alike_stay_apart(tmp_path):
    text = 'client,label,v\n1,0,1\n01,1,2\n1.0,0,3\n1,1,4\n'
    data = load(tmp_path, text)
    assert data.client_ids == ('01', '1', '1.0')
    assert data.num_train.tolist() == [1, 2, 1]
    long = '99999999999999999999'
    data = load(tmp_path, f'client,label,v\n{long},0,1\n{long[1:]},1,2\n')
    assert data.client_ids == (long[1:], long)


def test_spaces_around_all_cells_are_no_part_of_ids(tmp_path):
    data = load(tmp_path, 'client, label, v\nann , 0, 1\n bob, 1, 2\n')
    assert data.client_ids == ('ann', 'bob')


def test_quoted_cells_may_hold_lines(tmp_path):
    data = load(tmp_path, '"client","label","v"\r\n"a\nb",0,"1"\r\nc,1,2\r\n')
    assert data.client_ids == ('a\nb', 'c') and data.x.tolist() == [[1], [2]]


def test_examples_for_validation_are_trained_on(tmp_path):
    text = 'client,label,v,split\na,0,1,Train\na,1,2,val\na,0,3,validation\n'
    data = load(tmp_path, text + 'a,1,4,test\n')
    assert data.num_train.tolist() == [3] and data.num_test.tolist() == [1]
    assert data.x.ravel().tolist() == [1, 2, 3, 4]
    (tmp_path / 'a.csv').write_text(text)
    drawn = by_client.load(tmp_path / 'a.csv', test_fraction=0.34)
    assert drawn.num_test.tolist() == [1]


def test_images_of_mixed_size_are_brought_to_one(tmp_path):
    PIL.Image.new('L', (4, 4), 7).save(tmp_path / 'a.png')
    PIL.Image.new('L', (8, 2), 9).save(tmp_path / 'b.png')
    text = 'user,label,path\nu,0,a.png\nv,1,b.png\n'
    data = load(tmp_path, text, image_size=(3, 5))
    assert data.x.shape == (2, 3, 5, 1)
    assert data.x[:, 1, 1, 0].tolist() == [7, 9]
