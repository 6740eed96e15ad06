"""Rules of draws, which each client makes for itself, and of checks."""

import tensorflow as tf

from tff_transfer.runtime.lockstep.values import Node, Value, like, rule

# What each client draws anew though it is given the same: these have no rule for
# inputs that are each client's, but one for those that all have.
DRAWS = ('RandomStandardNormal', 'RandomUniform', 'RandomUniformInt', 'TruncatedNormal')
# What all clients must do, or none: it may fail for those for whom it is not meant.
OF_ALL = (
    'CheckNumerics', 'Cholesky', 'FloorDiv', 'FloorMod', 'MatrixInverse', 'MatrixSolve',
    'MatrixTriangularSolve', 'Mod', 'Qr', 'SelfAdjointEigV2', 'Svd', 'TruncateDiv',
    'TruncateMod',
)  # fmt: skip


@rule(*DRAWS)
def draw(node: Node):
    """A draw for each client, by a kernel whose state all share."""
    shape = node.shared(0)
    whole = tf.concat([tf.cast(node.clients, shape.dtype), shape], 0)
    rest = [node.shared(i) for i in range(1, len(node.inputs))]
    return like(node.op, [whole, *rest])


@rule(
    'StatelessMultinomial', 'StatelessRandomGammaV3', 'StatelessRandomGetKeyCounter',
    'StatelessRandomNormalV2', 'StatelessRandomPoisson',
    'StatelessRandomUniformFullIntV2', 'StatelessRandomUniformIntV2',
    'StatelessRandomUniformV2', 'StatelessShuffle', 'StatelessTruncatedNormalV2',
)  # fmt: skip
def one_by_one(node: Node):
    """A draw by each client's key: what it draws alone, so one after another."""

    def of_client(client):
        inputs = [v.tensor[client] if v.batched else v.tensor for v in node.inputs]
        return like(node.op, inputs)

    def body(client, *drawn):
        new = [
            array.write(client, tensor)
            for array, tensor in zip(drawn, of_client(client), strict=True)
        ]
        return (client + 1, *new)

    arrays = [
        tf.TensorArray(o.dtype, node.clients[0], element_shape=o.shape)
        for o in node.op.outputs
    ]
    _, *drawn = tf.while_loop(
        lambda client, *_: client < node.clients[0],
        body,
        (0, *arrays),
        parallel_iterations=1,
    )
    return [array.stack() for array in drawn]


@rule('Assert')
def check(node: Node):
    """A check of all clients that come to it."""
    condition = node.inputs[0].tensor
    if node.inputs[0].batched or node.active is not None:
        if node.active is not None:
            condition = tf.logical_or(condition, tf.logical_not(node.active))
        condition = tf.reduce_all(condition)
    like(node.op, [condition, *(v.tensor for v in node.inputs[1:])])
    return []


def chosen(active: tf.Tensor, first: Value, second: Value) -> Value:
    """Returns the first for active clients, bool [clients], and else the second."""
    tensors = [
        v.tensor if v.batched or not v.rank else tf.expand_dims(v.tensor, 0)
        for v in (first, second)
    ]
    condition = tf.reshape(active, [-1] + [1] * first.rank)
    return Value(tf.where(condition, *tensors), True)
