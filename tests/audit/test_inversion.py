"""What a client trained on, out of its gradients."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.audit import inversion


def gradients(x, y, weights):
    with tf.GradientTape() as tape:
        kernel, bias = weights
        tape.watch(weights)
        logits = tf.reshape(x, [len(y), -1]) @ kernel + bias
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        loss = tf.reduce_mean(losses)
    return tape.gradient(loss, weights)


@pytest.fixture
def weights():
    draw = np.random.default_rng(0)
    return [
        tf.constant(draw.normal(0, 0.1, shape), tf.float32) for shape in ((64, 10), 10)
    ]


def test_an_input_of_a_dense_layer_is_recovered_exactly(weights):
    x = np.random.default_rng(1).random((1, 64)).astype(np.float32)
    kernel, bias = (part.numpy() for part in gradients(x, [7], weights))
    np.testing.assert_allclose(inversion.of_dense(kernel, bias), x[0], atol=1e-6)
    assert inversion.label_of(bias) == 7
    # Clipping is a factor, which protects nothing here.
    clipped = inversion.of_dense(0.003 * kernel, 0.003 * bias)
    np.testing.assert_allclose(clipped, x[0], atol=1e-6)
    assert not inversion.of_dense(0 * kernel, 0 * bias).any()


def test_noise_averages_out_over_units():
    draw = np.random.default_rng(2)
    x, bias = draw.random(30), draw.normal(size=200)
    noisy = np.outer(x, bias) + draw.normal(0, 0.5, (30, 200))
    found = inversion.of_dense(noisy, bias)
    expected, *_ = np.linalg.lstsq(bias[:, None], noisy.T, rcond=None)
    np.testing.assert_allclose(found, expected[0])


def test_descent_finds_an_image_and_noise_hides_it(weights):
    image = np.zeros((1, 8, 8, 1), np.float32)
    image[0, 2:6, 3:5] = 1

    def gradient_of(images):
        return gradients(images, [3], weights)

    sent = [part.numpy() for part in gradient_of(tf.constant(image))]
    draw = np.random.default_rng(3)
    noisy = [part + draw.normal(0, 1, part.shape) for part in sent]
    found = [
        inversion.by_descent(
            gradient_of, target, image.shape, steps=120, variation=1e-3, seed=0
        )
        for target in (sent, noisy)
    ]
    clear, hidden = (inversion.psnr(image, one) for one in found)
    assert clear > 20 and hidden < 12


def test_psnr_is_of_values_up_to_one():
    image = np.zeros((4, 4))
    assert inversion.psnr(image, image + 0.1) == pytest.approx(20)
    assert inversion.psnr(image, image) == np.inf
