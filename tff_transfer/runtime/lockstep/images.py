"""Rules of what is done to images, by weights that all clients have or each its own.

What is the same for all is done to all clients' images side by side. A convolution by a
client's own kernel is a product of its images' patches, one a row, and the kernel as a
matrix (im2col: Chellapilla, Puri and Simard, "High performance convolutional neural
networks for document processing", 2006), and so are its gradients. What goes channel by
channel has the clients among the channels.
"""

import dataclasses

import tensorflow as tf
from tensorflow.python.framework import tensor_util

from tff_transfer.runtime.lockstep.values import Node, Value, like, rule

# The inputs that have an image for each example.
_IMAGES = {
    'AvgPool': [0],
    'AvgPoolGrad': [1],
    'Conv2D': [0],
    'Conv2DBackpropInput': [2],
    'DepthwiseConv2dNative': [0],
    'DepthwiseConv2dNativeBackpropInput': [2],
    'MaxPool': [0],
    'MaxPoolGrad': [0, 1, 2],
}
# Which input is the shape of images, or of a kernel.
_SHAPE = {
    'AvgPoolGrad': 0,
    'Conv2DBackpropInput': 0,
    'DepthwiseConv2dNativeBackpropFilter': 1,
    'DepthwiseConv2dNativeBackpropInput': 0,
}
# Which axis of inputs and results is that of channels; None for those without any.
_CHANNELS = {
    'DepthwiseConv2dNative': ((3, 2), (3,)),
    'DepthwiseConv2dNativeBackpropFilter': ((3, 2, 3), (2,)),
    'DepthwiseConv2dNativeBackpropInput': ((3, 2, 3), (3,)),
    'FusedBatchNormV3': ((3, 0, 0, 0, 0), (3, 0, 0, 0, 0, None)),
    'FusedBatchNormGradV3': ((3, 3, 0, 0, 0, None), (3, 0, 0, None, None)),
}


