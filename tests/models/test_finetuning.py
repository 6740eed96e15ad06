"""Fine-tuning strategies, against central training in Keras."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import backbones, models, runtime
from tff_transfer.algorithms import compose
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError
from tff_transfer.features.scaling import Standardisation
from tff_transfer.models import finetuning
from tff_transfer.networks import tracing
from tff_transfer.training import methods
from tff_transfer.training.training_config import TrainingConfig

CLASSES, RATE = 3, 0.05
DRAW = np.random.default_rng(0)


def fed_avg_process(config, model):
    context = methods.context_of(config, model, 1)
    return compose.compose(FedAvg().build(context), context).process


def network():
    """Convolutions, BatchNorm with statistics of its own, and a dense layer."""
    images = tf.keras.Input((6, 6, 3))
    x = tf.keras.layers.Conv2D(4, 3, padding='same')(images)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.ReLU(6)(x)
    x = tf.keras.layers.Conv2D(6, 1)(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    made = tf.keras.Model(images, tf.keras.layers.Dense(5)(x))
    draw = np.random.default_rng(1)
    for weight in made.weights:
        value = draw.normal(size=weight.shape)
        weight.assign(np.abs(value) + 0.5 if 'variance' in weight.name else value)
    return made


X = DRAW.integers(0, 256, (8, 6, 6, 3)).astype(np.uint8)
Y = DRAW.integers(0, CLASSES, 8).astype(np.int32)
STANDARDISE = Standardisation(
    DRAW.normal(size=5).astype(np.float32), np.full(5, 2, np.float32)
)


def head():
    return models.mlp((5,), CLASSES, (4,), seed=3)


def finetuned(keras, choose, head=head):
    spec = tf.TensorSpec([None, 6, 6, 3], tf.uint8)
    backbone = backbones.load(keras)
    traced = backbone.functional
    return finetuning.finetuned(
        traced, choose(traced), head(), STANDARDISE, spec, backbone.preprocess
    )


def federated_step(model):
    """One client, one step of SGD, and a server that takes its weights."""
    config = TrainingConfig(
        client_learning_rate=RATE, server_optimizer='sgd', server_learning_rate=1.0
    )
    process = fed_avg_process(config, model)
    cohort = Cohort({'x': X, 'y': Y}, np.array([0, len(X)]), len(X))
    with runtime.use_compiled():
        state = process.next(process.initialize(), cohort).state
        return process.get_model_weights(state).trainable


def central_step(layers, variables):
    """The same in Keras: SGD on the variables named."""
    with tf.GradientTape() as tape:
        x = tf.constant(X, tf.float32) / 255
        for layer in layers:
            x = layer(x)
        loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(Y, x)
    gradients = tape.gradient(loss, variables)
    tf.keras.optimizers.SGD(RATE).apply_gradients(
        zip(gradients, variables, strict=True)
    )
    return [v.numpy() for v in variables]


def assert_equal_steps(found, expected, before):
    assert len(found) == len(expected)
    for ours, keras, start in zip(found, expected, before, strict=True):
        np.testing.assert_allclose(ours, keras, rtol=1e-4, atol=1e-6)
        assert np.abs(keras - start).max() > 1e-6  # It was trained at all.


@pytest.mark.parametrize(
    ('choose', 'chosen'),
    [
        (finetuning.whole, lambda v: True),
        (finetuning.bias_norm, lambda v: v.shape.rank == 1),
    ],
)
def test_one_step_is_kerass(choose, chosen):
    keras = network()
    model = finetuned(keras, choose)
    before = model.functional.initial_weights[0]
    found = federated_step(model)
    top = head().network
    trained = [v for v in keras.trainable_variables if chosen(v)]
    expected = central_step(
        [lambda x: keras(x, training=False), STANDARDISE, top],
        trained + top.trainable_variables,
    )
    # Biases before BatchNorm's frozen statistics do move.
    assert_equal_steps(found, expected, before)


class LowRank(tf.keras.layers.Layer):
    """A dense or 1x1 convolution layer whose kernel has a low-rank update."""

    def __init__(self, layer, a, b):
        super().__init__()
        self.layer, self.a, self.b = layer, tf.Variable(a), tf.Variable(b)

    def call(self, x):
        return self.layer(x) + x @ self.a @ self.b


def test_a_step_of_adapters_is_kerass():
    keras = network()
    model = finetuned(keras, lambda net: finetuning.adapters(net, 2, seed=5))
    initial = list(model.functional.initial_weights[0])
    # The 1x1 convolution is 4 -> 6, the dense layer 6 -> 5, and the head's own follow.
    assert [w.shape for w in initial[:4]] == [(4, 2), (2, 6), (6, 2), (2, 5)]
    assert not initial[1].any() and not initial[3].any()
    initial[1], initial[3] = (
        DRAW.normal(size=w.shape) for w in (initial[1], initial[3])
    )
    initial = [np.asarray(w, np.float32) for w in initial]
    model.functional._initial_weights = (tuple(initial), ())
    found = federated_step(model)
    _, conv3, norm, relu, conv1, pool, dense = keras.layers
    low = [LowRank(conv1, *initial[:2]), LowRank(dense, *initial[2:4])]
    top = head().network
    expected = central_step(
        [
            conv3,
            lambda x: norm(x, training=False),
            relu,
            low[0],
            pool,
            low[1],
            STANDARDISE,
            top,
        ],
        [low[0].a, low[0].b, low[1].a, low[1].b, *top.trainable_variables],
    )
    assert_equal_steps(found, expected, initial)


def test_adapters_start_as_the_backbone():
    keras = network()
    model = finetuned(keras, lambda net: finetuning.adapters(net, 2))
    found = tf.function(model.logits)(model.functional.initial_weights[0], X)
    expected = head().network(STANDARDISE(keras(X / np.float32(255), training=False)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_small_layers_have_no_adapters():
    with pytest.raises(UserError, match='no weights of the kind'):
        finetuned(network(), lambda net: finetuning.adapters(net, 5))


def test_only_what_is_trained_travels():
    model = finetuned(network(), finetuning.bias_norm)
    process = fed_avg_process(TrainingConfig(), model)
    weights = process.get_model_weights.type_signature.result
    shapes = [tuple(t.shape) for t in tff.structure.flatten(weights.trainable)]
    # Convolution's bias, gamma, beta; bias; bias; then the head's kernels and biases.
    assert shapes == [(4,), (4,), (4,), (6,), (5,), (5, 4), (4,), (4, 3), (3,)]
    assert not tff.structure.flatten(weights.non_trainable)


def test_a_head_with_dropout_gets_its_keys():
    model = finetuned(
        network(),
        finetuning.whole,
        lambda: models.mlp((5,), CLASSES, (64,), 0.5, seed=3),
    )
    assert model.takes_keys
    weights = model.functional.initial_weights

    def logits(key, training):
        x = {'inputs': X, 'key': np.full((len(X), 2), key, np.int32)}
        return model.functional.predict_on_batch(weights, x, training=training).numpy()

    np.testing.assert_array_equal(logits(1, True), logits(1, True))
    assert (logits(1, True) != logits(2, True)).any()
    np.testing.assert_array_equal(logits(1, False), logits(2, False))


def test_statistics_are_never_trained():
    traced = tracing.trace(network(), tf.TensorSpec([None, 6, 6, 3]), training=False)
    assert len(finetuning.whole(traced).initial) == len(traced.weights) - 2


def test_a_cut_is_named_or_counted():
    backbone = backbones.load(network())
    first, conv, dense = (backbone.keras_model.layers[i].name for i in (1, 4, 6))
    frozen, top, _ = finetuning.cut(backbone, layer=first)
    assert frozen.feature_shape == (6, 6, 4)
    assert len(top.weights) == 4 + 2 + 2  # BatchNorm, convolution, dense
    names = [w.name for w in top.weights if w.value.ndim > 1]
    assert names == [f'{conv}/kernel:0', f'{dense}/kernel:0']
    for count, shape in ((1, (6,)), (2, (6, 6, 4))):
        frozen, top, _ = finetuning.cut(backbone, top_layers=count)
        assert frozen.feature_shape == shape
        assert sum(w.value.ndim > 1 for w in top.weights) == count
    assert frozen.fingerprint != backbone.fingerprint
    with pytest.raises(UserError, match=f'it can after .*{conv}'):
        finetuning.cut(backbone, layer='nowhere')
    with pytest.raises(UserError, match='fewer than 9 layers'):
        finetuning.cut(backbone, top_layers=9)


@pytest.mark.slow
def test_the_top_trains_on_activations_as_on_images():
    backbone = backbones.load(network())
    frozen, top, _ = finetuning.cut(backbone, top_layers=2)
    activations = frozen(X).numpy()
    on_activations = finetuning.finetuned(
        top, finetuning.whole(top), head(), STANDARDISE, top.input_spec
    )
    names = {w.name for w in top.weights}
    on_images = finetuned(
        backbone.keras_model,
        lambda net: finetuning.chosen(net, lambda w: w.name in names),
    )
    weights = []
    for model, x in ((on_activations, activations), (on_images, X)):
        process = fed_avg_process(TrainingConfig(client_learning_rate=RATE), model)
        clients = Cohort({'x': x, 'y': Y}, np.array([0, 3, len(X)]), 2)
        with runtime.use_compiled():
            state = process.initialize()
            for _ in range(5):
                state = process.next(state, clients).state
            weights.append(process.get_model_weights(state).trainable)
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    start = on_images.functional.initial_weights[0]
    assert np.abs(weights[0][0] - start[0]).max() > 1e-3
