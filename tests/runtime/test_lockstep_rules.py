"""What many clients do at a time is what TensorFlow gives for each."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.runtime.lockstep.values import NotVectorizedError, Value, stack
from tff_transfer.runtime.lockstep.vectorize import Vectorizer

CLIENTS = 3
DRAW = np.random.default_rng(5)


def floats(*shape):
    return DRAW.normal(size=shape).astype(np.float32)


def ints(most, *shape):
    return DRAW.integers(0, most, shape).astype(np.int32)


def of_one(array, each, known):
    shape = array.shape[1:] if each else array.shape
    return tf.TensorSpec(shape if known else [None] * len(shape), array.dtype)


def many(function, given, each, known=True, *, own_kernels=False):
    """Returns what all clients' inputs give, vectorised, as arrays [clients, ...]."""
    specs = [of_one(a, e, known) for a, e in zip(given, each, strict=True)]
    one = tf.function(function, autograph=False).get_concrete_function(*specs)

    @tf.function(autograph=False)
    def run(*tensors):
        clients = tf.constant([CLIENTS])
        values = [Value(t, e) for t, e in zip(tensors, each, strict=True)]
        made = Vectorizer(clients, own_kernels=own_kernels).graph(one.graph, values)
        return [stack(value, clients) for value in made]

    return [t.numpy() for t in run(*map(tf.constant, given))]


def alone(function, given, each):
    """Returns what TensorFlow gives for each client, stacked."""
    results = []
    for client in range(CLIENTS):
        mine = [a[client] if e else a for a, e in zip(given, each, strict=True)]
        made = tf.nest.flatten(function(*map(tf.constant, mine)))
        results.append([np.asarray(tensor) for tensor in made])
    return [np.stack(of_all) for of_all in zip(*results, strict=True)]


def of_entries(x, y, v, s):
    relu = tf.nn.relu(x)
    return [
        x + y, x * v, v - x, s * x, x / s, tf.maximum(x, s), tf.pow(tf.abs(x), s * s),
        tf.where(x > y, x, s), tf.where(s > 0.0, x, y), tf.add_n([x, y, x]),
        tf.math.divide_no_nan(x, v), tf.cast(x > 0.0, tf.int32), -x, tf.sqrt(tf.abs(x)),
        tf.clip_by_value(x, -s * s, s * s), tf.clip_by_value(x, -0.1, 0.2),
        tf.raw_ops.ReluGrad(gradients=y, features=relu), tf.zeros_like(x),
        tf.math.is_finite(x / 0.0), tf.equal(x, y), tf.math.log1p(tf.abs(x)),
        tf.nn.softmax(x), tf.nn.log_softmax(x), tf.sigmoid(s), tf.tanh(v),
        tf.nn.bias_add(x, v), tf.raw_ops.BiasAddGrad(out_backprop=x),
        tf.raw_ops.Select(condition=x > 0.0, x=x, y=y), tf.stop_gradient(v) * s,
    ]  # fmt: skip


def of_axes(x, y, v, s):
    return [
        tf.reduce_sum(x), tf.reduce_sum(x, 0), tf.reduce_mean(x, -1, keepdims=True),
        tf.reduce_max(x, [0, 1]), tf.reduce_all(x > 0.0, 1), tf.argmax(x, -1),
        tf.argmin(x, 0), tf.cumsum(x, 0), tf.cumsum(x, -1, exclusive=True),
        tf.reverse(x, [0]), tf.shape(x), tf.size(x), tf.rank(x), tf.nn.l2_loss(x),
        tf.reshape(x, [-1]), tf.reshape(x, [1, -1, 2]), x[tf.newaxis],
        x[..., tf.newaxis],
        tf.squeeze(x[:, tf.newaxis], 1), tf.transpose(x), tf.concat([x, y], 0),
        tf.concat([x, v[tf.newaxis]], -2), tf.stack([x, y], 1), tf.stack([s, s * 2.0]),
        tf.stack([v, v], -1), *tf.unstack(x, 4, 0), *tf.split(x, 2, 1),
        *tf.split(x, [1, 3], 0), tf.tile(x, [2, 1]), tf.fill([2, 3], s),
        tf.broadcast_to(v, [4, 2]), tf.pad(x, [[1, 0], [0, 2]]), x[1:, 0], x[::2],
        x[-1], x[..., 1], x[:, tf.newaxis, ::-1], tf.slice(x, [1, 0], [2, 1]),
        tf.slice(x, [1, 0], [-1, 2]), tf.ensure_shape(x, [None, 2]),
    ]  # fmt: skip


