"""Each scheme beside its paper, by hand or in a few lines of NumPy."""

import functools

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import tensorflow as tf

from tff_transfer.compression import registry, rotation
from tff_transfer.compression.channel import Channel
from tff_transfer.compression.drive import Drive
from tff_transfer.compression.eden import Eden, centroids
from tff_transfer.compression.ef_sign import EFSign
from tff_transfer.compression.float16 import Float16
from tff_transfer.compression.power_sgd import PowerSGD
from tff_transfer.compression.product import Product
from tff_transfer.compression.qsgd import QSGD
from tff_transfer.compression.sparse import RandomK, TopK
from tff_transfer.compression.tern_grad import TernGrad
from tff_transfer.compression.uniform import Uniform, Uniform8
from tff_transfer.errors import UserError

SHAPES = ((4, 3), (3,))
VECTOR = np.array(
    [0.3, -1.2, 0.05, 2.0, -0.4, 0.0, 0.7, -0.6, 1.1, -0.02, 0.5, -0.9, 0.2, 0.8, -1.5],
    np.float32,
)
DRAWS = 400


@functools.cache
def draws(options, vector=tuple(VECTOR), shapes=SHAPES) -> np.ndarray:
    """Returns what is decoded of many messages, [draws, d]."""
    scheme = options.build(shapes)

    @tf.function(autograph=False)
    def many():
        def one(_):
            return scheme.decode(scheme.encode(tf.constant(vector), ())[0])

        return tf.map_fn(one, tf.zeros([DRAWS]))

    tf.random.set_seed(1)
    return many().numpy().astype(np.float64)


def message_of(options, vector=VECTOR, shapes=SHAPES):
    scheme = options.build(shapes)
    made, _ = scheme.encode(tf.constant(vector), scheme.state)
    return made, scheme.decode(made).numpy()


def check_mean(found, expected, deviation):
    """Checks that means of draws are those expected, within 4.5 standard errors."""
    error = np.abs(found.mean(axis=0) - expected)
    assert np.all(error <= 4.5 * deviation / np.sqrt(len(found)) + 1e-6)


def test_nearest_levels_are_those_between_the_ends():
    _, found = message_of(Uniform(bits=2, rounding='nearest'))
    levels = np.linspace(VECTOR.min(), VECTOR.max(), 4)
    apart = np.abs(VECTOR[:, None] - levels)
    np.testing.assert_allclose(found, levels[apart.argmin(axis=1)], atol=1e-6)
    _, found = message_of(Uniform8())
    step = (VECTOR.max() - VECTOR.min()) / 255
    assert np.abs(found - VECTOR).max() <= step / 2 + 1e-6


def test_stochastic_levels_are_right_on_average():
    found = draws(Uniform(bits=2))
    step = (VECTOR.max() - VECTOR.min()) / 3
    share = (VECTOR - VECTOR.min()) / step % 1
    check_mean(found, VECTOR, step * np.sqrt(share * (1 - share)))
    assert np.abs(found - VECTOR).max() < step + 1e-6
    # And each number is at one of its two levels.
    assert np.unique(found.round(4)).size == 4


def test_rotation_is_hadamards_with_random_signs():
    seed = tf.constant([3, 4])
    rotated = rotation.rotate(tf.constant(VECTOR), seed).numpy()
    # What the transform makes of unit vectors are its columns.
    matrix = scipy.linalg.hadamard(16) / 4
    ones = [rotation.rotate(tf.eye(16)[i], seed).numpy() for i in range(16)]
    columns = np.stack(ones, axis=1)
    order = [np.flatnonzero((np.abs(columns[r]) > 0.2).all())[0] for r in range(16)]
    assert order == [0] * 16
    signs = columns[0] / matrix[0]
    np.testing.assert_allclose(np.abs(signs), 1, atol=1e-6)
    assert len(set(signs)) == 2
    np.testing.assert_allclose(
        sorted(map(tuple, (columns / signs).round(4))), sorted(map(tuple, matrix))
    )
    np.testing.assert_allclose(rotated, columns[:, :15] @ VECTOR, atol=1e-5)
    back = rotation.rotate_back(tf.constant(rotated), seed, 15)
    np.testing.assert_allclose(back, VECTOR, atol=1e-6)


def test_rotated_levels_are_right_on_average():
    found = draws(Uniform(bits=3, rotate=True))
    check_mean(found, VECTOR, found.std(axis=0))
    # One large number spoils the others' levels, unless it is spread first.
    large = tuple(np.eye(15, dtype=np.float32)[3] * 100 + VECTOR)
    plain, rotated = (
        np.mean((draws(Uniform(bits=3, rotate=r), large) - np.array(large)) ** 2)
        for r in (False, True)
    )
    assert rotated < plain


