"""Each attack beside NumPy written from its paper, on small vectors."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tff_transfer.attacks import attackers
from tff_transfer.attacks.alie import ALIE, z_max
from tff_transfer.attacks.backdoor import Backdoor
from tff_transfer.attacks.gaussian_noise import GaussianNoise
from tff_transfer.attacks.ipm import IPM
from tff_transfer.attacks.label_flip import LabelFlip
from tff_transfer.attacks.min_max import MinMax
from tff_transfer.attacks.sign_flip import SignFlip
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

HONEST = np.random.default_rng(0).normal(0.3, [1, 2, 0.5, 3], size=(7, 4))


def images(dtype=np.uint8, clients=3, train=10, test=2, classes=4):
    draw = np.random.default_rng(1)
    n = clients * (train + test)
    x = draw.integers(0, 256, size=(n, 6, 5, 1))
    return FederatedData(
        'toy',
        x.astype(np.uint8) if dtype == np.uint8 else (x / 255).astype(np.float32),
        draw.integers(0, classes, n).astype(np.int32),
        tuple(f'client {i}' for i in range(clients)),
        np.full(clients, train),
        np.full(clients, test),
        classes,
    )


def forged(attack, honest=HONEST, hostile=2):
    return attack.forged(tf.constant(honest, tf.float32), tf.constant(hostile)).numpy()


@pytest.mark.parametrize(
    ('n', 'm', 'share'),
    # By hand: s = floor(n/2 + 1) - m, and the share is (n - m - s) / (n - m).
    [(50, 12, 24 / 38), (51, 10, 25 / 41), (10, 4, 4 / 6), (20, 1, 9 / 19)],
)
def test_z_of_a_little_is_enough_is_the_quantile_of_the_paper(n, m, share):
    found = float(z_max(tf.constant(n - m), tf.constant(m)))
    assert found == pytest.approx(scipy.stats.norm.ppf(share), abs=1e-5)


def test_z_is_finite_where_hostile_clients_are_a_majority():
    assert float(z_max(tf.constant(2), tf.constant(8))) == pytest.approx(
        scipy.stats.norm.ppf(0.75), abs=1e-5
    )
    assert float(z_max(tf.constant(1), tf.constant(3))) == pytest.approx(0, abs=1e-6)


def test_a_little_is_enough_leaves_the_mean_by_z_deviations():
    z = scipy.stats.norm.ppf((9 - 2 - 3) / (9 - 2))  # s = 5 - 2.
    expected = HONEST.mean(axis=0) - z * HONEST.std(axis=0)
    np.testing.assert_allclose(forged(ALIE()), expected, rtol=1e-5, atol=1e-6)
    expected = HONEST.mean(axis=0) - 1.5 * HONEST.std(axis=0)
    np.testing.assert_allclose(forged(ALIE(z=1.5)), expected, rtol=1e-5, atol=1e-6)


def test_inner_product_manipulation_is_the_opposite_of_the_mean():
    expected = -0.1 * HONEST.mean(axis=0)
    np.testing.assert_allclose(forged(IPM(epsilon=0.1)), expected, rtol=1e-5)


def by_halving(honest, towards):
    """Returns the vector of Shejwalkar and Houmansadr's algorithm 1."""
    mean = honest.mean(axis=0)
    most = max(np.linalg.norm(a - b) for a in honest for b in honest)
    gamma, step, found = 50.0, 50.0, 0.0
    while abs(found - gamma) > 1e-7:
        if max(np.linalg.norm(mean + gamma * towards - a) for a in honest) <= most:
            found, gamma = gamma, gamma + step / 2
        else:
            gamma -= step / 2
        step /= 2
    return mean + found * towards, most


@pytest.mark.parametrize('name', ['std', 'unit', 'sign'])
def test_min_max_is_as_far_as_the_honest_are_from_each_other(name):
    mean = HONEST.mean(axis=0)
    towards = {
        'std': -HONEST.std(axis=0),
        'unit': -mean / np.linalg.norm(mean),
        'sign': -np.sign(mean),
    }[name]
    expected, most = by_halving(HONEST, towards)
    found = forged(MinMax(perturbation=name))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    distances = np.linalg.norm(HONEST - found, axis=1)
    assert distances.max() == pytest.approx(most, rel=1e-5)


def test_min_max_of_clients_who_agree_is_what_they_agree_on():
    same = np.tile(HONEST[:1], (3, 1))
    np.testing.assert_allclose(forged(MinMax(), same), same[0], rtol=1e-6)


def test_what_is_made_of_the_own_update():
    own, key = tf.constant([1.0, -2.0]), tf.constant([3, 4])
    np.testing.assert_array_equal(SignFlip(scale=3.0).sent(own, key), [-3, 6])
    np.testing.assert_array_equal(Backdoor(scale=2.0).sent(own, key), [2, -4])


