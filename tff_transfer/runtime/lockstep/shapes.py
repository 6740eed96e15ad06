"""Rules of operations on axes: sums over them, and what moves entries about."""

import numpy as np
import tensorflow as tf

from tff_transfer.runtime.lockstep.values import Node, Value, lift, like, rule


def _shifted(axes: tf.Tensor, rank: int) -> tf.Tensor:
    """Returns axes of one client's tensor, of a rank, as those of all clients'."""
    known = tf.get_static_value(axes)
    if known is not None:
        return tf.constant(np.where(known < 0, known + rank, known) + 1, axes.dtype)
    return tf.where(axes < 0, axes + rank, axes) + 1


def _next(axis: int) -> int:
    """Returns an axis with one more before it."""
    return axis + 1 if axis >= 0 else axis


def _attr(value) -> tf.compat.v1.AttrValue:
    """Returns an attribute: an integer or a list of them."""
    if isinstance(value, list):
        made = tf.compat.v1.AttrValue()
        made.list.i.extend(value)
        return made
    return tf.compat.v1.AttrValue(i=value)


@rule(
    'All', 'Any', 'ArgMax', 'ArgMin', 'EuclideanNorm', 'Max', 'Mean', 'Min', 'Prod',
    'Sum', 'Cumsum', 'Cumprod', 'ReverseV2',
)  # fmt: skip
def over_axes(node: Node):
    """An operation over axes."""
    value, _ = node.inputs
    if not value.batched:
        raise ValueError('the axes are not the same for all clients')
    return like(node.op, [value.tensor, _shifted(node.inputs[1].tensor, value.rank)])


@rule('Shape')
def shape(node: Node):
    """The shape, which all clients' values have."""
    tensor = node.inputs[0].tensor
    dtype = tf.as_dtype(node.attr('out_type'))
    return [Value(tf.shape(tensor, dtype)[1:], False)]


@rule('ShapeN')
def shapes(node: Node):
    """The shapes, which all clients' values have."""
    dtype = tf.as_dtype(node.attr('out_type'))
    return [
        Value(tf.shape(v.tensor, dtype)[1:] if v.batched else tf.shape(v.tensor, dtype),
              False)
        for v in node.inputs
    ]  # fmt: skip


@rule('Size')
def size(node: Node):
    """The number of entries, which all clients' values have."""
    dtype = tf.as_dtype(node.attr('out_type'))
    tensor = node.inputs[0].tensor
    return [Value(tf.reduce_prod(tf.shape(tensor, dtype)[1:]), False)]


@rule('Rank')
def rank(node: Node):
    """The rank."""
    return [Value(tf.constant(node.inputs[0].rank), False)]


@rule('Reshape')
def reshape(node: Node):
    """Another shape."""
    return tf.reshape(node.inputs[0].tensor, node.longer(node.shared(1)))


@rule('EnsureShape')
def ensure_shape(node: Node):
    """A shape that is checked."""
    found = tf.TensorShape(node.attr('shape'))
    if found.rank is None:
        return node.inputs[0].tensor
    return tf.ensure_shape(node.inputs[0].tensor, [None, *found])


@rule('ExpandDims')
def expand_dims(node: Node):
    """One more axis."""
    axis = tf.get_static_value(node.shared(1))
    if axis is None:
        raise ValueError('the axis is no constant')
    return tf.expand_dims(node.inputs[0].tensor, _next(int(axis)))


@rule('Squeeze')
def squeeze(node: Node):
    """Axes of length 1 left out."""
    axes = list(node.attr('squeeze_dims'))
    if not axes:
        of_client = node.op.inputs[0].shape
        if not of_client.is_fully_defined():
            raise ValueError('which axes are left out is not known')
        axes = [i for i, length in enumerate(of_client) if length == 1]
    if not axes:
        return node.inputs[0].tensor
    return tf.squeeze(node.inputs[0].tensor, [_next(axis) for axis in axes])


@rule('Transpose')
def transpose(node: Node):
    """Axes in another order."""
    return tf.transpose(node.inputs[0].tensor, tf.concat([[0], node.shared(1) + 1], 0))


@rule('ConcatV2')
def concat(node: Node):
    """Tensors joined along an axis."""
    last = len(node.inputs) - 1
    axis = _shifted(node.shared(last), node.inputs[0].rank)
    return tf.concat([node.batched(i) for i in range(last)], axis)


@rule('Pack')
def pack(node: Node):
    """Tensors joined along a new axis."""
    tensors = [node.batched(i) for i in range(len(node.inputs))]
    return tf.stack(tensors, _next(node.attr('axis')))


@rule('Unpack')
def unpack(node: Node):
    """What is at each place of an axis."""
    return like(node.op, [node.inputs[0].tensor], axis=_attr(_next(node.attr('axis'))))


@rule('Split')
def split(node: Node):
    """Equal parts of an axis."""
    value = node.inputs[1]
    return like(node.op, [_shifted(node.shared(0), value.rank), value.tensor])


@rule('SplitV')
def split_v(node: Node):
    """Parts of an axis."""
    value = node.inputs[0]
    axis = _shifted(node.shared(2), value.rank)
    return like(node.op, [value.tensor, node.shared(1), axis])


@rule('Tile')
def tile(node: Node):
    """A tensor repeated along its axes."""
    return tf.tile(node.inputs[0].tensor, tf.concat([[1], node.shared(1)], 0))


