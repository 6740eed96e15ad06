"""Each of TFF's processes gives on both runtimes the same."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import walks

from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort

FEATURES, CLASSES, BATCH = 6, 3, 4
SGD = tff.learning.optimizers.build_sgdm(0.1, 0.9)
SERVER = tff.learning.optimizers.build_adam(0.1)
SPEC = collections.OrderedDict(
    x=tf.TensorSpec([None, FEATURES], tf.float32), y=tf.TensorSpec([None], tf.int32)
)


def keras_model():
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input((FEATURES,)),
            tf.keras.layers.Dense(
                5, 'relu', kernel_initializer=tf.keras.initializers.GlorotUniform(1)
            ),
            tf.keras.layers.Dense(
                CLASSES, kernel_initializer=tf.keras.initializers.GlorotUniform(2)
            ),
        ]
    )


def loss():
    return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def metrics():
    return collections.OrderedDict(
        loss=tf.keras.metrics.SparseCategoricalCrossentropy(from_logits=True),
        accuracy=tf.keras.metrics.SparseCategoricalAccuracy(),
        examples=tff.learning.metrics.NumExamplesCounter(),
        batches=tff.learning.metrics.NumBatchesCounter(),
    )


@functools.cache
def functional_model():
    return tff.learning.models.functional_model_from_keras(
        keras_model(), loss(), SPEC, metrics_constructor=metrics
    )


def model_fn():
    return tff.learning.models.from_keras_model(
        keras_model(), loss=loss(), input_spec=SPEC, metrics=list(metrics().values())
    )


def cohort(round_number, sizes=(10, 0, 3, 9, 1), batch_size=BATCH):
    draw = np.random.default_rng(round_number)
    rows = sum(sizes)
    examples = collections.OrderedDict(
        x=draw.normal(size=(rows, FEATURES)).astype(np.float32),
        y=draw.integers(0, CLASSES, rows).astype(np.int32),
    )
    return Cohort(examples, np.append(0, np.cumsum(sizes)), batch_size)


def fed_avg(aggregator=None, build=tff.learning.algorithms.build_weighted_fed_avg):
    def make(model):
        return build(model, SGD, SERVER, model_aggregator=aggregator and aggregator())

    return make


def fed_sgd(model):
    return tff.learning.algorithms.build_fed_sgd(model, SERVER)


def fed_prox(model):
    return tff.learning.algorithms.build_weighted_fed_prox(model, 0.3, SGD, SERVER)


def mime(model):
    return tff.learning.algorithms.build_weighted_mime_lite(
        model, base_optimizer=SGD, server_optimizer=SERVER
    )


def schedule(model):
    return tff.learning.algorithms.build_weighted_fed_avg_with_optimizer_schedule(
        model,
        lambda round_number: 0.1 / tf.cast(round_number + 1, tf.float32),
        tff.learning.optimizers.build_sgdm,
        SERVER,
    )


def k_means(_):
    return tff.learning.algorithms.build_fed_kmeans(3, (FEATURES,), random_seed=(1, 2))


def with_iterator(model):
    return tff.learning.algorithms.build_weighted_fed_avg(
        model,
        SGD,
        SERVER,
        loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
    )


def reconstruction_model():
    return tff.learning.models.ReconstructionModel.from_keras_model_and_layers(
        keras := keras_model(),
        global_layers=keras.layers[:1],
        local_layers=keras.layers[1:],
        input_spec=SPEC,
    )


def reconstruction(_):
    return tff.learning.algorithms.build_fed_recon(
        reconstruction_model,
        loss_fn=loss,
        metrics_fn=lambda: [tf.keras.metrics.SparseCategoricalAccuracy()],
        server_optimizer_fn=SERVER,
        client_optimizer_fn=SGD,
        reconstruction_optimizer_fn=SGD,
        dataset_split_fn=tff.learning.models.ReconstructionModel.simple_dataset_split_fn,
    )


def points(round_number):
    """Unbatched examples, as k-means takes them."""
    return [d.unbatch().map(lambda e: e['x']) for d in cohort(round_number, (10, 3, 9))]


def datasets(round_number):
    return list(cohort(round_number))


unweighted = functools.partial(
    fed_avg, build=tff.learning.algorithms.build_unweighted_fed_avg
)
learning = tff.learning
CASES = {
    'weighted_fed_avg': (fed_avg(), functional_model, cohort),
    'weighted_fed_avg_of_datasets': (fed_avg(), functional_model, datasets),
    'weighted_fed_avg_of_variables': (fed_avg(), lambda: model_fn, cohort),
    'weighted_fed_avg_with_iterator': (with_iterator, functional_model, cohort),
    'unweighted_fed_avg': (unweighted(), functional_model, cohort),
    'fed_sgd': (fed_sgd, functional_model, cohort),
    'fed_sgd_of_variables': (fed_sgd, lambda: model_fn, cohort),
    'fed_prox': (fed_prox, functional_model, cohort),
    'fed_prox_of_variables': (fed_prox, lambda: model_fn, cohort),
    'mime_lite': (mime, functional_model, cohort),
    'optimizer_schedule': (schedule, functional_model, cohort),
    'fed_eval': (learning.algorithms.build_fed_eval, functional_model, cohort),
    'fed_eval_of_variables': (
        learning.algorithms.build_fed_eval,
        lambda: model_fn,
        cohort,
    ),
    'k_means': (k_means, lambda: None, points),
    'reconstruction': (reconstruction, lambda: None, cohort),
    'robust': (fed_avg(learning.robust_aggregator), functional_model, cohort),
    'compression': (
        fed_avg(lambda: learning.compression_aggregator(zeroing=False, clipping=True)),
        functional_model,
        cohort,
    ),
    'dp': (
        unweighted(lambda: learning.dp_aggregator(0.0, 5)),
        functional_model,
        cohort,
    ),
    'secure': (fed_avg(learning.secure_aggregator), functional_model, cohort),
}
# Each differs from the others in what TFF has a runtime do, and not in numbers alone.
# For lockstep, sessions and clusters each stands for others.
OF_EACH_KIND = (
    *('weighted_fed_avg', 'weighted_fed_avg_of_variables', 'mime_lite'),
    *('weighted_fed_avg_with_iterator', 'fed_eval', 'k_means', 'compression'),
)
# TFF's worker has no secure sums: there they are replaced by plain ones.
SECURE = ('secure',)


def run(process, data, rounds=5, next_fn=None):
    state = process.initialize()
    results = []
    for r in range(rounds):
        output = (next_fn or process.next)(state, data(r))
        state = output['state'] if isinstance(output, dict) else output.state
        results.append(output)
    return results


def assert_same(stock, compiled, rtol, scale=None):
    """Compares to `rtol` of `scale`, or else of the same tensor's largest entry."""
    for a, b in zip(tf.nest.flatten(stock), tf.nest.flatten(compiled), strict=True):
        assert type(a) is type(b)
        assert np.asarray(a).dtype == np.asarray(b).dtype
        if np.asarray(a).dtype.kind == 'f':
            largest = np.max(np.abs(a), initial=0) if scale is None else scale
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * largest)
        else:
            np.testing.assert_array_equal(a, b)


