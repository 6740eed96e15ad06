"""Grids of samples, by round, in the run directory and in TensorBoard."""

import numpy as np
import tensorflow as tf

from tff_transfer.records import samples
from tff_transfer.records.metrics import Records

COLUMNS = ('round', 'seen/loss')


def images_of_events(folder):
    """Returns the pictures that TensorBoard shows, by step."""
    found = {}
    for path in folder.iterdir():
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag == 'samples':
                    *_, encoded = tf.make_ndarray(value.tensor)
                    found[event.step] = tf.io.decode_png(encoded).numpy()
    return found


def picture(number):
    return np.full((4, 6, 3), 10 * number, np.uint8)


def test_images_stand_side_by_side_by_rows():
    images = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], np.float32)
    images = np.tile(images[:, None, None, None], (1, 2, 1, 1))
    found = samples.grid(images, columns=3)
    # Of 2 x 1 pixels, with two pixels of grey about each.
    assert found.shape == (10, 11, 1)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[2:4, [2, 5, 8], 0], [[0, 51, 102]] * 2)
    np.testing.assert_array_equal(found[6:8, [2, 5, 8], 0], [[153, 204, 255]] * 2)
    assert (found[[0, 1, 4, 5, 8, 9]] == 128).all()
    assert (found[:, [0, 1, 3, 4, 6, 7, 9, 10]] == 128).all()
    colours = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype(np.uint8)
    np.testing.assert_array_equal(samples.grid(colours, 2)[2:5, 7:10], colours[1])


def test_later_grids_are_made_again(tmp_path):
    records = Records(tmp_path, COLUMNS, up_to_round=-1)
    for number in range(4):
        shown = picture(number) if number % 2 == 0 else None
        records.append({'round': number, 'seen/loss': 1.0}, shown)
    records.close()
    assert set(images_of_events(tmp_path / 'tensorboard')) == {0, 2}
    (tmp_path / 'samples' / 'round_000007.png.orig').write_text('mine')
    again = Records(tmp_path, COLUMNS, up_to_round=1)
    assert set(again.samples) == {0}
    assert not (tmp_path / 'samples' / 'round_000002.png').exists()
    again.append({'round': 2, 'seen/loss': 1.0}, picture(5))
    again.close()
    np.testing.assert_array_equal(again.samples[2], picture(5))
    found = images_of_events(tmp_path / 'tensorboard')
    assert set(found) == {0, 2}
    np.testing.assert_array_equal(found[2], picture(5))


def test_a_grid_that_cannot_be_read_is_left_out(tmp_path):
    samples.write(tmp_path, 0, picture(0)[..., :1])
    samples.write(tmp_path, 10, picture(1))
    (tmp_path / 'samples' / 'round_000005.png').write_bytes(b'\x89PNG torn')
    found = samples.read(tmp_path, 10)
    assert sorted(found) == [0, 10]
    np.testing.assert_array_equal(found[0], picture(0)[..., :1])
    np.testing.assert_array_equal(found[10], picture(1))


def test_some_rounds_are_shown():
    assert samples.shown({}) == []
    assert samples.shown(dict.fromkeys([0, 10, 20])) == [0, 10, 20]
    assert samples.shown(dict.fromkeys(range(0, 110, 10))) == [0, 20, 40, 60, 80, 100]
