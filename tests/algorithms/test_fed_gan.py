"""FedGAN in both forms, beside a plain TensorFlow loop over Keras networks."""

import collections
import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import models, randomness, runtime
from tff_transfer.algorithms import compose, registry
from tff_transfer.algorithms.fed_gan import FedGAN
from tff_transfer.algorithms.method import Aggregate, Client, Context
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models.generative.adversaries import build
from tff_transfer.models.generative.gan import GAN

slow = pytest.mark.slow
SHAPE, CLASSES, LATENTS, BATCH, RATE, SEED = (8, 8, 1), 3, 4, 4, 0.3, 5
SIZES = (9, 4, 6)
# A convolution, an embedding and a dense layer: five arrays.
OF_DISCRIMINATOR = 5
DRAW = np.random.default_rng(2)
DATA = FederatedData(
    'spots',
    DRAW.random((sum(SIZES), *SHAPE), np.float32),
    DRAW.integers(0, CLASSES, sum(SIZES)).astype(np.int32),
    ('a', 'b', 'c'),
    np.array(SIZES),
    np.zeros(len(SIZES), int),
    CLASSES,
)
AVERAGED = FedGAN(generator_rate=1.5)
# Of the generator and of the discriminator.
RATES = (1.5 * RATE, RATE)
SERVER = FedGAN('server', generator_steps=3, generator_batch=5)


def cohort(clients, round_number=1):
    return training_cohort(
        DATA,
        clients,
        batch_size=BATCH,
        epochs=1,
        seed=SEED,
        round_number=round_number,
        keys=True,
        labels=True,
    )


@functools.cache
def context():
    sgd = tff.learning.optimizers.build_sgdm
    model = build(GAN(latent_size=LATENTS, width=2), SHAPE, CLASSES, seed=1)
    return Context(model, sgd(RATE), sgd(0.5, 0.9), seed=SEED)


@functools.cache
def composed(options):
    return compose.compose(options.build(context()), context())


def run(options, rounds, use=runtime.use_compiled):
    """Returns the states after rounds, each a list of clients or a cohort."""
    process, states = composed(options).process, []
    with use():
        state = process.initialize()
        for number, clients in enumerate(rounds, 1):
            batches = clients
            if isinstance(clients, list):
                batches = cohort(clients, number)
            state = process.next(state, batches).state
            states.append(state)
    return states


class Loop:
    """The same by Keras networks, their variables and one client after another."""

    def __init__(self):
        # A copy, since the model's own networks keep their weights.
        self.both = tf.keras.models.clone_model(context().model.network)
        self.both.set_weights(context().model.network.get_weights())
        self.generator = self.both.get_layer('generator')
        self.discriminator = self.both.get_layer('discriminator')
        self.entropy = tf.keras.losses.BinaryCrossentropy(from_logits=True)
        self.velocity = 0.0
        self.adam = tf.keras.optimizers.legacy.Adam(1e-3, beta_1=0.5)

    def losses(self, images, labels, key):
        latents = tf.random.stateless_normal([len(images), LATENTS], key + [0, 1])
        told = tf.one_hot(labels, CLASSES)
        fake = self.discriminator([self.generator([latents, told]), told])
        real = self.discriminator([images, told])
        ones, zeros = tf.ones_like(real), tf.zeros_like(fake)
        of_generator = self.entropy(ones, fake)
        return of_generator, self.entropy(ones, real) + self.entropy(zeros, fake)

    def client(self, x, trained):
        """Takes the steps of a client and returns its weights; forgets them then."""
        before = self.both.get_weights()
        for start in range(0, len(x['inputs']), BATCH):
            images, labels, keys = (
                x[name][start : start + BATCH] for name in ('inputs', 'label', 'key')
            )
            with tf.GradientTape(persistent=True) as tape:
                losses = self.losses(images, labels, keys[0])
            moves = [
                (variable, rate * tape.gradient(loss, variable))
                for loss, network, rate in zip(losses, trained, RATES, strict=True)
                for variable in (network.trainable_variables if network else ())
            ]
            for variable, gradient in moves:
                variable.assign_sub(gradient)
        after = self.both.get_weights()
        self.both.set_weights(before)
        return np.array([*after, None], object)[:-1]

    def mean(self, batches, trained):
        splits = batches.row_splits
        found = [
            self.client(
                {n: a[start:end] for n, a in batches.examples['x'].items()}, trained
            )
            for start, end in zip(splits, splits[1:], strict=False)
        ]
        return sum(
            weights * size for weights, size in zip(found, np.diff(splits), strict=True)
        ) / float(splits[-1])

    def server_step(self, mean):
        """Takes the step of SGD with momentum towards the clients' mean."""
        now = np.array([*self.both.get_weights(), None], object)[:-1]
        self.velocity = 0.9 * self.velocity + (now - mean)
        self.both.set_weights(list(now - 0.5 * self.velocity))

    def generator_steps(self, round_number):
        first = randomness.generator(SEED, 'generator steps').integers(2**31 - 1)
        for step in range(SERVER.generator_steps):
            key = tf.random.experimental.stateless_fold_in(
                tf.constant([first, round_number], tf.int32), step
            )
            count = SERVER.generator_batch
            latents = tf.random.stateless_normal([count, LATENTS], key + [0, 1])
            labels = tf.random.stateless_uniform(
                [count], key + [0, 3], 0, CLASSES, tf.int32
            )
            told = tf.one_hot(labels, CLASSES)
            variables = self.generator.trainable_variables
            with tf.GradientTape() as tape:
                fake = self.discriminator([self.generator([latents, told]), told])
                loss = self.entropy(tf.ones_like(fake), fake)
            self.adam.apply_gradients(
                zip(tape.gradient(loss, variables), variables, strict=True)
            )