@pytest.mark.parametrize('bucket', [512, 4])
def test_qsgd_levels_are_shares_of_the_norm(bucket):
    found, most = draws(QSGD(bits=3, bucket=bucket)), 3
    norm = np.concatenate(
        [
            np.full(len(part), np.linalg.norm(part))
            for part in np.split(VECTOR, range(bucket, 15, bucket))
        ]
    )
    multiples = found / norm * most
    np.testing.assert_allclose(multiples, multiples.round(), atol=1e-4)
    share = np.abs(VECTOR) / norm * most % 1
    check_mean(found, VECTOR, norm / most * np.sqrt(share * (1 - share)))
    assert np.all((found == 0) | (np.sign(found) == np.sign(VECTOR)))


def test_top_k_are_those_of_greatest_size():
    message, found = message_of(TopK(fraction=0.2))
    assert message['places'].values.numpy().tolist() == [1, 3, 14]
    expected = np.zeros(15, np.float32)
    expected[[1, 3, 14]] = VECTOR[[1, 3, 14]]
    np.testing.assert_array_equal(found, expected)


def test_what_is_lost_is_sent_later():
    channel = Channel(TopK(fraction=0.2), [tf.TensorSpec(s) for s in SHAPES])
    random, lost, memory = np.random.default_rng(0), np.zeros(15), channel.memory
    for _ in range(5):
        update = random.normal(size=15).astype(np.float32)
        leaves = [tf.reshape(update[:12], (4, 3)), tf.constant(update[12:])]
        sent = channel.send(leaves, memory)
        memory, due = sent.memory, update + lost
        order = np.argsort(-np.abs(due))[:3]
        expected = np.where(np.isin(np.arange(15), order), due, 0)
        lost = due - expected
        found = np.concatenate([np.ravel(leaf) for leaf in sent.decoded])
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(memory[0].lost, lost, atol=1e-6)
    assert [leaf.shape for leaf in sent.decoded] == [(4, 3), (3,)]


def test_parts_of_different_scales_are_compressed_apart():
    # As SCAFFOLD sends weights and control variates.
    specs = tuple(map(tf.TensorSpec, SHAPES))
    channel = Channel(TopK(fraction=0.05), (specs, specs))
    part = (tf.reshape(VECTOR[:12], (4, 3)), tf.constant(VECTOR[12:]))
    sent = channel.send(
        (part, tf.nest.map_structure(lambda t: t / 100, part)), channel.memory
    )
    for found, scale in zip(sent.decoded, (1, 100), strict=True):
        flat = np.concatenate([np.ravel(leaf) for leaf in found])
        np.testing.assert_allclose(flat, np.eye(15)[3] * 2 / scale, rtol=1e-6)
    assert channel.packed_bytes == 2 * (1 + 4)
    assert channel.plain_bytes == 2 * 15 * 4


def test_random_numbers_are_right_on_average_without_feedback():
    found = draws(RandomK(fraction=0.2, feedback=False))
    assert np.all((found != 0).sum(axis=1) <= 3)
    factor = 15 / 3
    check_mean(found, VECTOR, np.abs(VECTOR) * np.sqrt(factor - 1))
    chosen = found != 0
    np.testing.assert_allclose(
        found[chosen], np.broadcast_to(factor * VECTOR, found.shape)[chosen], rtol=1e-6
    )
    # With it, as they are; the places follow from the seed.
    message, kept = message_of(RandomK(fraction=0.2))
    assert set(message) == {'seed', 'values'}
    assert set(kept) - {0} == set(message['values'].numpy()) - {0}
    assert set(kept) - {0} <= set(VECTOR)


def test_signs_have_the_mean_size():
    _, found = message_of(EFSign())
    expected = np.where(VECTOR >= 0, 1, -1) * np.abs(VECTOR).mean()
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert EFSign().build(SHAPES).feedback


def test_ternary_numbers_have_the_chance_of_their_size():
    found = draws(TernGrad(clip=0))
    scales = np.repeat([2.0, 1.5], [12, 3])
    assert set(np.unique(found / scales).round(5)) == {-1, 0, 1}
    chance = np.abs(VECTOR) / scales
    check_mean(found != 0, chance, np.sqrt(chance * (1 - chance)))
    check_mean(found, VECTOR, scales * np.sqrt(chance * (1 - chance)))
    # Clipped, the scale is that of the deviation.
    clipped = draws(TernGrad(clip=1.0))
    scales = np.abs(clipped).max(axis=0)[[3, 14]]
    np.testing.assert_allclose(
        scales, [VECTOR[:12].std(), VECTOR[12:].std()], rtol=1e-5
    )


def test_drive_has_its_unbiased_scale():
    message, found = message_of(Drive())
    rotated = rotation.rotate(tf.constant(VECTOR), message['seed']).numpy()
    scale = (VECTOR**2).sum() / np.abs(rotated).sum()
    assert message['scale'].numpy() == pytest.approx(scale, rel=1e-5)
    signs = np.where(rotated >= 0, 1, -1).astype(np.float32)
    back = rotation.rotate_back(tf.constant(scale * signs), message['seed'], 15)
    np.testing.assert_allclose(found, back, atol=1e-5)
    # So that what arrives is as long along the vector as this is.
    assert found @ VECTOR == pytest.approx(VECTOR @ VECTOR, rel=1e-5)