def test_noise_has_its_deviation_and_hangs_on_the_key():
    attack, own = GaussianNoise(deviation=2.0), tf.zeros([20_000])
    found = attack.sent(own, tf.constant([3, 4])).numpy()
    assert scipy.stats.kstest(found / 2, 'norm').pvalue > 0.01
    np.testing.assert_array_equal(attack.sent(own, tf.constant([3, 4])), found)
    assert (attack.sent(own, tf.constant([3, 5])).numpy() != found).any()


def test_labels_of_hostile_clients_alone_are_flipped_and_of_no_test_example():
    data = images()
    found = LabelFlip().poisoned(data, np.array([0, 2]), seed=0)
    own = np.zeros(36, bool)
    own[:10] = own[24:34] = True  # The training rows of clients 0 and 2.
    np.testing.assert_array_equal(found.y, np.where(own, 3 - data.y, data.y))
    one = LabelFlip(source=1, target=2).poisoned(data, np.array([0, 2]), seed=0)
    expected = [
        2 if mine and y == 1 else y for mine, y in zip(own, data.y, strict=True)
    ]
    np.testing.assert_array_equal(one.y, expected)
    assert (one.y != data.y).any()


@pytest.mark.parametrize(
    ('attack', 'words'),
    [
        (LabelFlip(source=1), 'give both, or neither'),
        (LabelFlip(source=1, target=4), 'has class 4, but toy has 4 classes'),
        (Backdoor(target=4), '--backdoor.target=4, but toy has 4 classes'),
        (Backdoor(size=6), '--backdoor.size=6 is more than the images of toy have'),
    ],
)
def test_classes_and_sizes_that_are_not_there_are_refused(attack, words):
    with pytest.raises(UserError, match=words):
        attack.poisoned(images(), np.array([0]), seed=0)


@pytest.mark.parametrize(('dtype', 'most'), [(np.uint8, 255), (np.float32, 1)])
def test_the_trigger_is_a_chequerboard_in_the_lower_right_corner(dtype, most):
    data = images(dtype)
    before = data.x.copy()
    found = Backdoor(size=3).stamped(data.x)
    for image, original in zip(found[..., 0], data.x[..., 0], strict=True):
        board = most * np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]])
        np.testing.assert_array_equal(image[3:, 2:], board)
        np.testing.assert_array_equal(image[:3], original[:3])
        np.testing.assert_array_equal(image[:, :2], original[:, :2])
    np.testing.assert_array_equal(data.x, before)
    assert Backdoor(size=2).stamped(data.x)[0, -1, -1, 0] == most


def test_a_share_of_hostile_clients_images_are_triggers():
    data, attack = images(), Backdoor(target=3, fraction=0.4, size=2)
    found = attack.poisoned(data, np.array([1]), seed=0)
    x = found.x[:]
    changed = np.flatnonzero((x != data.x).any(axis=(1, 2, 3)))
    assert len(changed) == 4
    assert set(changed) <= set(range(12, 22))  # Client 1's training rows.
    np.testing.assert_array_equal(x[changed], attack.stamped(data.x[changed]))
    assert (found.y[changed] == 3).all()
    rest = np.setdiff1d(np.arange(36), changed)
    np.testing.assert_array_equal(found.y[rest], data.y[rest])
    other = attack.poisoned(data, np.array([1]), seed=1)
    assert list(other.x.rows) != list(found.x.rows)


def test_as_many_are_hostile_as_asked_and_more_of_a_larger_share():
    clients = np.arange(10, 50)
    few, many = (attackers.hostile(clients, share, seed=3) for share in (0.1, 0.3))
    assert (len(few), len(many)) == (4, 12)
    assert set(few) < set(many) < set(clients)
    assert list(attackers.hostile(clients, 0.1, seed=4)) != list(few)
    # Without some, the same of the others are first.
    rest = np.setdiff1d(clients, few)
    assert set(many) - set(few) <= set(attackers.hostile(rest, 0.3, seed=3))
    assert not len(attackers.hostile(clients, 0.0, seed=3))


def test_draws_of_a_client_hang_on_seed_round_and_client():
    found = attackers.keys(np.array([5, 1, 2]), seed=3, round_number=4)
    alone = attackers.keys(np.array([2]), seed=3, round_number=4)
    np.testing.assert_array_equal(alone[0], found[2])
    assert len(np.unique(found, axis=0)) == 3
    for other in ({'seed': 4, 'round_number': 4}, {'seed': 3, 'round_number': 5}):
        assert (attackers.keys(np.array([2]), **other) != alone).any()
    assert attackers.keys(np.zeros(0, int), seed=3, round_number=4).shape == (0, 2)
