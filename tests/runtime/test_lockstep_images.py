"""What many clients do to images at a time is what TensorFlow does for each."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from test_lockstep_rules import CLIENTS, alone, floats, many

from tff_transfer.runtime.lockstep.values import NotVectorizedError

EXPLICIT = [[0, 0], [1, 0], [1, 1], [0, 0]]
# Of images and kernels, which are each client's.
EACH = [(True, True), (False, True), (True, False)]
together = functools.partial(many, own_kernels=True)


def given(shapes, each):
    """Draws what each client has, or all have."""
    shapes = zip(shapes, each, strict=True)
    return [floats(*[CLIENTS] * of_each, *shape) for shape, of_each in shapes]


def assert_same(function, arrays, each):
    for ours, theirs in zip(
        together(function, arrays, each), alone(function, arrays, each), strict=True
    ):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6 * scale)


def convolved(kind, stride, padding):
    """Returns what gives a convolution of a kind and its gradients."""
    how = {'strides': [1, stride, stride, 1], 'padding': padding}
    if padding is EXPLICIT:
        how |= {'padding': 'EXPLICIT', 'explicit_paddings': sum(EXPLICIT, [])}
    of_kernel = getattr(tf.raw_ops, f'{kind}BackpropFilter')
    of_images = getattr(tf.raw_ops, f'{kind}BackpropInput')

    def function(x, kernel):
        made = getattr(tf.raw_ops, kind)(input=x, filter=kernel, **how)
        how_back = how | {'out_backprop': tf.sin(made)}
        return [
            made,
            of_kernel(input=x, filter_sizes=tf.shape(kernel), **how_back),
            of_images(input_sizes=tf.shape(x), filter=kernel, **how_back),
        ]

    return function


@pytest.mark.parametrize(
    ('stride', 'padding'),
    [
        pytest.param(*case, marks=[] if case == (2, 'SAME') else pytest.mark.slow)
        for case in itertools.product((1, 2, 3), ('SAME', 'VALID', EXPLICIT))
    ],
)
def test_convolutions_and_their_gradients(stride, padding):
    for each in EACH:
        arrays = given([(2, 9, 8, 3), (3, 2, 3, 4)], each)
        assert_same(convolved('Conv2D', stride, padding), arrays, each)


def test_a_product_of_channels_and_apart_entries():
    """1 x 1 kernels, and ones with zeros between their entries, of a larger reach."""

    def apart(x, pointwise, kernel):
        made = tf.nn.conv2d(x, pointwise, 1, 'VALID')
        wide = tf.nn.conv2d(x, kernel, 1, 'SAME', dilations=2)
        if not tf.executing_eagerly():  # TensorFlow has none on processors.
            return [made, wide, *tf.gradients(tf.nn.l2_loss(wide), [x, kernel])]
        # The same kernel with the zeros written out.
        size = 2 * tf.shape(kernel)[0] - 1
        at = tf.stack(tf.meshgrid([0, 2, 4], [0, 2, 4], indexing='ij'), -1)
        full = tf.scatter_nd(at, kernel, [size, size, *kernel.shape[2:]])
        with tf.GradientTape() as tape:
            tape.watch([x, full])
            loss = tf.nn.l2_loss(tf.nn.conv2d(x, full, 1, 'SAME'))
        of_images, of_kernel = tape.gradient(loss, [x, full])
        return [made, wide, of_images, of_kernel[::2, ::2]]

    for each in EACH[:2]:
        each = (*each, True)
        arrays = given([(2, 6, 7, 3), (1, 1, 3, 4), (3, 3, 3, 2)], each)
        assert_same(apart, arrays, each)


@pytest.mark.parametrize('each', EACH)
def test_convolutions_channel_by_channel(each):
    arrays = given([(2, 6, 8, 3), (3, 3, 3, 2)], each)
    assert_same(convolved('DepthwiseConv2dNative', 2, 'SAME'), arrays, each)


def test_pooling_and_its_gradients():
    how = {'ksize': [1, 2, 2, 1], 'strides': [1, 2, 2, 1], 'padding': 'SAME'}

    def pooled(x):
        most, mean = (
            tf.nn.max_pool2d(x, 2, 2, 'SAME'),
            tf.nn.avg_pool2d(x, 2, 2, 'SAME'),
        )
        of_most = tf.raw_ops.MaxPoolGrad(
            orig_input=x, orig_output=most, grad=tf.sin(most), **how
        )
        of_mean = tf.raw_ops.AvgPoolGrad(
            orig_input_shape=tf.shape(x), grad=tf.sin(mean), **how
        )
        return [most, mean, of_most, of_mean]

    assert_same(pooled, given([(2, 7, 6, 3)], [True]), [True])


@pytest.mark.parametrize('training', [True, False])
def test_batch_norm_has_each_clients_statistics(training):
    def normalized(x, scale, offset):
        mean = tf.zeros([0]) if training else offset
        variance = mean if training else tf.square(scale)
        how = {'is_training': training, 'epsilon': 1e-3}
        made = tf.raw_ops.FusedBatchNormV3(
            x=x, scale=scale, offset=offset, mean=mean, variance=variance, **how
        )
        gradients = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=tf.sin(made[0]), x=x, scale=scale,
            reserve_space_1=made[3] if training else mean,
            reserve_space_2=made[4] if training else variance,
            reserve_space_3=made[5], **how,
        )  # fmt: skip
        return [*made[:3], *gradients[:3]]

    for each in [(True, True, True), (False, True, True), (True, False, True)]:
        assert_same(normalized, given([(4, 5, 6, 3), (3,), (3,)], each), each)


@pytest.mark.parametrize(
    ('function', 'why'),
    [
        (
            lambda x, k: [
                tf.raw_ops.Conv2DBackpropInput(
                    input_sizes=tf.shape(x), filter=k, strides=[1] * 4,
                    out_backprop=tf.nn.conv2d(
                        x, k, 1, [[0, 0], [3, 0], [0, 0], [0, 0]]
                    ),
                    padding='EXPLICIT', explicit_paddings=[0, 0, 3, 0, 0, 0, 0, 0],
                )
            ],
            'there are more zeros than the kernel reaches',
        ),
        (
            lambda x, k: tf.nn.conv2d(x, k[:, :, :1, :3], 1, 'SAME'),
            'kernels do not take all channels',
        ),
    ],
)  # fmt: skip
def test_what_has_no_form_is_named(function, why):
    each = (True, True)
    with pytest.raises(NotVectorizedError, match=why):
        together(function, given([(2, 5, 5, 3), (2, 2, 3, 4)], each), each)
