"""BatchNorm that is aggregated, and FedBN, against NumPy, Keras and stock TFF."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import backbones, models, runtime
from tff_transfer.algorithms import compose, computations
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.algorithms.fed_babu import FedBABU
from tff_transfer.algorithms.fed_recon import FedRecon
from tff_transfer.algorithms.method import Context
from tff_transfer.data.cohorts import Cohort
from tff_transfer.features.scaling import Standardisation
from tff_transfer.models import finetuning
from tff_transfer.networks import batch_norm

CLASSES, RATE = 3, 0.05
DRAW = np.random.default_rng(0)
X = DRAW.random((9, 4, 4, 3)).astype(np.float32)
Y = DRAW.integers(0, CLASSES, 9).astype(np.int32)
ALIKE = Standardisation(np.zeros(5, np.float32), np.ones(5, np.float32))


def network():
    """BatchNorm first, so that what it sees is known, and once more inside."""
    images = tf.keras.Input((4, 4, 3))
    x = tf.keras.layers.BatchNormalization(momentum=0.99)(images)
    x = tf.keras.layers.Conv2D(5, 3, kernel_initializer='he_normal')(x)
    x = tf.keras.layers.BatchNormalization(momentum=0.99)(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.ReLU()(x))
    return tf.keras.Model(images, x)


def model(keras, cosine=False, **statistics):
    backbone = backbones.load(keras)
    return finetuning.finetuned(
        (traced := backbone.functional),
        finetuning.whole(traced),
        models.mlp((5,), CLASSES, cosine=cosine),
        ALIKE,
        tf.TensorSpec([None, 4, 4, 3]),
        statistics=batch_norm.find(backbone.trace(training=True)),
        **statistics,
    )


def cohort(splits, batch_size=3):
    examples = collections.OrderedDict(x=X, y=Y)
    return Cohort(examples, np.array(splits), batch_size)


FED_AVG = FedAvg()


def composed(made, options=FED_AVG):
    sgd = tff.learning.optimizers.build_sgdm
    context = Context(made, sgd(RATE), sgd(1.0))
    return context, compose.compose(options.build(context), context)


def copy_of(keras):
    copy = tf.keras.models.clone_model(keras)
    copy.set_weights(keras.get_weights())
    return copy


def central_step(keras, x, y):
    """Returns a Keras network and head after one step with the batch's statistics."""
    head = tf.keras.layers.Dense(CLASSES, kernel_initializer='zeros')
    whole = tf.keras.Sequential([keras, head])
    whole.build((None, 4, 4, 3))
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.GradientTape() as tape:
        value = loss(y, whole(x, training=True))
    variables = whole.trainable_variables
    for variable, gradient in zip(
        variables, tape.gradient(value, variables), strict=True
    ):
        variable.assign_sub(RATE * gradient)
    return [v.numpy() for v in variables]


@pytest.fixture(scope='module')
def trained():
    """A network and the process that trains it, its statistics too."""
    keras = network()
    return keras, composed(model(keras))[1].process


