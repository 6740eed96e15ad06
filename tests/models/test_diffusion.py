"""The diffusion model: its papers' equations in NumPy, and a plain loop."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from test_cvae import CLASSES, SEED, SHAPE, make_data

import tff_transfer as tt
from tff_transfer import runtime
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.models.generative import noise_schedules
from tff_transfer.models.generative.architecture import Transfer, build
from tff_transfer.models.generative.diffusion import Diffusion

MADE = Diffusion(schedule='linear', steps=50, sampling_steps=3)


@pytest.fixture(scope='module')
def start():
    network = MADE.networks(SHAPE, CLASSES, SEED)['denoiser']
    draw = np.random.default_rng(1)
    # Unlike the initial weights, these predict some noise.
    return [w + draw.normal(0, 0.05, w.shape) for w in network.get_weights()]


@pytest.fixture(scope='module')
def model(start):
    transfer = Transfer({'denoiser': start})
    return build(MADE, SHAPE, CLASSES, SEED, np.uint8, transfer)


def test_what_remains_is_what_the_papers_say():
    # Ho et al. 2020: beta from 1e-4 to 0.02 in 1000 steps.
    left, expected = 1.0, []
    for step in range(1000):
        left *= 1 - (1e-4 + (0.02 - 1e-4) * step / 999)
        expected.append(left)
    np.testing.assert_allclose(
        noise_schedules.remaining('linear', 1000), expected, rtol=1e-5
    )
    # With fewer steps about as much is left at the end.
    fewer = noise_schedules.remaining('linear', 250)
    assert 0.5 < np.log(fewer[-1]) / np.log(expected[-1]) < 1.5

    # Nichol & Dhariwal 2021, equation 17, with betas of at most 0.999.
    def f(t):
        return math.cos((t / 40 + 0.008) / 1.008 * math.pi / 2) ** 2

    expected = [f(t) / f(0) for t in range(1, 40)]
    expected.append(expected[-1] * (1 - 0.999))
    found = noise_schedules.remaining('cosine', 40)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_steps_are_spaced_from_the_last_one_down():
    assert noise_schedules.spaced(1000, 4).tolist() == [999, 749, 499, 249]
    assert noise_schedules.spaced(3, 3).tolist() == [2, 1, 0]


def test_a_step_back_is_that_of_the_paper():
    left = np.array([0.9, 0.5, 0.2, 0.05], np.float32)
    start = np.random.default_rng(0).normal(0, 2, (2, 3, 2, 1)).astype(np.float32)

    def noise_of(images, step):
        return 0.8 * images + 0.1 * tf.cast(step, tf.float32)

    found = noise_schedules.denoised(noise_of, start, left, np.array([3, 1]))
    x, kept = start.astype(np.float64), []
    for step, now, then in ((3, 0.05, 0.5), (1, 0.5, 1.0)):
        noise = 0.8 * x + 0.1 * step
        # Song et al. 2021, equation 12, sigma 0.
        clean = (x - math.sqrt(1 - now) * noise) / math.sqrt(now)
        kept.append(np.mean(np.abs(clean) < 1))
        clean = np.clip(clean, -1, 1)
        x = math.sqrt(then) * clean + math.sqrt(1 - then) * noise
    assert 0 < kept[0] < 1  # Some are kept within the range.
    np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-6)


def test_who_knows_the_noise_gets_the_image_back():
    left = noise_schedules.remaining('cosine', 100)
    draw = np.random.default_rng(0)
    image = draw.uniform(-1, 1, (1, 4, 4, 1)).astype(np.float32)
    noise = draw.normal(size=image.shape).astype(np.float32)

    def noise_of(images, step):
        of = tf.gather(left, step)
        return (images - tf.sqrt(of) * image) / tf.sqrt(1 - of)

    # Equation 4 of Ho et al. 2020, after the 61st step.
    noised = noise_schedules.noised(image, noise, left[60:61])
    expected = math.sqrt(left[60]) * image + math.sqrt(1 - left[60]) * noise
    np.testing.assert_allclose(noised, expected, rtol=1e-5, atol=1e-6)
    places = np.array([60, 33, 7])
    found = noise_schedules.denoised(noise_of, noised, left, places)
    np.testing.assert_allclose(found, image, atol=1e-4)


def drawn(count, key):
    noise = tf.random.stateless_normal([count, *SHAPE], key)
    uniform = tf.random.stateless_uniform([count], [key[0], key[1] + 1])
    return noise, np.floor(uniform * 50).astype(int)


@pytest.mark.slow
def test_the_loss_is_the_error_of_the_predicted_velocity(model, start):
    data = make_data()
    outputs = model.logits(model.initial_weights, data.x, data.y)
    measured = model.task.examples(outputs, data.y)
    noise, steps = drawn(len(data.x), [0, 0])
    assert len(set(steps)) > 5
    left = np.cumprod(1 - np.linspace(1e-4, 0.02, 50) * 20)[steps]
    left = left[:, None, None, None]
    images = data.x / 127.5 - 1
    x = np.sqrt(left) * images + np.sqrt(1 - left) * noise
    velocity = np.sqrt(left) * noise - np.sqrt(1 - left) * images
    network = MADE.networks(SHAPE, CLASSES, SEED)['denoiser']
    network.set_weights(start)
    predicted = network([x, steps, np.eye(CLASSES)[data.y]])
    expected = np.mean((np.float64(predicted) - velocity) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(measured['loss'], expected, rtol=1e-4)
    np.testing.assert_array_equal(measured['velocity_error'], measured['loss'])
    # It is that of the noise, which follows from it, divided by what is left.
    of_noise = np.sqrt(1 - left) * x + np.sqrt(left) * predicted - noise
    expected = np.mean(of_noise**2 / left, axis=(1, 2, 3))
    np.testing.assert_allclose(measured['loss'], expected, rtol=1e-3)


@pytest.mark.slow
def test_a_client_trains_as_a_plain_loop_does(model, start):
    data, rate = make_data(clients=1), 0.05
    cohort = training_cohort(
        data,
        [0],
        batch_size=2,
        epochs=2,
        keys=True,
        labels=True,
        seed=3,
        round_number=1,
    )
    made = tt.algorithms.process(
        tt.algorithms.FedAvg(),
        model,
        client_optimizer=tff.learning.optimizers.build_sgdm(rate),
    )
    with runtime.use_compiled():
        state = made.process.next(made.process.initialize(), cohort).state
        found = made.process.get_model_weights(state).trainable

    network = MADE.networks(SHAPE, CLASSES, SEED)['denoiser']
    network.set_weights(start)
    left = np.cumprod(1 - np.linspace(1e-4, 0.02, 50) * 20)
    rows = cohort.examples
    for place in range(0, 10, 2):
        batch = slice(place, place + 2)
        images = rows['x']['inputs'][batch] / 127.5 - 1
        noise, steps = drawn(2, rows['x']['key'][place])
        of = left[steps][:, None, None, None]
        x = np.sqrt(of) * images + np.sqrt(1 - of) * noise
        velocity = np.sqrt(of) * noise - np.sqrt(1 - of) * images
        labels = np.eye(CLASSES)[rows['y'][batch]]
        with tf.GradientTape() as tape:
            predicted = network([x, steps, labels])
            loss = tf.reduce_mean((predicted - velocity) ** 2)
        weights = network.trainable_variables
        for weight, slope in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(rate * slope)
    assert len(found) == len(weights) == len(start)
    for ours, theirs, before in zip(found, network.get_weights(), start, strict=True):
        moved = np.abs(theirs - before).max()
        assert moved > 1e-5
        np.testing.assert_allclose(ours, theirs, atol=2e-3 * moved)


@pytest.mark.slow
def test_images_are_those_of_a_plain_way_back(model, start):
    labels, key = [2, 0, 1], [7, 8]
    network = MADE.networks(SHAPE, CLASSES, SEED)['denoiser']
    network.set_weights(start)
    left = np.cumprod(1 - np.linspace(1e-4, 0.02, 50) * 20)
    x, _ = drawn(3, key)
    x = np.float64(x)
    # 50 steps in three: after 16, 33 and 50 of them.
    for step, then in ((49, left[32]), (32, left[15]), (15, 1.0)):
        now = left[step]
        velocity = network([x, np.full(3, step), np.eye(CLASSES)[labels]])
        noise = math.sqrt(1 - now) * x + math.sqrt(now) * np.float64(velocity)
        clean = np.clip((x - math.sqrt(1 - now) * noise) / math.sqrt(now), -1, 1)
        x = math.sqrt(then) * clean + math.sqrt(1 - then) * noise
    found = model.generate(model.initial_weights, tf.constant(labels), key)
    np.testing.assert_allclose(found, (x + 1) / 2, atol=1e-4)


@pytest.mark.slow
def test_images_are_in_range_and_drawn_by_the_key_alone(model):
    labels = tf.constant([2, 0, 1])
    images = model.generate(model.initial_weights, labels, [7, 8])
    assert images.shape == (3, *SHAPE)
    assert np.min(images) >= 0 and np.max(images) <= 1 and np.std(images) > 0.01
    again = model.generate(model.initial_weights, labels, [7, 8])
    np.testing.assert_array_equal(images, again)
    for other in (([1, 0, 1], [7, 8]), (labels, [8, 8])):
        apart = np.abs(images - model.generate(model.initial_weights, *other))
        assert apart.max(axis=(1, 2, 3))[0] > 1e-4