@rule('Fill')
def fill(node: Node):
    """One entry of each client repeated."""
    dims = node.shared(0)
    rank = dims.shape[0]
    if rank is None:
        raise ValueError('the rank of what is filled is not known')
    whole = tf.concat([tf.cast(node.clients, dims.dtype), dims], 0)
    return tf.broadcast_to(lift(node.inputs[1].tensor, rank), whole)


@rule('BroadcastTo')
def broadcast_to(node: Node):
    """A tensor repeated to a shape."""
    value, to = node.inputs[0], node.shared(1)
    if to.shape[0] is None:
        raise ValueError('the rank of the shape is not known')
    whole = tf.concat([tf.cast(node.clients, to.dtype), to], 0)
    return tf.broadcast_to(lift(value.tensor, to.shape[0] - value.rank), whole)


@rule('Pad', 'PadV2')
def pad(node: Node):
    """A tensor with more entries about it."""
    paddings = node.shared(1)
    longer = tf.concat([tf.zeros([1, 2], paddings.dtype), paddings], 0)
    rest = [node.shared(i) for i in range(2, len(node.inputs))]
    return like(node.op, [node.inputs[0].tensor, longer, *rest])


@rule('Slice')
def slice_(node: Node):
    """A part of each axis."""
    begin, size = node.shared(1), node.shared(2)
    begin = tf.concat([tf.zeros([1], begin.dtype), begin], 0)
    size = tf.concat([-tf.ones([1], size.dtype), size], 0)
    return tf.slice(node.inputs[0].tensor, begin, size)


def _masks(node: Node) -> dict:
    """Returns the attributes of a slice with all of a further first axis."""
    masks = {}
    for name in ('begin', 'end', 'ellipsis', 'new_axis', 'shrink_axis'):
        whole = name in ('begin', 'end')
        masks[f'{name}_mask'] = _attr((node.attr(f'{name}_mask') << 1) | whole)
    return masks


@rule('StridedSlice')
def strided_slice(node: Node):
    """Parts of axes, or entry number i where that is each client's."""
    value, begin = node.inputs[:2]
    if begin.batched:
        return _entry(node)
    bounds = [node.shared(i) for i in (1, 2, 3)]
    firsts = [tf.constant([i], b.dtype) for i, b in zip((0, 0, 1), bounds, strict=True)]
    longer = [tf.concat([f, b], 0) for f, b in zip(firsts, bounds, strict=True)]
    return like(node.op, [value.tensor, *longer], **_masks(node))


def _entry(node: Node) -> tf.Tensor:
    """Returns the entry that each client names by its place in the first axis."""
    value, begin = node.inputs[:2]
    others = ('begin', 'end', 'ellipsis', 'new_axis')
    if (
        begin.tensor.shape[1:] != [1]
        or node.attr('shrink_axis_mask') != 1
        or any(node.attr(f'{name}_mask') for name in others)
    ):
        raise ValueError('each client takes a part of another length')
    place = node.places(1)[:, 0]
    return tf.gather(value.tensor, place, batch_dims=int(value.batched))


@rule('StridedSliceGrad')
def strided_slice_grad(node: Node):
    """Zeros but for a slice."""
    of, *bounds = (node.shared(i) for i in range(4))
    of = tf.concat([tf.cast(node.clients, of.dtype), of], 0)
    firsts = [tf.constant([i], b.dtype) for i, b in zip((0, 0, 1), bounds, strict=True)]
    longer = [tf.concat([f, b], 0) for f, b in zip(firsts, bounds, strict=True)]
    return like(node.op, [of, *longer, node.batched(4)], **_masks(node))


@rule('GatherV2')
def gather(node: Node):
    """Entries by their places."""
    values, places, axis = node.inputs
    axis = tf.get_static_value(node.shared(2))
    if axis is None or node.attr('batch_dims') < 0:
        raise ValueError('the axis is no constant')
    axis, leading = int(axis), node.attr('batch_dims')
    axis = axis + values.rank if axis < 0 else axis
    if not values.batched and not axis:
        return tf.gather(values.tensor, node.places(1))
    if not places.batched and not leading and node.active is None:
        return tf.gather(values.tensor, places.tensor, axis=axis + 1)
    return tf.gather(
        node.batched(0), node.places(1), axis=axis + 1, batch_dims=leading + 1
    )


@rule('GatherNd')
def gather_nd(node: Node):
    """Entries by their places along several axes."""
    if not node.inputs[0].batched:
        return like(node.op, [node.inputs[0].tensor, node.places(1)])
    return tf.gather_nd(node.batched(0), node.places(1), batch_dims=1)


@rule('TensorScatterAdd', 'TensorScatterMax', 'TensorScatterMin', 'TensorScatterSub',
      'TensorScatterUpdate')  # fmt: skip
def tensor_scatter(node: Node):
    """Entries changed at their places."""
    tensor, places, updates = node.batched(0), node.places(1), node.batched(2)
    shape = tf.shape(places)
    ones = tf.ones_like(shape[1:])
    numbers = tf.reshape(
        tf.range(tf.cast(shape[0], places.dtype)), tf.concat([shape[:1], ones], 0)
    )
    of_client = tf.broadcast_to(numbers, tf.concat([shape[:-1], [1]], 0))
    return like(node.op, [tensor, tf.concat([of_client, places], -1), updates])


@rule('OneHot')
def one_hot(node: Node):
    """A vector with one entry for each index."""
    axis = _attr(_next(node.attr('axis')))
    rest = [node.shared(i) for i in (1, 2, 3)]
    return like(node.op, [node.inputs[0].tensor, *rest], axis=axis)