def test_one_client_and_one_step_are_a_central_step(trained):
    keras, process = trained
    keras = copy_of(keras)
    with runtime.use_compiled():
        state = process.next(process.initialize(), cohort([0, 9], 9)).state
        found = process.get_model_weights(state)
    for ours, theirs in zip(found.trainable, central_step(keras, X, Y), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_server_moves_towards_the_statistics_of_all_examples(trained):
    _, process = trained
    with runtime.use_compiled():
        # Clients of six, none and three examples, in batches of three.
        state = process.next(process.initialize(), cohort([0, 6, 6, 9])).state
        weights = process.get_model_weights(state)
    first_mean, _, first_variance, _ = weights.non_trainable
    kept = computations.MOMENTUM
    np.testing.assert_allclose(
        first_mean, (1 - kept) * X.mean(axis=(0, 1, 2)), rtol=1e-5
    )
    batches = X.reshape(3, -1, 3)  # Within a batch with Bessel's correction.
    within = batches.var(axis=1, ddof=1).mean(axis=0)
    between = batches.mean(axis=1).var(axis=0)
    expected = kept + (1 - kept) * (within + between)
    np.testing.assert_allclose(first_variance, expected, rtol=1e-5)


def test_without_examples_the_statistics_stay(trained):
    _, process = trained
    with runtime.use_compiled():
        start = process.initialize()
        state = process.next(start, cohort([0, 0])).state
        before, after = map(process.get_model_weights, (start, state))
    for old, new in zip(before.non_trainable, after.non_trainable, strict=True):
        np.testing.assert_array_equal(old, new)


def test_what_fed_bn_keeps_differs_by_client_and_does_not_travel():
    keras = network()
    made = model(keras, local=True)
    context, of_clients = composed(made)
    with runtime.use_compiled():
        start = of_clients.process.initialize()
        kept = [of_clients.kept] * 3
        state, _, kept = of_clients.process.next(start, cohort([0, 5, 9, 9], 9), kept)
    # Kernel and bias of the convolution and of the head; two scales and two shifts.
    assert [w.shape for w in state.server.weights] == [
        (3, 3, 3, 5),
        (5,),
        (5, CLASSES),
        (CLASSES,),
    ]
    copies = []
    for part in (slice(0, 5), slice(5, 9)):
        copies.append(central_step(copy_of(keras), X[part], Y[part]))
    for number, (mine, part) in enumerate(
        zip(copies, (slice(0, 5), slice(5, 9)), strict=True)
    ):
        own = context.join(state.server.weights, kept[number].personal)
        for place in made.statistics.scales:
            np.testing.assert_allclose(own[place], mine[place], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            kept[number].statistics[0], X[part].mean(axis=(0, 1, 2)), rtol=1e-5
        )
    # The rest is the mean of both, by examples.
    averaged = context.join(state.server.weights, kept[0].personal)
    for place in set(range(len(copies[0]))) - made.statistics.scales:
        expected = (5 * copies[0][place] + 4 * copies[1][place]) / 9
        np.testing.assert_allclose(averaged[place], expected, rtol=1e-4, atol=1e-6)
    # A client without examples has what it had.
    for ours, theirs in zip(
        tf.nest.flatten(kept[2]), tf.nest.flatten(of_clients.kept), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def after_one_step(made, options):
    """Returns the weights of a client that took a step alone."""
    context, of_clients = composed(made, options)
    assert len(of_clients.kept.personal) == len(made.statistics.scales)
    with runtime.use_compiled():
        start = of_clients.process.initialize()
        state, _, (kept,) = of_clients.process.next(
            start, cohort([0, 9], 9), [of_clients.kept]
        )
    shared = options.build(context).evaluated(state.server)
    return context.join(shared, kept.personal)


@pytest.fixture(scope='module')
def with_fed_bn():
    """A model of which clients keep BatchNorm, and federated averaging's step."""
    made = model(network(), cosine=True, local=True)
    return made, after_one_step(made, FED_AVG)


@pytest.mark.slow
@pytest.mark.parametrize('options', [FedBABU(), FedRecon()])
def test_a_head_that_begins_anew_goes_with_fed_bn(options, with_fed_bn):
    made, expected = with_fed_bn
    ours = after_one_step(made, options)
    initial = made.functional.initial_weights[0]
    for number in made.parts['head']:
        np.testing.assert_array_equal(ours[number], initial[number])
    scales = made.statistics.scales  # Of the last layer's; others have no gradient.
    assert max(np.abs(ours[n] - initial[n]).max() for n in scales) > 1e-4
    if isinstance(options, FedBABU):  # It takes a step from the same weights.
        for number in made.parts['body']:
            np.testing.assert_allclose(
                ours[number], expected[number], rtol=1e-4, atol=1e-6
            )


@pytest.mark.slow
@pytest.mark.parametrize('local', [pytest.param(False, marks=pytest.mark.walk), True])
def test_stock_and_compiled_agree(local):
    made = model(network(), local=local)
    _, of_clients = composed(made)
    process = of_clients.process
    results = []
    for use in (runtime.use_stock, runtime.use_compiled):
        with use():
            state = process.initialize()
            kept = [of_clients.kept] * 3 if local else []
            for _ in range(5):
                more = (kept,) if local else ()
                output = process.next(state, cohort([0, 5, 9, 9]), *more)
                state = output[0]
                kept = output[2] if local else kept
        results.append(tf.nest.flatten((state, kept)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_representation_is_of_the_same_batch_as_its_statistics():
    made = model(network())
    weights = made.functional.initial_weights
    logits, statistics = made.statistics.step(weights, X)
    found, representation, measured = made.representation(weights, X, training=True)
    np.testing.assert_array_equal(found, logits)
    for ours, expected in zip(measured, statistics, strict=True):
        np.testing.assert_array_equal(ours, expected)
    kernel = np.random.default_rng(0).normal(size=(5, CLASSES)).astype(np.float32)
    others = ((*weights[0][:-2], kernel, weights[0][-1]), weights[1])
    found, again, _ = made.representation(others, X, training=True)
    np.testing.assert_array_equal(again, representation)
    np.testing.assert_allclose(found, again @ kernel, rtol=1e-5, atol=1e-6)
    found, _, measured = made.representation(others, X, training=False)
    expected = made.functional.predict_on_batch(others, X, training=False)
    np.testing.assert_array_equal(found, expected)
    assert measured == ()