def assert_same_weights(stock, compiled):
    """Compares to 1e-6 of the model's largest weight."""
    scale = max(np.max(np.abs(w)) for w in tf.nest.flatten(stock))
    assert_same(stock, compiled, 1e-6, scale)


def weights_of(output):
    state = output['state'] if isinstance(output, dict) else output.state
    if isinstance(state, dict):
        return list(state['global_model_weights'].values())
    weights = getattr(state, 'global_model_weights', None)
    if isinstance(weights, tff.learning.models.ModelWeights):
        return [weights.trainable, weights.non_trainable]
    return weights


@pytest.fixture(scope='module')
def stock():
    with runtime.use_stock() as context:
        yield context


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(CASES, (*OF_EACH_KIND, 'dp', 'secure')))
def test_process_gives_the_same_on_both(name, stock):
    build, model, data = CASES[name]
    process = build(model())
    next_fn = None
    if name in SECURE:
        next_fn = tff.backends.test.replace_secure_intrinsics_with_bodies(process.next)
    with tff.framework.get_context_stack().install(stock):
        expected = run(process, data, next_fn=next_fn)
    with runtime.use_compiled(threads=2) as compiled:
        found = run(process, data)
        again = run(process, data)
        # The phases of initialize and next; more rounds and sizes trace no more.
        traces = compiled.program(process.next).traces
        process.next(found[-1].state, data(7))
        assert compiled.program(process.next).traces == traces
    for a, b in zip(expected, found, strict=True):
        if weights_of(a) is not None:
            assert_same_weights(weights_of(a), weights_of(b))
        # The transformation for secure sums gives dicts for TFF's classes.
        if name not in SECURE:
            tf.nest.assert_same_structure(a, b, check_types=True)
            assert_same(a.metrics, b.metrics, 1e-6)
            # Optimizers' moments are small differences of large numbers.
            assert_same(a, b, 1e-5)
    assert_same(found, again, 0)


