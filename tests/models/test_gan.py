"""The generator and the discriminator as one model, beside plain Keras."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.models.generative.adversaries import build
from tff_transfer.models.generative.architecture import Transfer
from tff_transfer.models.generative.gan import GAN

slow = pytest.mark.slow
SHAPE, CLASSES, LATENTS = (9, 11, 1), 3, 4
DRAW = np.random.default_rng(3)
IMAGES = DRAW.integers(0, 256, (5, *SHAPE)).astype(np.uint8)
LABELS = np.array([0, 2, 1, 1, 0], np.int32)
KEYS = DRAW.integers(0, 1000, (5, 2)).astype(np.int32)


def made(transfer=None, **options):
    of = GAN(latent_size=LATENTS, width=2, **options)
    return build(of, SHAPE, CLASSES, dtype=np.uint8, transfer=transfer)


def batch(conditional, keys=KEYS):
    x = collections.OrderedDict(inputs=tf.constant(IMAGES), key=tf.constant(keys))
    if conditional:
        x['label'] = tf.constant(LABELS)
    return x


def players(model):
    return model.networks.values()


def taken(first, conditional):
    return [first, tf.one_hot(LABELS, CLASSES)] if conditional else first


def latents(key, count=5):
    return tf.random.stateless_normal([count, LATENTS], key + [0, 1])


def entropies(fake, real, smoothing=0.0):
    """Returns both losses, the discriminator's first: binary cross-entropies."""
    entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True, reduction='none')
    ones = tf.ones_like(fake)
    of_discriminator = entropy((1 - smoothing) * ones, real) + entropy(0 * ones, fake)
    # The generator wants its images taken for real ones.
    return of_discriminator, entropy(ones, fake)


@pytest.mark.parametrize('conditional', [pytest.param(False, marks=slow), True])
def test_terms_are_losses_on_real_and_on_generated_images(conditional):
    model = made(conditional=conditional)
    generator, discriminator = players(model)
    found = model.functional.predict_on_batch(
        model.functional.initial_weights, batch(conditional), training=True
    )
    images = generator(taken(latents(KEYS[0]), conditional))
    fake = discriminator(taken(images, conditional))
    real = discriminator(taken(IMAGES / np.float32(255), conditional))
    expected = np.stack(entropies(fake, real), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    again = model.generate(model.initial_weights, LABELS, tf.constant(KEYS[0]))
    np.testing.assert_allclose(again, images, rtol=1e-5, atol=1e-6)
    assert again.shape == (5, *SHAPE)
    assert 0 <= np.min(again) < np.max(again) <= 1
    # In evaluation keys are zeros.
    evaluated = model.logits(model.initial_weights, IMAGES, LABELS)
    x = batch(conditional, np.zeros_like(KEYS))
    expected = model.functional.predict_on_batch(
        model.functional.initial_weights, x, training=False
    )
    np.testing.assert_array_equal(evaluated, expected)


@slow
def test_all_else_than_the_first_key_is_without_effect():
    model = made(conditional=False)
    start = model.functional.initial_weights
    others = KEYS.copy()
    others[1:] += 1
    first, same, other = (
        model.functional.predict_on_batch(start, batch(False, keys), training=True)
        for keys in (KEYS, others, others[1:][[0, 1, 2, 3, 3]])
    )
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).min(axis=0).max() > 1e-6


@pytest.mark.parametrize('smoothing', [pytest.param(0.0, marks=slow), 0.1])
def test_each_network_moves_by_its_own_loss(smoothing):
    model = made(conditional=False, smoothing=smoothing)
    generator, discriminator = players(model)
    start = tuple(map(tf.constant, model.initial_weights))
    with tf.GradientTape() as tape:
        tape.watch(start)
        terms = model.functional.predict_on_batch(
            (start, ()), batch(False), training=True
        )
        loss = model.functional.loss(terms, LABELS)
    found = tape.gradient(loss, start)
    with tf.GradientTape(persistent=True) as tape:
        fake = discriminator(generator(latents(KEYS[0])))
        real = discriminator(IMAGES / np.float32(255))
        of_discriminator, of_generator = map(
            tf.reduce_mean, entropies(fake, real, smoothing)
        )
    expected = [
        *tape.gradient(of_generator, generator.trainable_variables),
        *tape.gradient(of_discriminator, discriminator.trainable_variables),
    ]
    assert {name: sorted(numbers) for name, numbers in model.parts.items()} == {
        'generator': [0, 1, 2, 3],
        'discriminator': [4, 5, 6, 7],
        'stem': [0, 1],
        'doublings': [2, 3],
        'halvings': [4, 5],
        'verdict': [6, 7],
    }
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(loss, of_discriminator + of_generator, rtol=1e-5)
    measured = model.task.measure(terms, LABELS)
    for name, value in (
        ('discriminator_loss', of_discriminator),
        ('generator_loss', of_generator),
    ):
        np.testing.assert_allclose(np.mean(measured[name]), value, rtol=1e-5)


