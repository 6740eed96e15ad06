"""The rows of a run on disk."""

import pytest
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.records.metrics import Records, read

COLUMNS = ('round', 'train/loss', 'seen/accuracy')


def _events(folder):
    found = []
    for path in folder.iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found += [
                (event.step, value.tag, float(tf.make_ndarray(value.tensor)))
                for value in event.summary.value
            ]
    return found


def test_rows_are_on_disk_as_they_are_added(tmp_path):
    records = Records(tmp_path, COLUMNS, up_to_round=-1)
    records.append({'round': 0, 'seen/accuracy': 0.1})
    records.append({'round': 1, 'train/loss': 1 / 3})
    text = (tmp_path / 'metrics.csv').read_text()
    assert text == ('round,train/loss,seen/accuracy\n0,,0.1\n1,0.3333333333333333,\n')
    assert read(tmp_path / 'metrics.csv') == [
        {'round': 0, 'train/loss': None, 'seen/accuracy': 0.1},
        {'round': 1, 'train/loss': 1 / 3, 'seen/accuracy': None},
    ]
    records.close()
    third = float(tf.constant(1 / 3))
    tenth = float(tf.constant(0.1))
    assert _events(tmp_path / 'tensorboard') == [
        (0, 'seen/accuracy', tenth),
        (1, 'train/loss', third),
    ]


def test_later_rows_and_a_torn_one_are_made_again(tmp_path):
    records = Records(tmp_path, COLUMNS, up_to_round=-1)
    for number in range(4):
        row = {'round': number, 'train/loss': float(number), 'seen/accuracy': 7}
        records.append(row)
    records.close()
    with open(tmp_path / 'metrics.csv', 'a') as file:
        file.write('4,0.')
    before = (tmp_path / 'metrics.csv').read_text().splitlines()
    again = Records(tmp_path, COLUMNS, up_to_round=2)
    assert (tmp_path / 'metrics.csv').read_text().splitlines() == before[:4]
    assert [row['round'] for row in again.rows] == [0, 1, 2]
    again.append({'round': 3, 'train/loss': 9.0})
    again.close()
    rounds = [(r['round'], r['train/loss']) for r in read(tmp_path / 'metrics.csv')]
    assert rounds == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 9.0)]
    assert len(_events(tmp_path / 'tensorboard')) == 7


@pytest.mark.parametrize(
    ('text', 'part'),
    [
        ('0,1,2\n1,2\n', 'round 1'),
        ('0,1,2\n1,2,3,4\n', 'round 1'),
        ('0,1,2\n0,1,2\n', 'round 1.*round 0 stands there'),
        ('0,1,2\n2,1,2\n', 'round 1.*round 2 stands there'),
        ('1,1,2\n', 'round 0'),
        (',1,2\n', 'round 0'),
        ('0,x,2\n', "round 0.*'x'"),
        ('0,1,"2\n1,2,3\n', 'round'),
        ('0,\xff,2\n', 'round 0'),
    ],
)
def test_rows_that_are_damaged_are_one_line(tmp_path, text, part):
    path = tmp_path / 'metrics.csv'
    path.write_text(','.join(COLUMNS) + '\n' + text)
    with pytest.raises(UserError, match=f'metrics.csv is damaged in the row of {part}'):
        read(path)


def test_what_is_no_file_of_rows_is_one_line_and_left_alone(tmp_path):
    path = tmp_path / 'metrics.csv'
    for content in (b'', b'a,b\n1,2\n', bytes(range(256)), b'round,train/loss\n0,1\n'):
        path.write_bytes(content)
        with pytest.raises(UserError, match='other columns.*choose another'):
            Records(tmp_path, COLUMNS, up_to_round=-1)
        assert path.read_bytes() == content
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match='metrics.csv cannot be read'):
        read(path)


def test_events_of_others_stay(tmp_path):
    for name in ('events.out.tfevents.1.old', 'notes.txt'):
        (tmp_path / 'tensorboard').mkdir(exist_ok=True)
        (tmp_path / 'tensorboard' / name).write_text('x')
    Records(tmp_path, COLUMNS, up_to_round=-1).close()
    names = {path.name for path in (tmp_path / 'tensorboard').iterdir()}
    assert 'notes.txt' in names and 'events.out.tfevents.1.old' not in names


def test_without_a_directory_rows_are_in_memory():
    records = Records(None, COLUMNS, up_to_round=-1)
    records.append({'round': 0})
    records.close()
    assert records.rows == [{'round': 0, 'train/loss': None, 'seen/accuracy': None}]