def personalization(_):
    def build_sgd():
        @tf.function
        def personalize(model, train, test, context=None):
            steps = 0
            for batch in train.batch(BATCH):
                with tf.GradientTape() as tape:
                    output = model.forward_pass(batch)
                gradients = tape.gradient(output.loss, model.trainable_variables)
                for variable, gradient in zip(
                    model.trainable_variables, gradients, strict=True
                ):
                    variable.assign_sub(0.1 * gradient)
                steps += 1
            return collections.OrderedDict(steps=steps, loss=evaluate(model, test))

        return personalize

    @tf.function
    def evaluate(model, data):
        total = 0.0
        for batch in data.batch(BATCH):
            total += model.forward_pass(batch, training=False).loss
        return collections.OrderedDict(loss=total)

    return tff.learning.algorithms.build_personalization_eval_computation(
        model_fn, collections.OrderedDict(sgd=build_sgd), evaluate
    )


@pytest.mark.slow
def test_personalization_of_datasets_that_the_computation_batches(stock):
    """Variables, and datasets that are mapped before they are iterated over."""
    comp = personalization(None)
    weights = functional_model().initial_weights
    model = tff.learning.models.ModelWeights(*map(list, weights))
    data = [
        collections.OrderedDict(train_data=d.unbatch(), test_data=d.unbatch())
        for d in cohort(0)
    ]
    with tff.framework.get_context_stack().install(stock):
        expected = comp(model, data)
    with runtime.use_compiled(threads=2):
        found = comp(model, data)
    # Clients are sampled, so their order is nobody's.
    for a, b in zip(tf.nest.flatten(expected), tf.nest.flatten(found), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.sort(a), np.sort(b), rtol=1e-6)


def test_rounds_are_the_clients_steps_in_numpy():
    """FedAvg of one step for each client of a linear model, by hand."""
    model = tff.learning.models.functional_model_from_keras(
        tf.keras.Sequential(
            [
                tf.keras.layers.Input((FEATURES,)),
                tf.keras.layers.Dense(1, use_bias=False, kernel_initializer='ones'),
            ]
        ),
        tf.keras.losses.MeanSquaredError(),
        (
            tf.TensorSpec([None, FEATURES], tf.float32),
            tf.TensorSpec([None, 1], tf.float32),
        ),
    )
    process = tff.learning.algorithms.build_weighted_fed_avg(
        model,
        tff.learning.optimizers.build_sgdm(0.1),
        tff.learning.optimizers.build_sgdm(1.0),
    )
    draw = np.random.default_rng(3)
    sizes = [5, 2, 9]
    x = draw.normal(size=(16, FEATURES)).astype(np.float32)
    y = draw.normal(size=(16, 1)).astype(np.float32)
    data = Cohort(collections.OrderedDict(x=x, y=y), np.append(0, np.cumsum(sizes)), 4)
    with runtime.use_compiled():
        state = process.next(process.initialize(), data).state
    total = np.zeros([FEATURES, 1])
    for first, last in [(0, 5), (5, 7), (7, 16)]:
        w = np.ones([FEATURES, 1])
        for row in range(first, last, 4):
            rows = slice(row, min(row + 4, last))
            error = x[rows] @ w - y[rows]
            w = w - 0.1 * 2 * x[rows].T @ error / len(error)
        total += w * (last - first)
    found = state.global_model_weights.trainable[0]
    np.testing.assert_allclose(found, total / 16, rtol=1e-5)


@pytest.mark.slow
def test_distributed_dp_without_noise_is_the_mean_of_clipped_updates():
    """TFF's own runtime cannot run this one, nor TFF build it by itself."""
    one = tff.learning.optimizers.build_sgdm(1.0)
    aggregators = (
        tff.aggregators.clipping_factory(0.1, tff.aggregators.UnweightedMeanFactory()),
        tff.learning.ddp_secure_aggregator(1e-6, 5, bits=22, zeroing=False),
    )
    weights = []
    for aggregator in aggregators:
        process = tff.learning.algorithms.build_unweighted_fed_avg(
            functional_model(), SGD, one, model_aggregator=aggregator
        )
        with runtime.use_compiled():
            state = run(process, cohort, rounds=1)[0].state
        weights.append(state.global_model_weights.trainable)
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
