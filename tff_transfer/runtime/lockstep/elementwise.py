"""Rules of operations on entries: they broadcast, and the clients' axis is first."""

import tensorflow as tf

from tff_transfer.runtime.lockstep.values import Node, Value, lift, like, rule


def aligned(inputs: list[Value]) -> list[tf.Tensor]:
    """Returns tensors that broadcast as the clients' own do."""
    rank = max(value.rank for value in inputs)
    return [
        lift(v.tensor, rank - v.rank) if v.batched and v.rank < rank else v.tensor
        for v in inputs
    ]


@rule(
    'Abs', 'Acos', 'Acosh', 'Asin', 'Asinh', 'Atan', 'Atanh', 'Cast', 'Ceil',
    'CheckNumerics', 'Cos', 'Cosh', 'Digamma', 'Elu', 'Erf', 'Erfc', 'Erfinv', 'Exp',
    'Expm1', 'Floor', 'Identity', 'Inv', 'Invert', 'IsFinite', 'IsInf', 'IsNan',
    'LeakyRelu', 'Lgamma', 'Log', 'Log1p', 'LogSoftmax', 'LogicalNot', 'Neg',
    'OnesLike', 'PreventGradient', 'Reciprocal', 'Relu', 'Relu6', 'Rint', 'Round',
    'Rsqrt', 'Selu', 'Sigmoid', 'Sign', 'Sin', 'Sinh', 'Snapshot', 'Softmax',
    'Softplus', 'Softsign', 'Sqrt', 'Square', 'StopGradient', 'Tan', 'Tanh',
    'ZerosLike',
)  # fmt: skip
def of_one(node: Node):
    """An operation on each entry, or each last axis, of one tensor."""
    return like(node.op, [node.inputs[0].tensor])


@rule(
    'Add', 'AddV2', 'Atan2', 'BitwiseAnd', 'BitwiseOr', 'BitwiseXor', 'Div', 'DivNoNan',
    'Equal', 'FloorDiv', 'FloorMod', 'Greater', 'GreaterEqual', 'LeftShift', 'Less',
    'LessEqual', 'LogicalAnd', 'LogicalOr', 'Maximum', 'Minimum', 'Mod', 'Mul',
    'MulNoNan', 'NextAfter', 'NotEqual', 'Pow', 'RealDiv', 'RightShift', 'SelectV2',
    'SquaredDifference', 'Sub', 'TruncateDiv', 'TruncateMod', 'Xdivy', 'Xlog1py',
    'Xlogy',
)  # fmt: skip
def of_several(node: Node):
    """An operation on tensors that broadcast."""
    return like(node.op, aligned(node.inputs))


@rule(
    'AddN', 'EluGrad', 'InvGrad', 'LeakyReluGrad', 'ReciprocalGrad', 'Relu6Grad',
    'ReluGrad', 'RsqrtGrad', 'SeluGrad', 'SigmoidGrad', 'SoftplusGrad', 'SoftsignGrad',
    'SqrtGrad', 'TanhGrad',
)  # fmt: skip
def of_the_same_shape(node: Node):
    """An operation on tensors of one shape."""
    return like(node.op, [node.batched(i) for i in range(len(node.inputs))])


@rule('Select')
def select(node: Node):
    """A choice by a condition for all, or for each entry."""
    condition, first, _ = node.inputs
    if condition.rank not in (0, first.rank):
        raise ValueError('the condition is one of rows')
    return tf.raw_ops.SelectV2(
        **dict(zip(('condition', 't', 'e'), aligned(node.inputs), strict=True))
    )


@rule('ClipByValue')
def clip(node: Node):
    """Values between bounds, which may be each client's."""
    value, low, high = node.inputs
    at_most = Value(tf.minimum(*aligned([value, high])), True)
    return tf.maximum(*aligned([at_most, low]))


@rule('BiasAdd')
def bias_add(node: Node):
    """A bias on the last axis."""
    node.check_channels_last()
    value, bias = node.inputs
    if value.batched and not bias.batched:
        return like(node.op, [value.tensor, bias.tensor])
    return tf.add(*aligned(node.inputs))


@rule('BiasAddGrad')
def bias_add_grad(node: Node):
    """The sum over all axes but the last."""
    node.check_channels_last()
    return tf.reduce_sum(node.inputs[0].tensor, list(range(1, node.inputs[0].rank)))
