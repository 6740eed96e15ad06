import dataclasses

import numpy as np
import pytest

from tff_transfer.data import strokes, synthetic_writers
from tff_transfer.errors import UserError

STEADY = synthetic_writers.Variety(*[(0.0, 0.0)] * 7, specks=0.0)


@pytest.fixture(scope='module')
def population():
    return synthetic_writers.generate(6, 124, seed=3)


def test_is_grouped_by_writer_with_even_labels(population):
    assert len(population) == 6
    assert population.x.shape == (6 * 124, 28, 28, 1)
    assert population.x.dtype == np.uint8
    assert population.num_test.tolist() == [12] * 6
    assert population.num_train.tolist() == [112] * 6
    counts = np.bincount(population.y, minlength=62)
    assert counts.tolist() == [12] * 62
    assert ''.join(population.class_names) == (
        '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
    )


def test_a_writer_is_a_function_of_seed_and_number(population):
    fewer = synthetic_writers.generate(2, 124, seed=3)
    assert np.array_equal(fewer.x, population.x[: 2 * 124])
    assert np.array_equal(fewer.y, population.y[: 2 * 124])
    other = synthetic_writers.generate(2, 124, seed=4)
    assert not np.array_equal(fewer.x, other.x)
    again = synthetic_writers.draw_writer(3, 1, fewer.y[124:])
    assert np.array_equal(again, fewer.x[124:])


def test_digits_alone():
    data = synthetic_writers.generate(2, 25, seed=0, classes=10, test_fraction=0)
    assert data.num_classes == 10
    assert data.num_test.tolist() == [0, 0]
    assert set(data.y) == set(range(10))


def test_pictures_are_framed_as_mnist_frames_them(population):
    ink = population.x[..., 0].astype(float)
    assert (ink.max((1, 2)) == 255).mean() > 0.95
    rows, columns = (ink > 100).any(2), (ink > 100).any(1)
    longer = np.maximum(rows.sum(1), columns.sum(1))
    assert 18 <= np.median(longer) <= 20.5
    place = np.arange(28)
    mass = ink.sum((1, 2))
    for axis in (1, 2):
        middle = (ink.sum(3 - axis) * place).sum(1) / mass
        assert abs(np.median(middle) - 13.5) < 0.3
        assert np.mean(abs(middle - 13.5) < 1.5) > 0.9
    edge = np.concatenate([ink[:, 0], ink[:, -1], ink[:, :, 0], ink[:, :, -1]], 1)
    assert np.mean(edge.max(1) > 0) < 0.1
    grey = (ink > 0) & (ink < 255)
    assert 0.2 < grey.sum() / (ink > 0).sum() < 0.7


def test_writers_differ_more_than_their_own_examples():
    writers, times = 12, 12
    x = np.stack(
        [
            synthetic_writers.draw_writer(0, writer, [3] * times).reshape(times, -1)
            for writer in range(writers)
        ]
    ).astype(float)
    within = x.var(1).mean()
    between = x.mean(1).var(0).mean() - within / times
    assert between > 0.5 * within > 0


def test_a_straight_line_has_the_width_of_the_pen():
    # A bare stroke without any variety is a vertical bar of 2 * 1.15 pixels.
    x = synthetic_writers.draw_writer(0, 0, [1] * 200, STEADY)[..., 0] / 255.0
    middle = x[:, 12:16].sum(2).mean(1)
    assert np.median(middle) == pytest.approx(2.3, abs=0.1)
    assert (x.any(2).sum(1) >= 18).all()


def test_specks_are_dots_of_ink_elsewhere():
    labels = [1] * 200
    clean = synthetic_writers.draw_writer(0, 0, labels, STEADY).astype(int)
    speckled = dataclasses.replace(STEADY, specks=1.0)
    speckled = synthetic_writers.draw_writer(0, 0, labels, speckled).astype(int)
    more = (speckled > clean + 100).any((1, 2, 3))
    assert more.mean() > 0.7  # The rest fell on the stroke.


def test_every_character_has_a_hand_or_font_form():
    forms = strokes.skeletons()
    assert set(forms.character) == set(range(62))
    assert set(forms.character[forms.by_hand]) >= set(range(10))
    extent = np.ptp(forms.points, axis=1).max(1)
    assert np.allclose(extent, 1, atol=1e-5)
    assert np.allclose(forms.points.max(1) + forms.points.min(1), 0, atol=1e-5)
    # Strokes are runs of neighbouring points.
    place = np.arange(strokes.POINTS)
    assert (forms.first <= place).all() and (place <= forms.last).all()
    assert (np.diff(forms.stroke, axis=1) >= 0).all()


def test_digits_can_be_told_apart_across_writers():
    # Nearest mean picture: 10 % is chance, and ragged shapes would not get far.
    train = synthetic_writers.generate(40, 30, seed=0, classes=10)
    test = synthetic_writers.generate(20, 30, seed=1, classes=10)
    means = np.stack([train.x[train.y == c].mean(0).ravel() for c in range(10)])
    flat = test.x.reshape(len(test.x), -1).astype(float)
    nearest = ((flat[:, None] - means) ** 2).sum(2).argmin(1)
    assert np.mean(nearest == test.y) > 0.6


@pytest.mark.parametrize(
    'arguments, message',
    [
        ({'num_writers': 0}, 'num_writers is 0'),
        ({'examples_per_writer': 0}, 'examples_per_writer is 0'),
        ({'classes': 36}, 'classes is 36'),
        ({'seed': -1}, 'seed is -1'),
        ({'test_fraction': 1.0}, 'test_fraction is 1.0'),
    ],
)
def test_bad_numbers_are_one_line(arguments, message):
    good = {'num_writers': 1, 'examples_per_writer': 2, 'seed': 0}
    with pytest.raises(UserError, match=message) as error:
        synthetic_writers.generate(**good | arguments)
    assert '\n' not in str(error.value)