@slow
def test_a_critic_is_held_to_gradients_of_norm_1():
    model = made(conditional=False, loss='wasserstein')
    generator, discriminator = players(model)
    start = tuple(map(tf.constant, model.initial_weights))
    count = len(generator.trainable_variables)
    with tf.GradientTape() as tape:
        tape.watch(start)
        terms = model.functional.predict_on_batch(
            (start, ()), batch(False), training=True
        )
        loss = model.functional.loss(terms, LABELS)
    found = tape.gradient(loss, start)[count:]
    shares = tf.random.stateless_uniform([5, 1, 1, 1], KEYS[0] + [0, 2])
    fake, images = generator(latents(KEYS[0])), IMAGES / np.float32(255)
    with tf.GradientTape() as tape:
        between = shares * images + (1 - shares) * fake
        with tf.GradientTape() as inner:
            inner.watch(between)
            judged = discriminator(between)
        slopes = tf.reshape(inner.gradient(judged, between), [5, -1])
        penalty = tf.square(tf.norm(slopes, axis=1) - 1)
        of_discriminator = tf.reduce_mean(
            discriminator(fake) - discriminator(images)
        ) + 10 * tf.reduce_mean(penalty)
    expected = tape.gradient(of_discriminator, discriminator.trainable_variables)
    for ours, theirs in zip(found, expected, strict=True):
        theirs = 0.0 if theirs is None else theirs  # The last bias has no effect.
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    of_generator = -tf.reduce_mean(discriminator(fake))
    np.testing.assert_allclose(loss, of_discriminator + of_generator, rtol=1e-4)


def test_images_too_small_are_refused():
    with pytest.raises(UserError, match='7 x 12 pixels are too small for --model=gan'):
        build(GAN(), (7, 12, 1), CLASSES)


START = {
    name: [w + 0.1 for w in network.get_weights()]
    for name, network in GAN(latent_size=LATENTS, width=2)
    .networks(SHAPE, CLASSES, 7)
    .items()
}


@slow
def test_frozen_parts_stay_as_the_start_has_them():
    model = made(Transfer(START, ('stem', 'halvings')))
    assert {name: sorted(numbers) for name, numbers in model.parts.items()} == {
        'generator': [0, 1],
        'discriminator': [2, 3, 4],
        'doublings': [0, 1],
        'verdict': [2, 3, 4],
    }
    generator, discriminator = players(model)
    trained = [v + 0.2 for v in model.network.trainable_variables]
    found = model.generate(trained, LABELS, tf.constant(KEYS[0]))
    for variable, value in zip(model.network.trainable_variables, trained, strict=True):
        variable.assign(value)
    images = generator(taken(latents(KEYS[0]), True))
    np.testing.assert_allclose(found, images, rtol=1e-5, atol=1e-6)
    stem = generator.get_layer('stem_dense')
    np.testing.assert_array_equal(stem.kernel, START['generator'][0])
    terms = model.functional.predict_on_batch(
        (tuple(trained), ()), batch(True), training=True
    )
    fake = discriminator(taken(images, True))
    real = discriminator(taken(IMAGES / np.float32(255), True))
    expected = np.stack(entropies(fake, real), axis=1)
    np.testing.assert_allclose(terms, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match='leaves nothing of the generator to train'):
        made(Transfer(START, ('stem', 'doublings')))


@slow
def test_the_generator_is_held_near_the_one_that_it_started_from():
    model = made(Transfer(START, distill_weight=3.0))
    start = tuple(map(tf.constant, model.initial_weights))
    moved = tuple(w + 0.2 for w in start)
    key = tf.constant(KEYS[0])
    terms = model.functional.predict_on_batch((moved, ()), batch(True), training=True)
    taught, drawn = (model.generate(w, LABELS, key) for w in (start, moved))
    apart = np.sum(np.square(drawn - taught), axis=(1, 2, 3))
    np.testing.assert_allclose(terms[:, 2], apart, rtol=1e-4)
    measured = model.task.measure(terms, LABELS)
    expected = terms[:, 0] + terms[:, 1] + 3 * apart
    np.testing.assert_allclose(measured['loss'], expected, rtol=1e-4)
    assert list(measured)[-1] == 'distillation'
    # The server's generator too.
    plain = made(Transfer(START))
    labels = tf.random.stateless_uniform([5], key + [0, 3], 0, CLASSES, tf.int32)
    taught, drawn = (model.generate(w, labels, key) for w in (start, moved))
    apart = np.mean(np.sum(np.square(drawn - taught), axis=(1, 2, 3)))
    found, without = (m.generator_loss(moved, 5, key) for m in (model, plain))
    np.testing.assert_allclose(found - without, 3 * apart, rtol=1e-4)


def test_weights_are_counted_first():
    # 7 x 7 x 32 numbers of each latent one.
    with pytest.raises(UserError, match='network of 1,568,000,000,000 weights.*latent'):
        GAN(latent_size=10**9, conditional=False).networks((28, 28, 1), CLASSES, 0)
