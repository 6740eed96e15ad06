import numpy as np
import pytest

from tff_transfer.data import lung_phantoms
from tff_transfer.errors import UserError

SIZES, SHARES, NUM_TEST = (10, 8), (0.75, 0.5), 4


def test_labels_are_as_balanced_as_asked_in_both_parts():
    data = lung_phantoms.generate(SIZES, SHARES, NUM_TEST, seed=3)
    assert data.x.shape == (18, 224, 224, 3) and data.x.dtype == np.uint8
    assert data.client_ids == ('hospital 1', 'hospital 2')
    assert data.num_train.tolist() == [6, 4] and data.num_test.tolist() == [4, 4]
    # Three quarters of 6 are 4.5, which round to the even 4.
    for client, (train, test) in enumerate([(4, 3), (2, 2)]):
        assert data.y[data.train_rows(client)].sum() == train
        assert data.y[data.test_rows(client)].sum() == test
    np.testing.assert_array_equal(data.x[..., 0], data.x[..., 2])


def test_a_seed_repeats_and_another_differs():
    first, again, other = (
        lung_phantoms.generate(SIZES, SHARES, NUM_TEST, seed=seed) for seed in (0, 0, 1)
    )
    assert first.content_fingerprint == again.content_fingerprint
    assert not (first.x == other.x).all(axis=(1, 2, 3)).any()
    assert len(np.unique(first.x.reshape(18, -1), axis=0)) == 18


@pytest.mark.parametrize('number', range(6))
def test_a_nodule_is_what_differs(number):
    without, found = (
        lung_phantoms.draw_slice(0, 1, number, nodule=nodule).astype(int)
        for nodule in (False, True)
    )
    added = found - without
    assert added.min() == 0
    rows, columns = np.nonzero(added)
    # One spot of 1 / e radii of 11 to 20 pixels, no further than twice that.
    assert 10 < max(np.ptp(rows), np.ptp(columns)) < 2 * 2 * 20
    # Of a height of 0.3 to 0.5, where a vessel or the scale's end does not cut it.
    assert 0.25 * 255 < added.max() <= 0.5 * 255 + 1
    # It lies in a lung: dark, unlike the body around, but for vessels.
    assert np.median(without[added > 0]) < 0.35 * 255


def test_small_slices_are_means_of_large_ones():
    sizes, shares = (3, 2), (0.5, 0.5)
    large = lung_phantoms.generate(sizes, shares, 1, seed=4)
    small = lung_phantoms.generate(sizes, shares, 1, seed=4, grey_size=56)
    assert small.x.shape == (5, 56, 56, 1) and small.x.dtype == np.uint8
    np.testing.assert_array_equal(small.y, large.y)
    means = large.x[..., 0].reshape(5, 56, 4, 56, 4).mean(axis=(2, 4))
    # It is rounded along each side.
    np.testing.assert_allclose(small.x[..., 0], means, atol=1.01)


def test_hospitals_have_unlike_shares_of_nodules():
    data = lung_phantoms.of_hospitals(3, 10, seed=1, test_fraction=0.25)
    assert data.x.shape == (30, 64, 64, 1)
    assert data.num_train.tolist() == [8] * 3 and data.num_test.tolist() == [2] * 3
    counts = [data.y[data.train_rows(client)].sum() for client in range(3)]
    assert len(set(counts)) > 1 and all(0.2 * 8 - 1 < n < 0.8 * 8 + 1 for n in counts)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (((10,), (0.5, 0.5), 2), '1 sizes and 2'),
        (((), (), 2), '0 sizes'),
        (((10, 4), (0.5, 0.5), 4), 'num_test is 4'),
        (((10,), (1.5,), 2), '1.5'),
        (((10**9,), (0.5,), 2), 'lower sizes'),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        lung_phantoms.generate(*arguments)
