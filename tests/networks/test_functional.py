"""Networks as functions of their weights, against the networks themselves."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tff_transfer import backbones
from tff_transfer.networks import tracing

REAL = pathlib.Path(__file__).parents[2] / 'shared/data/mobilenet_v2_035_feature_vector'
DRAW = np.random.default_rng(0)


def small_cnn():
    """A network with every kind of weight, BatchNorm deep inside, drawn at random."""
    inner = tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(6, 1, input_shape=(8, 8, 4)),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.ReLU(6),
        ],
        name='inner',
    )
    images = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(4, 3, padding='same', name='first')(images)
    x = tf.keras.layers.GlobalAveragePooling2D()(inner(x))
    network = tf.keras.Model(images, tf.keras.layers.Dense(5, name='last')(x))
    for weight in network.weights:
        value = DRAW.normal(size=weight.shape)
        weight.assign(np.abs(value) + 0.5 if 'variance' in weight.name else value)
    return network


def load(name):
    if name == 'small':
        return backbones.load(small_cnn())
    if name == 'real':
        if not REAL.is_dir():
            pytest.skip('the real backbone in ../shared/data is absent')
        return backbones.load(REAL, image_size=32)
    weights = 'random' if name == 'MobileNetV2' else None
    return backbones.load(name, image_size=32, weights=weights)


def own_network(backbone):
    if backbone.keras_model is not None:
        return backbone.keras_model
    embedded = backbone.handle == 'embedded'
    path = backbones.embedded.PATH if embedded else backbone.handle
    return hub.KerasLayer(str(path), trainable=True)


def images(backbone):
    return tf.constant(DRAW.random((4, *backbone.image_size, 3)), tf.float32)


LARGE = ('embedded', 'real', 'MobileNetV2')


@pytest.mark.parametrize(
    'name', ['small', *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]
)
def test_outputs_and_gradients_are_the_networks_own(name):
    backbone = load(name)
    network, x = backbone.functional, images(backbone)

    @tf.function
    def ours(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            output = network(values, x)
            loss = tf.reduce_sum(output**2)
        return output, tape.gradient(loss, values)

    values = [tf.constant(w.value) for w in network.weights]
    output, gradients = ours(values)
    original = own_network(backbone)
    variables = {v.name: v for v in original.variables}
    wanted = [variables[w.name] for w in network.weights if w.trainable]

    @tf.function
    def theirs():
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(wanted)
            output = original(x, training=False)
            loss = tf.reduce_sum(output**2)
        return output, tape.gradient(loss, wanted)

    expected, expected_gradients = theirs()
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-4)
    found = [g for w, g in zip(network.weights, gradients, strict=True) if w.trainable]
    for ours_one, theirs_one in zip(found, expected_gradients, strict=True):
        scale = np.abs(theirs_one).max()
        np.testing.assert_allclose(ours_one, theirs_one, rtol=1e-3, atol=1e-4 * scale)


def test_weights_are_named_and_told_apart():
    network = load('small').functional
    assert [(w.name.split('/')[-1], w.trainable) for w in network.weights] == [
        ('kernel:0', True),
        ('bias:0', True),
        ('kernel:0', True),
        ('bias:0', True),
        ('gamma:0', True),
        ('beta:0', True),
        ('moving_mean:0', False),
        ('moving_variance:0', False),
        ('kernel:0', True),
        ('bias:0', True),
    ]
    assert network.weights[0].used_by == {'Conv2D'}
    assert network.weights[-2].used_by == {'MatMul'}


def test_other_weights_give_what_the_network_gives_with_them():
    backbone = load('small')
    network, x = backbone.functional, images(backbone)
    values = [w.value * 1.5 for w in network.weights]
    found = tf.function(network)([tf.constant(v) for v in values], x)
    backbone.keras_model.set_weights(values)
    expected = backbone.keras_model(x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_frozen_layers_of_a_keras_model_stay_frozen():
    network = small_cnn()
    network.get_layer('first').trainable = False
    weights = tracing.trace(
        network, tf.TensorSpec([None, 8, 8, 3]), training=False
    ).weights
    assert [w.trainable for w in weights if w.name.startswith('first')] == [False] * 2


def test_cuts_are_where_all_passes():
    # By hand: what is left of the residual block is its input and its sum.
    images = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(3, 1, name='before', use_bias=False)(images)
    y = tf.keras.layers.Conv2D(3, 1, name='inside', use_bias=False)(x)
    x = tf.keras.layers.Add(name='sum')([x, y])
    x = tf.keras.layers.GlobalAveragePooling2D(name='pool')(x)
    network = tf.keras.Model(images, x, name='net')
    spec = tf.TensorSpec([None, 8, 8, 3])
    cuts = tracing.trace(network, spec, training=False).cuts()
    assert [cut.split('/')[-2] for cut in cuts] == ['before', 'sum', 'pool']


@pytest.mark.parametrize('name', ['small', 'embedded'])
def test_the_parts_make_the_whole(name):
    backbone = load(name)
    network, x = backbone.functional, images(backbone)
    expected = own_network(backbone)(x, training=False)
    cuts = network.cuts()
    for cut in cuts[:: max(1, len(cuts) // 4)]:
        below, top = network.split(cut)
        assert len(below.weights) + len(top.weights) == len(network.weights)
        activations = below([w.value for w in below.weights], x)
        assert activations.shape[1:] == below.output_spec.shape[1:]
        found = top([w.value for w in top.weights], activations)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
