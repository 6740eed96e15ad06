"""Changes of images by hand, and draws that hang on keys alone."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.data.augmentation import Augmentation, change
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.data.federated import FederatedData

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (4, 5, 6, 3)).astype(np.uint8)
KEYS = DRAW.integers(0, 2**31 - 1, (4, 2)).astype(np.int32)


def changed(images, **changes):
    given = dict(down=0, right=0, degrees=0, lighter=0) | changes
    mirrored = given.pop('mirrored', False)
    tensors = {n: tf.fill([len(images)], float(v)) for n, v in given.items()}
    mirrored = tf.fill([len(images)], mirrored)
    return change(tf.constant(images), **tensors, mirrored=mirrored).numpy()


def test_whole_pixels_and_the_edge_goes_on():
    found = changed(IMAGES, down=2, right=-1)
    np.testing.assert_array_equal(found[:, 2:, :-1], IMAGES[:, :-2, 1:])
    np.testing.assert_array_equal(found[:, 0, :-1], IMAGES[:, 0, 1:])
    np.testing.assert_array_equal(found[:, 2:, -1], IMAGES[:, :-2, -1])


def test_mirrored():
    np.testing.assert_array_equal(changed(IMAGES, mirrored=True), IMAGES[:, :, ::-1])
    found = changed(IMAGES, mirrored=True, right=2)
    np.testing.assert_array_equal(found[:, :, 2:], IMAGES[:, :, :1:-1])


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_quarter_turns(turns):
    square = IMAGES[:, :5, :5]
    found = changed(square, degrees=90 * turns)
    np.testing.assert_array_equal(found, np.rot90(square, turns, axes=(1, 2)))


def test_half_pixels_are_means():
    floats = (IMAGES / 255).astype(np.float32)
    found = changed(floats, right=0.5)
    expected = (floats[:, :, 1:] + floats[:, :, :-1]) / 2
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, :, 1:], expected, atol=1e-6)


def test_brightness_stays_in_range():
    found = changed(IMAGES, lighter=0.4)
    np.testing.assert_array_equal(found, np.minimum(IMAGES.astype(int) + 102, 255))
    found = changed(IMAGES, lighter=-0.4)
    np.testing.assert_array_equal(found, np.maximum(IMAGES.astype(int) - 102, 0))
    floats = np.array([0, 0.5, 1], np.float32).reshape(1, 1, 3, 1)
    np.testing.assert_allclose(
        changed(floats, lighter=0.25).ravel(), [0.25, 0.75, 1], rtol=1e-6
    )


ALL = Augmentation(0.2, 20, 0.3, True)


def test_an_image_hangs_on_its_own_key():
    together = ALL(IMAGES, KEYS)
    assert together.dtype == np.uint8 and together.shape == IMAGES.shape
    for number in range(4):
        one = slice(number, number + 1)
        np.testing.assert_array_equal(ALL(IMAGES[one], KEYS[one]), together[one])
    same = ALL(np.repeat(IMAGES[:1], 4, 0), KEYS)
    assert len({image.tobytes() for image in same}) == 4
    assert ALL(IMAGES[:0], KEYS[:0]).shape == (0, 5, 6, 3)


def test_draws_fill_their_range_and_no_more():
    keys = DRAW.integers(0, 2**31 - 1, (2000, 2)).astype(np.int32)
    grey = np.full((2000, 1, 1, 1), 0.5, np.float32)
    added = Augmentation(brightness=0.2)(grey, keys).ravel() - 0.5
    assert -0.2001 < added.min() < -0.19 and 0.19 < added.max() < 0.2001
    assert abs(added.mean()) < 0.02  # Its standard deviation is 0.0026.
    ramp = np.linspace(0, 1, 11, dtype=np.float32).reshape(1, 1, 11, 1)
    ramp = np.tile(ramp, (2000, 1, 1, 1))
    middle = Augmentation(shift=0.2)(ramp, keys)[:, 0, 5, 0]
    # 0.2 of 11 pixels, of a tenth each.
    assert 0.28 - 1e-4 < middle.min() < 0.30 and 0.70 < middle.max() < 0.72 + 1e-4
    pair = np.tile(np.array([0, 1], np.float32).reshape(1, 1, 2, 1), (2000, 1, 1, 1))
    flipped = Augmentation(flip=True)(pair, keys)[:, 0, 0, 0]
    assert set(flipped) == {0, 1} and 0.45 < flipped.mean() < 0.55
    np.testing.assert_array_equal(Augmentation()(IMAGES, KEYS), IMAGES)


def test_cohorts_are_augmented_by_seed_round_and_client():
    x = DRAW.integers(0, 256, (12, 5, 5, 1)).astype(np.uint8)
    y = np.zeros(12, np.int32)
    counts = np.full(3, 4), np.zeros(3, int)
    data = FederatedData('three', x, y, tuple('abc'), *counts, 2)

    def cohort(clients, number=1, seed=0, augment=ALL):
        return training_cohort(
            data,
            clients,
            batch_size=2,
            epochs=2,
            seed=seed,
            round_number=number,
            augment=augment,
        ).examples['x']

    first = cohort([0, 2])
    np.testing.assert_array_equal(first, cohort([0, 2]))
    np.testing.assert_array_equal(first[8:], cohort([2, 1])[:8])
    keys = [cohort([0], number, seed) for number, seed in ((1, 0), (2, 0), (1, 1))]
    assert len({k.tobytes() for k in keys}) == 3
    plain = cohort([0, 2], augment=None)
    assert first.dtype == plain.dtype == np.uint8 and (first != plain).any()
    # The order of examples is the same, and an example's epochs are not alike.
    none = cohort([0, 2], augment=Augmentation())
    np.testing.assert_array_equal(none, plain)
    assert len({image.tobytes() for image in first}) == 16