def of_places(x, i, j, n, m):
    """Of x [4, 2], i [3] < 4, j [] < 4, n [5, 2], which all have, and m [5] < 5."""
    return [
        tf.gather(x, i), tf.gather(x, i[:2] // 2, axis=1), tf.gather(n, i),
        tf.gather(x, [3, 0]), tf.gather(n, i // 2, axis=1), x[j], n[j],
        tf.gather_nd(x, i[:, tf.newaxis]), tf.gather_nd(n, i[:, tf.newaxis]),
        tf.gather_nd(x, [[1, 1], [0, 1]]), tf.one_hot(i, 4), tf.one_hot(i, 4, axis=0),
        tf.one_hot(j, 4, 2.0, 1.0), tf.gather(x, m[:1]),
        tf.tensor_scatter_nd_update(x, i[:1, tf.newaxis], n[:1]),
        tf.tensor_scatter_nd_add(n, i[:, tf.newaxis], x[:3]),
        tf.tensor_scatter_nd_max(x, i[:, tf.newaxis], tf.ones([3, 2])),
    ]  # fmt: skip


def of_products(x, w, n, y, square):
    """Of x [4, 2], w [2, 5], n [2, 5], which all have, y [4] < 5, square [2, 2]."""
    logits, others = tf.matmul(x, w), tf.matmul(x, n)
    cross = tf.nn.sparse_softmax_cross_entropy_with_logits
    positive = tf.matmul(square, square, transpose_b=True) + tf.eye(2)
    return [
        logits, others, tf.matmul(w, x, transpose_a=True, transpose_b=True),
        tf.matmul(n, x, transpose_a=True, transpose_b=True),
        tf.matmul(n, w, transpose_b=True), cross(y, logits), cross(y % 2, x),
        tf.nn.softmax_cross_entropy_with_logits(tf.one_hot(y, 5), others),
        tf.raw_ops.SparseSoftmaxCrossEntropyWithLogits(features=logits, labels=y)[1],
        tf.matmul(x[tf.newaxis], n), tf.linalg.inv(positive),
        tf.linalg.cholesky(positive), tf.linalg.solve(positive, tf.transpose(x)),
        tf.linalg.diag(x), tf.linalg.diag_part(square), tf.math.top_k(x, 1)[0],
    ]  # fmt: skip


def with_control(x, s):
    """Branches of each client's own, of all, and loops of as many steps for all."""
    mine = tf.cond(s > 0.0, lambda: x * 2.0, lambda: tf.zeros_like(x))
    inner = tf.cond(
        s > 0.0,
        lambda: tf.cond(s > 0.5, lambda: x, lambda: x + s),
        lambda: tf.ones_like(x),
    )
    of_all = tf.cond(
        tf.size(x) > 3,
        lambda: (x - 1.0, tf.constant(2.0)),
        lambda: (tf.zeros([4, 2]), s),
    )
    looped = tf.while_loop(
        lambda i, *_: i < 3,
        lambda i, t, c: (i + 1, t + x * tf.cast(i, tf.float32), c * 2.0),
        (0, tf.zeros([4, 2]), tf.constant(1.0)),
    )
    own = tf.while_loop(
        lambda i, *_: tf.cast(i, tf.float32) < 5.0 * s,
        lambda i, t, c: (i + 1, t + x[i] * c, c),
        (0, tf.zeros([2]), tf.constant(3.0)),
    )
    return [mine, inner, *of_all, *looped, *own]


X, Y, V, S = floats(CLIENTS, 4, 2), floats(CLIENTS, 4, 2), floats(CLIENTS, 2), None
# By which branches are chosen, and numbers of steps, of which x has no fifth.
S = np.array([-0.6, 0.3, 0.75], np.float32)
SQUARE = floats(CLIENTS, 2, 2)
CASES = {
    'entries': (of_entries, (X, Y, V, S), (True, True, True, True)),
    'entries, some alike': (of_entries, (X, Y[0], V, S[1]), (True, False, True, False)),
    'entries, others alike': (
        of_entries, (X[0], Y, V[0], S), (False, True, False, True),
    ),
    'axes': (of_axes, (X, Y, V, S), (True, True, True, True)),
    'axes, some alike': (of_axes, (X, Y[0], V[0], S), (True, False, False, True)),
    'places': (
        of_places,
        (X, ints(4, CLIENTS, 3), ints(4, CLIENTS), floats(5, 2), ints(4, 5)),
        (True, True, True, False, False),
    ),
    'places that all have': (
        of_places,
        (X, ints(4, 3), np.int32(2), floats(5, 2), ints(4, 5)),
        (True, False, False, False, False),
    ),
    'products': (
        of_products,
        (X, floats(CLIENTS, 2, 5), floats(2, 5), ints(5, CLIENTS, 4), SQUARE),
        (True, True, False, True, True),
    ),
    'control': (with_control, (X, S), (True, True)),
}  # fmt: skip


# With shapes that are not known, but for their ranks.
OPEN = ('entries', 'products', 'control')
QUICK = ('entries', 'axes', 'places', 'products', 'control')


@pytest.mark.parametrize(
    ('case', 'known'),
    [
        *(c if c[0] in QUICK else pytest.param(*c, marks=pytest.mark.slow)
          for c in itertools.product(CASES, [True])),
        *(pytest.param(c, False, marks=pytest.mark.slow) for c in OPEN),
    ],
)  # fmt: skip
def test_each_client_gets_what_it_gets_alone(case, known):
    function, given, each = CASES[case]
    found = many(function, given, each, known)
    expected = alone(function, given, each)
    assert len(found) == len(expected)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(
            ours, theirs, rtol=1e-5, atol=1e-6, err_msg=f'result {number}'
        )


@pytest.mark.parametrize('size', [1, 300])
def test_products_of_few_and_of_many_numbers(size):
    """Three clients' products, by either of TensorFlow's kernels."""
    x, y = floats(CLIENTS, 2, size), floats(CLIENTS, size, 3 * size)
    given = [x, y, x, y.swapaxes(1, 2), x.swapaxes(1, 2), floats(size, 3 * size)]
    each = [True] * 5 + [False]

    def products(x, y, _, z, v, shared):
        return [
            x @ y,
            tf.matmul(x, z, transpose_b=True),
            tf.matmul(v, y, transpose_a=True),
            tf.matmul(v, shared, transpose_a=True),
        ]

    made = many(products, given, each)
    for array in made[:3]:
        np.testing.assert_allclose(array, x @ y, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(made[3], x @ given[5], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ('function', 'why'),
    [
        (lambda x: tf.unique(x[:, 0])[0], 'Unique .*: it has no form'),
        (lambda x: tf.range(tf.cast(x[0, 0], tf.int32)), 'Range .*: it has no form'),
        (lambda x: tf.fill([tf.cast(x[0, 0], tf.int32)], 1.0), 'Fill .*: dims is not'),
        (
            lambda x: tf.nn.conv2d(x[None, ..., None], x[..., None, None], 1, 'SAME'),
            'Conv2D .*: kernels of each client take longer together on processors',
        ),
        (
            lambda x: tf.cond(
                x[0, 0] > 0.0, lambda: tf.linalg.inv(x[:2]), lambda: x[:2]
            ),
            'MatrixInverse .*: some clients do it, and others do not',
        ),
        (lambda x: tf.numpy_function(lambda a: a, [x], tf.float32), 'no form'),
        (
            lambda x: tf.raw_ops.ReadVariableOp(
                resource=tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[]),
                dtype=tf.float32,
            ),
            'ReadVariableOp .*: a variable is read before it is given a value',
        ),
        (
            lambda x: tf.raw_ops.VariableShape(
                input=tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])
            ),
            'VariableShape .*: it has no form for many clients at a time',
        ),
    ],
)
def test_what_has_no_form_is_named(function, why):
    with pytest.raises(NotVectorizedError, match=why):
        many(function, (X,), (True,))


