"""Rules of products, linear algebra, and of losses that take rows of logits."""

import tensorflow as tf

from tff_transfer.runtime.lockstep.values import Node, lift, like, rule


@rule('MatMul')
def mat_mul(node: Node):
    """A product of matrices, of which one or both are each client's."""
    a, b = node.inputs
    adjoint = {
        'adj_x': node.attr('transpose_a'),
        'adj_y': node.attr('transpose_b'),
    }
    if not b.batched and not adjoint['adj_x']:
        # One product of all clients' rows.
        inner = tf.shape(a.tensor)
        rows = tf.reshape(a.tensor, tf.stack([-1, inner[2]]))
        (product,) = like(node.op, [rows, b.tensor])
        return tf.reshape(product, tf.concat([inner[:2], tf.shape(product)[1:]], 0))
    return tf.raw_ops.BatchMatMulV2(x=a.tensor, y=b.tensor, **adjoint)


@rule('BatchMatMul', 'BatchMatMulV2', 'BatchMatMulV3')
def batch_mat_mul(node: Node):
    """Products of many matrices, whose leading axes broadcast."""
    if node.op.type == 'BatchMatMul':
        return like(node.op, [node.batched(0), node.batched(1)])
    rank = max(value.rank for value in node.inputs)
    tensors = [
        lift(v.tensor, rank - v.rank) if v.batched else v.tensor for v in node.inputs
    ]
    return like(node.op, tensors)


@rule(
    'Cholesky', 'MatrixBandPart', 'MatrixDeterminant', 'MatrixDiagPartV3',
    'MatrixDiagV3', 'MatrixInverse', 'Qr', 'SelfAdjointEigV2', 'Svd', 'TopKV2',
)  # fmt: skip
def of_last_axes(node: Node):
    """An operation on each of many matrices, or last axes; the rest are settings."""
    others = [node.shared(i) for i in range(1, len(node.inputs))]
    return like(node.op, [node.inputs[0].tensor, *others])


@rule('MatrixSolve', 'MatrixTriangularSolve')
def of_pairs(node: Node):
    """An operation on each of many pairs of matrices."""
    return like(node.op, [node.batched(0), node.batched(1)])


@rule('L2Loss')
def l2_loss(node: Node):
    """Half the sum of squares."""
    tensor = node.inputs[0].tensor
    axes = list(range(1, node.inputs[0].rank + 1))
    return tf.reduce_sum(tf.square(tensor), axes) / 2


def _flat(tensor: tf.Tensor) -> tf.Tensor:
    """Returns [clients, rows, classes] as [clients * rows, classes]."""
    classes = tensor.shape[-1]
    classes = tf.shape(tensor)[-1] if classes is None else classes
    return tf.reshape(tensor, [-1, classes])


@rule('SparseSoftmaxCrossEntropyWithLogits', 'SoftmaxCrossEntropyWithLogits')
def cross_entropy(node: Node):
    """The loss of each row, and its gradient."""
    sparse = node.op.type.startswith('Sparse')
    logits, labels = node.batched(0), node.places(1) if sparse else node.batched(1)
    of_rows = tf.reshape(labels, [-1]) if sparse else _flat(labels)
    loss, gradient = like(node.op, [_flat(logits), of_rows])
    shape = tf.shape(logits)
    return [tf.reshape(loss, shape[:2]), tf.reshape(gradient, shape)]