@dataclasses.dataclass(frozen=True)
class _Axis:
    """How a kernel goes over one axis of images.

    Attributes:
      length: The images' length.
      kernel: The kernel's.
      stride: How far it goes at a time.
      rate: How far its entries are apart.
      before: How many zeros there are before the images.
      after: And after them.
    """

    length: int
    kernel: int
    stride: int
    rate: int
    before: int
    after: int

    @classmethod
    def of(cls, node: Node, axis: int, length: int | None, kernel: int | None):
        """Makes it of an operation; `axis` is 1 or 2, the height or the width."""
        if length is None or kernel is None:
            raise ValueError('the size of images is not known')
        stride, rate = node.attr('strides')[axis], node.attr('dilations')[axis]
        zeros = (0, 0)
        if node.attr('padding') == b'EXPLICIT':
            zeros = node.attr('explicit_paddings')[2 * axis : 2 * axis + 2]
        elif node.attr('padding') == b'SAME':
            steps = -(-length // stride)
            more = max((steps - 1) * stride + (kernel - 1) * rate + 1 - length, 0)
            zeros = more // 2, more - more // 2
        return cls(length, kernel, stride, rate, *zeros)

    def backwards(self) -> '_Axis':
        """Returns how the kernel goes over gradients, `stride` apart, to images."""
        reach = (self.kernel - 1) * self.rate
        steps = (self.length + self.before + self.after - reach - 1) // self.stride
        length = steps * self.stride + 1
        before = reach - self.before
        after = self.length + reach - length - before
        if min(before, after) < 0:
            raise ValueError('there are more zeros than the kernel reaches')
        return _Axis(length, self.kernel, 1, self.rate, before, after)


@rule('AvgPool', 'AvgPoolGrad', 'MaxPool', 'MaxPoolGrad')
def side_by_side(node: Node):
    """An operation on images, by what is the same for all clients."""
    kind = node.op.type
    inputs = [
        _joined(node.batched(i)) if i in _IMAGES[kind] else node.shared(i)
        for i in range(len(node.inputs))
    ]
    first = _IMAGES[kind][0]
    if kind in _SHAPE:
        count = tf.shape(inputs[first])[:1]
        inputs[_SHAPE[kind]] = tf.concat([count, inputs[_SHAPE[kind]][1:]], 0)
    (result,) = like(node.op, inputs)
    outer = tf.shape(node.batched(first))[:2]
    return tf.reshape(result, tf.concat([outer, tf.shape(result)[1:]], 0))


@rule('Conv2D')
def convolution(node: Node):
    """A convolution."""
    images, kernels = node.inputs
    if not kernels.batched:
        return side_by_side(node)
    _check(node)
    axes = _axes(node, images.tensor.shape, kernels.tensor.shape)
    return _convolution(images.tensor, kernels.tensor, axes)


@rule('Conv2DBackpropFilter')
def kernel_gradient(node: Node):
    """The gradient of a convolution by its kernel."""
    _check(node)
    images, _, gradients = (value.tensor for value in node.inputs)
    shape = node.shared(1)
    patches = _patches(images, _axes(node, images.shape, _shape(shape)))
    made = tf.matmul(_rows(patches), _rows(gradients), transpose_a=True)
    return tf.reshape(made, tf.concat([tf.shape(made)[:1], shape], 0))


@rule('Conv2DBackpropInput')
def image_gradient(node: Node):
    """The gradient of a convolution by its images, or a transposed convolution."""
    _, kernels, gradients = node.inputs
    if not kernels.batched:
        return side_by_side(node)
    _check(node)
    axes = _axes(node, _shape(node.shared(0)), kernels.tensor.shape)
    turned = tf.einsum('cijab->cijba', tf.reverse(kernels.tensor, [1, 2]))
    apart = _apart(gradients.tensor, [axis.stride for axis in axes])
    return _convolution(apart, turned, [axis.backwards() for axis in axes])


@rule(*_CHANNELS)
def among_channels(node: Node):
    """An operation on each channel, or on each with a kernel of its own."""
    node.check_channels_last()
    kind = node.op.type
    if kind in _IMAGES and not node.inputs[1].batched:
        return side_by_side(node)
    if kind.startswith('Depthwise'):
        _check(node)
    of_inputs, of_results = _CHANNELS[kind]
    inputs = []
    for i, axis in enumerate(of_inputs):
        if axis is None:
            inputs.append(node.shared(i))
        elif _SHAPE.get(kind) == i:
            shape = node.shared(i)
            inputs.append(tf.where(tf.range(4) == axis, shape * node.clients, shape))
        else:
            inputs.append(_to_channels(node.batched(i), axis))
    return [
        Value(result, False)
        if axis is None
        else Value(_from_channels(result, axis, node.clients), True)
        for result, axis in zip(like(node.op, inputs), of_results, strict=True)
    ]


def _check(node: Node) -> None:
    """Refuses kernels of each client's own where they are not wanted."""
    if not node.here.own_kernels:
        raise ValueError(
            'kernels of each client take longer together on processors;'
            ' use_compiled(lockstep=True) has them go together'
        )


def _axes(node: Node, images: tf.TensorShape, kernels: tf.TensorShape) -> list[_Axis]:
    """Returns how kernels go over height and width.

    Args:
      node: The operation.
      images: The images' shape, [..., height, width, channels].
      kernels: The kernels' shape, [..., height, width, inputs, outputs].

    Raises:
      ValueError: The sizes are not known, or kernels take some of the channels.
    """
    node.check_channels_last()
    if images[-1] is None or images[-1] != kernels[-2]:
        raise ValueError('kernels do not take all channels')
    return [
        _Axis.of(node, axis, images[axis - 4], kernels[axis - 5]) for axis in (1, 2)
    ]


def _shape(tensor: tf.Tensor) -> tf.TensorShape:
    """Returns what is known of a shape."""
    return tensor_util.constant_value_as_shape(tensor)


def _convolution(images: tf.Tensor, kernels: tf.Tensor, axes: list[_Axis]) -> tf.Tensor:
    """Convolves images with each client's kernel.

    Args:
      images: Each client's, [clients, examples, height, width, inputs], or all's.
      kernels: [clients, height, width, inputs, outputs].
      axes: How the kernels go over the images.
    """
    patches = _patches(images, axes)
    shape = tf.shape(kernels)
    entries, outputs = tf.reduce_prod(shape[1:-1]), shape[-1]
    matrices = tf.reshape(kernels, tf.stack([-1, entries, outputs]))
    made = tf.matmul(_rows(patches), matrices)
    inner = [tf.shape(patches)[-4:-1], [kernels.shape[-1] or outputs]]
    return tf.reshape(made, tf.concat([shape[:1], *inner], 0))


def _patches(images: tf.Tensor, axes: list[_Axis]) -> tf.Tensor:
    """Returns what a kernel meets, [..., height, width, its entries]."""
    joined = images if images.shape.rank == 4 else _joined(images)
    zeros = [[axis.before, axis.after] for axis in axes]
    if any(map(any, zeros)):
        joined = tf.pad(joined, [[0, 0], *zeros, [0, 0]])
    if any(axis.kernel > 1 or axis.stride > 1 for axis in axes):
        sizes, strides, rates = (
            [1, *of_axes, 1]
            for of_axes in zip(
                *((a.kernel, a.stride, a.rate) for a in axes), strict=True
            )
        )
        joined = tf.image.extract_patches(joined, sizes, strides, rates, 'VALID')
    if images.shape.rank == 4:
        return joined
    inner = tf.shape(joined)[1:]
    return tf.reshape(joined, tf.concat([tf.shape(images)[:2], inner], 0))


def _apart(images: tf.Tensor, strides: list[int]) -> tf.Tensor:
    """Puts zeros between the rows and columns of [..., height, width, channels]."""
    if strides == [1, 1]:
        return images
    down, right = strides
    *outer, height, width, channels = tf.unstack(tf.shape(images), images.shape.rank)
    wide = tf.reshape(images, [*outer, height, 1, width, 1, channels])
    zeros = [[0, 0]] * (len(outer) + 1)
    zeros += [[0, down - 1], [0, 0], [0, right - 1], [0, 0]]
    made = tf.pad(wide, zeros)
    made = tf.reshape(made, [*outer, height * down, width * right, channels])
    return made[..., : (height - 1) * down + 1, : (width - 1) * right + 1, :]


def _rows(images: tf.Tensor) -> tf.Tensor:
    """Returns [..., examples, height, width, n] as matrices, [..., rows, n]."""
    shape = tf.shape(images)
    count = tf.reduce_prod(shape[-4:-1])
    return tf.reshape(images, tf.concat([shape[:-4], [count], shape[-1:]], 0))


def _joined(images: tf.Tensor) -> tf.Tensor:
    """Returns [clients, examples, ...] as [clients * examples, ...]."""
    shape = tf.shape(images)
    made = tf.reshape(images, tf.concat([[-1], shape[2:]], 0))
    return tf.ensure_shape(made, [None, *images.shape[2:]])


def _to_channels(tensor: tf.Tensor, axis: int) -> tf.Tensor:
    """Returns [clients, ..., channels, ...] as [..., clients * channels, ...]."""
    rank = tensor.shape.rank
    order = [*range(1, axis + 1), 0, *range(axis + 1, rank)]
    moved = tf.transpose(tensor, order)
    shape = tf.shape(moved)
    joined = shape[axis : axis + 1] * shape[axis + 1 : axis + 2]
    return tf.reshape(moved, tf.concat([shape[:axis], joined, shape[axis + 2 :]], 0))


def _from_channels(tensor: tf.Tensor, axis: int, clients: tf.Tensor) -> tf.Tensor:
    """Returns [..., clients * channels, ...] as [clients, ..., channels, ...]."""
    shape = tf.shape(tensor)
    channels = shape[axis : axis + 1] // clients
    apart = tf.concat([shape[:axis], clients, channels, shape[axis + 1 :]], 0)
    rank = tensor.shape.rank + 1
    order = [axis, *(i for i in range(rank) if i != axis)]
    return tf.transpose(tf.reshape(tensor, apart), order)