def assert_weights(state, loop):
    expected = loop.both.get_weights()
    for ours, theirs in zip(state.server.weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


# One client, and some of different sizes.
ROUNDS = {'alone': [[0], [0], [2]], 'several': [[0, 1, 2], [1], [2, 0]]}


@slow
@pytest.mark.parametrize('rounds', [ROUNDS['alone'], ROUNDS['several']])
def test_clients_train_both_networks_which_are_averaged(rounds):
    loop = Loop()
    start = loop.both.get_weights()
    for number, (clients, state) in enumerate(
        zip(rounds, run(AVERAGED, rounds), strict=True), 1
    ):
        networks = (loop.generator, loop.discriminator)
        loop.server_step(loop.mean(cohort(clients, number), networks))
        assert_weights(state, loop)
    for before, after in zip(start, loop.both.get_weights(), strict=True):
        assert np.abs(after - before).max() > 1e-3


@pytest.mark.parametrize(
    'rounds', [pytest.param(ROUNDS['alone'], marks=slow), ROUNDS['several']]
)
def test_the_server_trains_the_generator_against_the_mean_discriminator(rounds):
    loop = Loop()
    start = loop.both.get_weights()
    for number, (clients, state) in enumerate(
        zip(rounds, run(SERVER, rounds), strict=True), 1
    ):
        loop.server_step(loop.mean(cohort(clients, number), (None, loop.discriminator)))
        loop.generator_steps(number)
        assert_weights(state, loop)
    for before, after in zip(start, loop.both.get_weights(), strict=True):
        assert np.abs(after - before).max() > 1e-3


@slow
def test_clients_of_the_server_form_send_the_discriminator_alone():
    weights = context().model.initial_weights
    sizes = [
        4 * sum(w.size for w in some) for some in (weights, weights[-OF_DISCRIMINATOR:])
    ]
    assert len(context().model.parts['discriminator']) == OF_DISCRIMINATOR
    # With its weight in the mean, and the round's number.
    made = {name: composed(of) for name, of in (('a', AVERAGED), ('s', SERVER))}
    assert made['a'].bytes_up == sizes[0] + 4 and made['s'].bytes_up == sizes[1] + 4
    assert made['a'].bytes_down == made['s'].bytes_down == sizes[0]


def one_step(seed, round_number):
    """Returns the server's state after a round in which clients moved nothing."""
    made = dataclasses.replace(context(), seed=seed)
    method = SERVER.build(made)
    state = method.initialize()
    nothing = tuple(tf.zeros_like(w) for w in state.weights[-OF_DISCRIMINATOR:])
    aggregate = Aggregate(nothing, {}, tf.constant(1.0), tf.constant(round_number))
    return method.server_update(state, aggregate).weights[0].numpy()


def test_what_the_server_draws_is_a_function_of_seed_and_round():
    first, again, later, other = (
        one_step(*of) for of in ((3, 1), (3, 1), (3, 2), (4, 1))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - later).max() > 1e-5
    assert np.abs(first - other).max() > 1e-5


def delta(batches):
    """Returns what a client sends of its discriminator's last bias and kernel."""
    method = SERVER.build(context())
    client = Client(batches, (), (), (), tf.constant(1))
    weights = tuple(map(tf.constant, context().initial))
    return np.concatenate(
        [np.ravel(d) for d in method.client_update(weights, client).delta]
    )


@slow
def test_what_a_client_draws_is_a_function_of_seed_round_client_and_step():
    alone, among = cohort([1])[0], cohort([0, 1, 2])[1]
    first = delta(alone)
    np.testing.assert_allclose(first, delta(among), rtol=1e-6, atol=1e-7)
    keys = {
        tuple(batch['x']['key'][0])
        for round_number in (1, 2)
        for client in (0, 1)
        for batch in cohort([client], round_number)[0].as_numpy_iterator()
    }
    assert len(keys) == 2 * (3 + 1)
    # The same examples with the keys of another round.
    x = collections.OrderedDict(
        cohort([1]).examples['x'], key=cohort([1], 2).examples['x']['key']
    )
    examples = collections.OrderedDict(cohort([1]).examples, x=x)
    other = dataclasses.replace(cohort([1]), examples=examples)[0]
    assert np.abs(first - delta(other)).max() > 1e-5


@pytest.mark.parametrize('options', [pytest.param(AVERAGED, marks=slow), SERVER])
def test_clients_without_a_finite_update_or_examples_count_for_nothing(options):
    (expected,) = run(options, [[0, 2]])
    made = cohort([0, 1, 2])
    x = made.examples['x']['inputs'].copy()
    x[made.row_splits[1]] = np.nan
    inputs = collections.OrderedDict(made.examples['x'], inputs=x)
    broken = dataclasses.replace(
        made, examples=collections.OrderedDict(made.examples, x=inputs)
    )
    empty = cohort([0, 2])
    empty = dataclasses.replace(
        empty, row_splits=np.insert(empty.row_splits, 1, empty.row_splits[1])
    )
    nobody = dataclasses.replace(cohort([0]), row_splits=np.array([0, 0, 0]))
    for batches in (broken, empty):
        (found,) = run(options, [batches])
        for ours, theirs in zip(
            tf.nest.flatten(found.server), tf.nest.flatten(expected.server), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    (after,) = run(options, [nobody])
    for ours, theirs in zip(
        after.server.weights, context().model.initial_weights, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@slow
@pytest.mark.parametrize('options', [AVERAGED, SERVER])
def test_equal_on_both_runtimes(options):
    rounds = ROUNDS['several']
    found, expected = (
        run(options, rounds, use)[-1]
        for use in (runtime.use_compiled, runtime.use_stock)
    )
    for ours, theirs in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@slow
@pytest.mark.parametrize(
    'options',
    [AVERAGED, pytest.param(SERVER, marks=pytest.mark.walk)],
    ids=['averaged', 'server'],
)
def test_equal_in_lockstep(options):
    """Clients have kernels of their own: convolutions, and transposed ones."""
    found = []
    for lockstep in (False, True):
        use = functools.partial(runtime.use_compiled, lockstep=lockstep)
        found.append(run(options, [[0, 1, 2], [2, 0]], use)[-1])
    with use():
        next_ = composed(options).process.next
        assert runtime.obstacles(next_) == ['' for _ in runtime.obstacles(next_)]
    for ours, theirs in zip(*map(tf.nest.flatten, found), strict=True):
        scale = np.abs(theirs).max(initial=0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-6 * scale)


def test_a_rate_of_the_generator_is_for_sgd():
    adam = tff.learning.optimizers.build_adam(RATE)
    made = dataclasses.replace(context(), client_optimizer=adam)
    FedGAN().build(made)
    with pytest.raises(UserError, match='defined for SGD on the clients; use --client'):
        AVERAGED.build(made)


def test_other_models_are_refused():
    made = dataclasses.replace(context(), model=models.mlp((4,), CLASSES))
    with pytest.raises(UserError, match='trains a generator and .*use --model=gan'):
        registry.options('fedgan')().build(made)
