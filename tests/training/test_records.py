"""The rows of a run on disk."""

import tensorflow as tf

from tff_transfer.training.records import Records, read

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


def test_without_a_directory_rows_are_in_memory():
    records = Records(None, COLUMNS, up_to_round=-1)
    records.append({'round': 0})
    records.close()
    assert records.rows == [{'round': 0, 'train/loss': None, 'seen/accuracy': None}]
