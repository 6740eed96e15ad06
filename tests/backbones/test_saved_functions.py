import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones
from tff_transfer.backbones import saved_functions

DRAW = np.random.default_rng(0)
IMAGES = DRAW.random((4, 6, 6, 3), np.float32)
ANY_SIZE = tf.TensorSpec([None, None, None, 3])


class Network(tf.Module):
    """A convolution and BatchNorm's means, written out."""

    def __init__(self):
        super().__init__()
        kernel = DRAW.normal(size=(3, 3, 3, 4))
        self.kernel = tf.Variable(kernel, dtype=tf.float32, name='conv/kernel')
        self.mean = tf.Variable(tf.ones(4), trainable=False, name='norm/mean')

    def maps(self, images):
        return tf.nn.relu(tf.nn.conv2d(images, self.kernel, 1, 'SAME'))

    def features(self, images, training, momentum=0.9):
        x = self.maps(images)

        def in_training():
            mean = tf.reduce_mean(x, [0, 1, 2])
            self.mean.assign_add((1 - momentum) * (mean - self.mean))
            return x - mean

        if isinstance(training, bool):
            x = in_training() if training else x - self.mean
        else:
            x = tf.cond(training, in_training, lambda: x - self.mean)
        return tf.reduce_max(x, [1, 2])


def of_a_tensor():
    module = Network()
    specs = [ANY_SIZE, tf.TensorSpec([], tf.bool)]
    module.__call__ = tf.function(module.features, input_signature=specs)
    return module


def of_two_functions():
    module = Network()
    module.__call__ = tf.function(
        lambda inputs, training=False: module.features(inputs, training)
    )
    for training in (True, False):
        module.__call__.get_concrete_function(ANY_SIZE, training=training)
    return module


def of_a_momentum():
    module = Network()
    module.__call__ = tf.function(
        lambda inputs, training=False, momentum=0.9: module.features(
            inputs, training, momentum
        )
    )
    for training in (True, False):
        module.__call__.get_concrete_function(ANY_SIZE, training, tf.TensorSpec([]))
    return module


def of_images_alone():
    module = Network()
    module.__call__ = tf.function(
        lambda images: module.features(images, training=False),
        input_signature=[ANY_SIZE],
    )
    return module


def by_hand(module, training):
    """Returns features, and the means after the step."""
    x = module.maps(IMAGES).numpy()
    means = x.mean((0, 1, 2)) if training else np.ones(4)
    moved = 0.9 + 0.1 * means if training else means
    return (x - means).max((1, 2)), moved


@pytest.mark.parametrize('training', [False, True])
@pytest.mark.parametrize(
    'make', [of_a_tensor, of_two_functions, of_a_momentum, of_images_alone]
)
def test_evaluation_and_training_are_read(tmp_path, make, training):
    module = make()
    tf.saved_model.save(module, str(tmp_path / 'm'))
    found = saved_functions.read(tmp_path / 'm')
    assert found.images == ANY_SIZE
    network = found.trace(tf.TensorSpec([None, 6, 6, 3]), training=training)
    moves = training and make is not of_images_alone
    features, mean = by_hand(module, moves)
    values = {w.name: w.value for w in network.weights}
    np.testing.assert_array_equal(values['conv/kernel:0'], module.kernel)
    assert [w.name for w in network.weights if w.trainable] == ['conv/kernel:0']
    given = [w.value for w in network.weights]
    output, moved = tf.function(network.inline_step)(given, IMAGES)
    np.testing.assert_allclose(output, features, rtol=1e-5, atol=1e-6)
    assert len(moved) == moves
    if moves:
        assert network.weights[network.moved[0]].name == 'norm/mean:0'
        np.testing.assert_allclose(moved[0], mean, rtol=1e-5)


def test_weights_are_the_same_in_both_phases(tmp_path):
    tf.saved_model.save(of_two_functions(), str(tmp_path / 'm'))
    backbone = backbones.load(tmp_path / 'm', image_size=6)
    names = [w.name for w in backbone.functional.weights]
    assert [w.name for w in backbone.trace(training=True).weights] == names
    assert backbone.keras_model is None


def test_what_keras_saves_is_read(tmp_path):
    images = tf.keras.Input((6, 6, 3))
    x = tf.keras.layers.Conv2D(4, 3)(images)
    x = tf.keras.layers.BatchNormalization(momentum=0.5)(x)
    model = tf.keras.Model(images, tf.keras.layers.GlobalMaxPooling2D()(x))
    model.save(tmp_path / 'm', save_format='tf')
    found = saved_functions.read(tmp_path / 'm')
    for training in (False, True):
        network = found.trace(tf.TensorSpec([None, 6, 6, 3]), training=training)
        given = [w.value for w in network.weights]
        output, moved = tf.function(network.inline_step)(given, IMAGES)
        expected = model(IMAGES, training=training)
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)
        by_name = {w.name: w.numpy() for w in model.weights}
        for number, value in zip(network.moved, moved, strict=True):
            name = network.weights[number].name
            np.testing.assert_allclose(value, by_name[name], rtol=1e-4, atol=1e-6)
    assert len(moved) == 2


def of_two_sizes():
    module = Network()
    module.__call__ = tf.function(lambda x: module.features(x, False))
    for side in (6, 8):
        module.__call__.get_concrete_function(tf.TensorSpec([None, side, side, 3]))
    return module


def of_a_gradient_of_its_own():
    module = Network()

    @tf.custom_gradient
    def reversed_gradient(x):
        return tf.identity(x), lambda gradient: -gradient

    def call(images):
        return reversed_gradient(module.features(images, False))

    module.__call__ = tf.function(call, input_signature=[ANY_SIZE])
    return module


def of_several_outputs():
    module = Network()

    def call(images):
        return {'default': module.features(images, False), 'maps': module.maps(images)}

    module.__call__ = tf.function(call, input_signature=[ANY_SIZE])
    return module


@pytest.mark.parametrize(
    'make', [of_two_sizes, of_a_gradient_of_its_own, of_several_outputs]
)
def test_what_else_there_is_is_left_to_the_loader(tmp_path, make):
    module = make()
    tf.saved_model.save(module, str(tmp_path / 'm'))
    assert saved_functions.read(tmp_path / 'm') is None
    backbone = backbones.load(tmp_path / 'm', image_size=6)
    features, _ = by_hand(module, training=False)
    np.testing.assert_allclose(backbone(IMAGES), features, rtol=1e-4, atol=1e-5)
    weights = backbone.functional.weights
    kernel = next(w.value for w in weights if w.name == 'conv/kernel:0')
    network = backbone.functional

    @tf.function
    def gradient(value):
        with tf.GradientTape() as tape:
            tape.watch(value)
            values = [value if w.value is kernel else w.value for w in weights]
            total = tf.reduce_sum(network(values, IMAGES))
        return tape.gradient(total, value)

    with tf.GradientTape() as tape:
        total = tf.reduce_sum(module.features(IMAGES, False))
    sign = -1 if make is of_a_gradient_of_its_own else 1
    np.testing.assert_allclose(
        gradient(tf.constant(kernel)),
        sign * tape.gradient(total, module.kernel),
        rtol=1e-4,
        atol=1e-5,
    )
