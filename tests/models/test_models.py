"""Models, against the same computed in NumPy and by Keras."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import models
from tff_transfer.errors import UserError
from tff_transfer.models import model
from tff_transfer.networks import keras_layers


def _predict(model, x):
    """Returns the functional model's logits, in training and in evaluation."""
    return [
        model.functional.predict_on_batch(
            model.functional.initial_weights, x, training=training
        ).numpy()
        for training in (True, False)
    ]


def test_a_linear_model_starts_at_zero():
    model = models.mlp((4,), 3)
    assert [w.shape for w in model.network.get_weights()] == [(4, 3), (3,)]
    assert not any(w.any() for w in model.network.get_weights())
    assert not model.takes_keys


def test_mlp_is_relu_layers_and_a_linear_one():
    model = models.mlp((2, 2), 3, (5,), seed=1, dtype=np.uint8)
    x = np.array([[[0, 255], [51, 102]], [[255, 255], [0, 0]]], np.uint8)
    w1, b1, w2, b2 = model.network.get_weights()
    hidden = np.maximum(x.reshape(2, 4) / 255 @ w1 + b1, 0)
    np.testing.assert_allclose(model.network(x), hidden @ w2 + b2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        _predict(model, x)[0], hidden @ w2 + b2, rtol=1e-5, atol=1e-6
    )


def test_initial_weights_are_a_function_of_the_seed():
    first, again = (models.mlp((4,), 3, (5,), seed=7) for _ in range(2))
    other = models.mlp((4,), 3, (5,), seed=8)
    for a, b in zip(
        first.network.get_weights(), again.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    assert (first.network.get_weights()[0] != other.network.get_weights()[0]).any()


def test_cnn_is_the_emnist_network():
    model = models.cnn((28, 28, 1), 10)
    assert [w.shape for w in model.network.get_weights()] == [
        (5, 5, 1, 32),
        (32,),
        (5, 5, 32, 64),
        (64,),
        (7 * 7 * 64, 128),
        (128,),
        (128, 10),
        (10,),
    ]


def test_dropout_is_a_function_of_the_first_key():
    model = models.mlp((4,), 3, (64,), dropout=0.5, seed=1)
    assert model.takes_keys
    x = np.ones((2, 4), np.float32)

    def predict(key):
        return _predict(model, {'inputs': x, 'key': np.array(key, np.int32)})

    training, evaluation = predict([[1, 2], [3, 4]])
    np.testing.assert_array_equal(training, predict([[1, 2], [9, 9]])[0])
    assert (training != predict([[1, 3], [3, 4]])[0]).any()
    w1, b1, w2, b2 = model.network.get_weights()
    expected = np.maximum(x @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(evaluation, expected, rtol=1e-5, atol=1e-6)


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer = keras_layers.KeyedDropout(0.25, salt=0)
    dropped = layer(
        [tf.ones([100, 100]), tf.zeros([100, 2], tf.int32)], training=True
    ).numpy()
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    # 10,000 draws: five standard deviations are 0.022.
    assert abs((dropped == 0).mean() - 0.25) < 0.022


def test_dropout_of_an_empty_batch_is_empty():
    layer = keras_layers.KeyedDropout(0.5, salt=0)
    empty = layer([tf.ones([0, 3]), tf.zeros([0, 2], tf.int32)], training=True)
    assert empty.shape == (0, 3)


def test_the_loss_is_the_mean_cross_entropy():
    model = models.mlp((2,), 2)
    logits = np.array([[1.0, 3.0], [0.0, 0.0]], np.float32)
    expected = (np.log(1 + np.exp(-2.0)) + np.log(2.0)) / 2
    loss = model.functional.loss(logits, np.array([1, 0], np.int32))
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_metrics_are_the_mean_loss_and_the_accuracy_over_all_batches():
    functional = models.mlp((2,), 3).functional
    weights = ([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]], [0.0, 0.0, 0.5]), ()
    # Three examples and one: means of batches would give something else.
    batches = [([[1, 0], [0, 1], [0, 0]], [0, 1, 2]), ([[0, 2]], [0])]
    state = functional.initialize_metrics_state()
    losses, right = [], []
    for x, y in batches:
        x, y = np.array(x, np.float32), np.array(y, np.int32)
        logits = x @ np.array(weights[0][0]) + weights[0][1]
        losses.extend(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y])
        right.extend(logits.argmax(1) == y)
        output = tff.learning.models.BatchOutput(0.0, logits.astype(np.float32), len(y))
        state = functional.update_metrics_state(state, y, output)
    metrics = functional.finalize_metrics(state)
    np.testing.assert_allclose(metrics['loss'], np.mean(losses), rtol=1e-6)
    assert metrics['accuracy'] == np.mean(right) == 0.75


class Folded(tf.keras.layers.Layer):
    """Turns batches of negative sum around, with Python's own `if`."""

    def call(self, x):
        if tf.reduce_sum(x) < 0:
            x = -x
        return x


def test_layers_of_ones_own_may_branch_on_tensors():
    inputs = tf.keras.Input((3,))
    network = tf.keras.Model(inputs, tf.keras.layers.Dense(2)(Folded()(inputs)))
    model = models.from_keras(network)
    for sign in (1.0, -1.0):
        x = sign * np.ones((4, 3), np.float32)
        found = model.functional.predict_on_batch(
            model.functional.initial_weights, x, training=False
        )
        np.testing.assert_allclose(found, np.abs(x) @ network.get_weights()[0])


@pytest.mark.parametrize(
    ('weights', 'part'),
    [
        ([np.zeros((2, 2))], '1 weights for a network of 2'),
        ([np.zeros((2, 3)), np.zeros(2)], r'shape \(2, 3\)'),
        ([np.zeros(2), np.zeros((2, 2))], r'shape \(2,\)'),
    ],
)
def test_weights_of_another_network_are_refused(weights, part):
    network = models.mlp((2,), 2).network
    with pytest.raises(UserError, match=part):
        model.assign_weights(network, weights)


@pytest.mark.parametrize('dropout', [0.0, 0.5])
@pytest.mark.parametrize('training', [True, False])
def test_the_representation_is_what_the_last_dense_layer_takes(dropout, training):
    made = models.mlp((4,), 3, (5, 6), dropout, seed=1)
    x = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    if dropout:
        x = {'inputs': x, 'key': np.full([7, 2], 3, np.int32)}
    weights = made.functional.initial_weights
    logits, found, measured = made.representation(weights, x, training=training)
    expected = made.functional.predict_on_batch(weights, x, training=training)
    np.testing.assert_array_equal(logits, expected)
    kernel, bias = weights[0][-2:]
    np.testing.assert_allclose(found @ kernel + bias, logits, rtol=1e-5, atol=1e-6)
    assert measured == ()


def test_a_network_without_a_last_dense_layer_has_no_representation():
    images = tf.keras.Input((4, 4, 1))
    maps = tf.keras.layers.Conv2D(3, 2)(images)
    logits = tf.keras.layers.GlobalAveragePooling2D()(maps)
    assert models.from_keras(tf.keras.Model(images, logits)).representation is None
    dense = tf.keras.layers.Dense(3)(logits) + logits
    assert models.from_keras(tf.keras.Model(images, dense)).representation is None