@pytest.mark.parametrize('options', [Drive(), Eden(bits=2)])
def test_rotated_codes_are_nearly_right_on_average_of_many_numbers(options):
    # Of a few large numbers it is not so: signs at random are no random rotation.
    vector = np.random.default_rng(0).normal(size=256).astype(np.float32)
    found = draws(options, tuple(vector), ((256,),))
    check_mean(found, vector, 1.2 * found.std(axis=0))


def test_centroids_are_those_of_max():
    # Max 1960, table I: two levels at sqrt(2 / pi), four at 0.4528 and 1.510.
    np.testing.assert_allclose(centroids(2), [-0.79788, 0.79788], atol=1e-5)
    np.testing.assert_allclose(
        centroids(4), [-1.510, -0.4528, 0.4528, 1.510], atol=1e-3
    )
    normal = np.random.default_rng(0).normal(size=200_000)
    nearest = np.abs(normal[:, None] - centroids(8)).min(axis=1)
    # And of eight levels the error is 0.03454 of the variance.
    assert np.mean(nearest**2) == pytest.approx(0.03454, rel=0.02)


def test_eden_with_one_bit_is_drive():
    message, found = message_of(Eden(bits=1))
    rotated = rotation.rotate(tf.constant(VECTOR), message['seed']).numpy()
    scale = (VECTOR**2).sum() / np.abs(rotated).sum()
    expected = rotation.rotate_back(
        tf.constant(scale * np.sign(rotated), tf.float32), message['seed'], 15
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    _, found = message_of(Eden(bits=4))
    assert found @ VECTOR == pytest.approx(VECTOR @ VECTOR, rel=1e-5)
    assert np.abs(found - VECTOR).max() < 0.5


def test_pieces_become_the_means_of_their_group():
    # Two groups far apart: whatever is drawn first, k-means finds them or stays.
    centres = np.array([[5.0, 5.0], [-5.0, 5.0]])
    apart = np.random.default_rng(0).normal(size=(20, 2)) * 0.1
    pieces = (np.repeat(centres, 10, axis=0) + apart).astype(np.float32)
    message, found = message_of(
        Product(length=2, codes=2), pieces.ravel(), shapes=((40,),)
    )
    numbers = message['numbers'].values.numpy()
    for number in set(numbers):
        mean = pieces[numbers == number].mean(axis=0)
        np.testing.assert_allclose(message['codebook'][number], mean, atol=1e-5)
    np.testing.assert_array_equal(
        found.reshape(20, 2), message['codebook'].numpy()[numbers]
    )
    assert {*map(tuple, np.sign(message['codebook'].numpy()))} == {(1, 1), (-1, 1)}
    # With a code for each piece, nothing is lost.
    _, found = message_of(Product(length=4, codes=8))
    np.testing.assert_array_equal(found, VECTOR)


def test_power_sgd_of_a_matrix_of_its_rank_is_exact():
    random = np.random.default_rng(0)
    left, right = random.normal(size=(6, 2)), random.normal(size=(8, 2))
    exact = (left @ right.T).astype(np.float32)
    vector = np.concatenate([exact.ravel(), [1, 2, 3]]).astype(np.float32)
    message, found = message_of(PowerSGD(rank=2), vector, ((2, 3, 8), (3,)))
    np.testing.assert_allclose(found, vector, atol=1e-5)
    assert {k: tuple(v.shape) for k, v in message.items()} == {
        'p 0': (6, 2),
        'q 0': (8, 2),
        'whole 1': (3,),
    }


def test_power_sgd_goes_on_from_the_last_q():
    random = np.random.default_rng(0)
    matrix = random.normal(size=(6, 5)).astype(np.float32)
    scheme = PowerSGD(rank=1).build([(6, 5)])
    (q,) = state = scheme.state
    for _ in range(20):
        message, state = scheme.encode(tf.constant(matrix.ravel()), state)
        p = matrix @ q
        p /= np.linalg.norm(p)
        q = matrix.T @ p
        found = scheme.decode(message).numpy().reshape(6, 5)
        np.testing.assert_allclose(found, p @ q.T, atol=1e-4)
    # Which is power iteration: it ends at the best approximation of rank 1.
    u, s, v = np.linalg.svd(matrix)
    np.testing.assert_allclose(found, s[0] * np.outer(u[:, 0], v[0]), atol=1e-2)
    # Zeros are no end of it.
    _, state = scheme.encode(tf.zeros([30]), state)
    message, state = scheme.encode(tf.constant(matrix.ravel()), state)
    assert np.abs(scheme.decode(message)).max() > 0.1


def test_a_rank_that_makes_nothing_smaller_is_refused():
    with pytest.raises(UserError, match='rank 2 makes none of .* smaller; lower'):
        PowerSGD(rank=2).build(SHAPES)


def test_half_precision_rounds():
    _, found = message_of(Float16())
    np.testing.assert_array_equal(found, VECTOR.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize('name', registry.UP.NAMES[1:])
def test_zeros_stay_zeros(name):
    _, found = message_of(registry.UP.options(name)(), np.zeros(15, np.float32))
    np.testing.assert_array_equal(found, 0)