def with_variables(x, s):
    """Variables that branches, loops and calls change."""
    anonymous = 'cd2c89b7-88b7-44c8-ad83-06c2a9158347'
    raw = tf.raw_ops

    def variable(value):
        handle = raw.VarHandleOp(
            dtype=value.dtype, shape=value.shape, shared_name=anonymous
        )
        raw.AssignVariableOp(resource=handle, value=value)
        return handle

    def read(handle):
        return raw.ReadVariableOp(resource=handle, dtype=tf.float32)

    def add(handle, value):
        raw.AssignAddVariableOp(resource=handle, value=value)
        return read(handle)

    total, count = variable(tf.zeros([4, 2])), variable(tf.constant(1.0))
    initialized = raw.VarIsInitializedOp(resource=total)
    before = add(total, x)
    # Of some clients alone, of all, and in both branches.
    mine = tf.cond(s > 0.0, lambda: add(total, 2.0 * x), lambda: add(count, s) + x)
    of_all = tf.cond(tf.size(x) > 3, lambda: add(count, 1.0), lambda: add(count, 2.0))
    # As many steps for all, and as many as each client's number asks for.
    looped = tf.while_loop(lambda i: i < 3, lambda i: (add(count, 0.5), i + 1)[1:], [0])
    own = tf.while_loop(
        lambda i: tf.cast(i, tf.float32) < 5.0 * s,
        lambda i: (add(total, x * tf.cast(i + 1, tf.float32)), i + 1)[1:],
        [0],
    )
    raw.AssignSubVariableOp(resource=count, value=s)
    rows = raw.ResourceGather(resource=total, indices=[3, 0], dtype=tf.float32)
    return [
        initialized,
        before,
        mine,
        of_all,
        looped,
        own,
        read(total),
        read(count),
        rows,
    ]


def test_variables_are_each_clients():
    each = (True, True)
    found = many(with_variables, (X, S), each)
    function = tf.function(with_variables, autograph=False)
    expected = alone(function, (X, S), each)
    for number, pair in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_allclose(*pair, rtol=1e-6, err_msg=f'result {number}')


def test_checks_are_of_all_clients_that_come_to_them():
    def checked(s):
        def branch():
            with tf.control_dependencies([tf.debugging.Assert(s > 0.5, ['small', s])]):
                return tf.identity(s)

        return tf.cond(s > 0.2, branch, lambda: tf.constant(0.0))

    wanted = np.array([0.1, 0.6, 0.9], np.float32)
    (found,) = many(checked, (wanted,), (True,))
    np.testing.assert_array_equal(found, [0, wanted[1], wanted[2]])
    with pytest.raises(tf.errors.InvalidArgumentError, match='small'):
        many(checked, (wanted - 0.2,), (True,))


def test_each_client_draws_for_itself():
    def draw(s):
        return tf.random.normal([1000]) + s, tf.random.uniform([], 0, 2**30, tf.int32)

    normal, number = many(draw, (np.zeros(CLIENTS, np.float32),), (True,))
    assert len(np.unique(normal)) > 2900 and len(np.unique(number)) == CLIENTS
    assert np.abs(np.corrcoef(normal)[np.triu_indices(CLIENTS, 1)]).max() < 0.15


def test_draws_by_a_key_are_those_of_the_client_alone():
    def draw(seed):
        uniform = tf.random.stateless_uniform([4], seed)
        return uniform, tf.random.experimental.stateless_shuffle(tf.range(9), seed)

    seeds = ints(99, CLIENTS, 2)
    for ours, theirs in zip(
        many(draw, (seeds,), (True,)), alone(draw, (seeds,), (True,)), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
