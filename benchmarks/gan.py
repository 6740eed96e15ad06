"""A round of a GAN: compiled, on stock TFF, and as a plain TensorFlow loop.

  python -m benchmarks.gan

trains the default generator and discriminator on 28 x 28 images of some clients by
both forms of `fedgan`: the same process on this package's runtime and on TFF's, and a
loop over clients with one `tf.function` for a step, each a round in turn, in one
process. Ratios are medians over rounds of two times of the same turn, since the load of
a shared machine changes. Takes some minutes; writes `benchmarks/results/gan.md`.
"""

import collections
import pathlib
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks import machine, speed, workloads
from tff_transfer import algorithms, progress, randomness, runtime
from tff_transfer.algorithms.fed_gan import FedGAN
from tff_transfer.data.cohorts import Cohort
from tff_transfer.models import Model
from tff_transfer.models.generative.adversaries import build
from tff_transfer.models.generative.gan import GAN

CLIENTS, EXAMPLES, BATCH, ROUNDS = 20, 100, 20, 9
# At higher rates differences in the last digits grow until weights say nothing.
RATE = 0.001
FORMS = {
    'averaged': FedGAN(),
    'server': FedGAN('server', generator_learning_rate=1e-5),
}
OURS, STOCK, LOOP = 'compiled (ours)', 'stock TFF', 'TensorFlow loop'


def cohort() -> Cohort:
    """Returns the clients' examples, float32 in [0, 1], with a key for each."""
    work = workloads.images([EXAMPLES] * CLIENTS)
    draw = randomness.generator(workloads.SEED, 'benchmark keys')
    keys = draw.integers(0, 2**31 - 1, (len(work.y), 2), dtype=np.int32)
    inputs = work.x.astype(np.float32) / 255
    x = collections.OrderedDict(inputs=inputs, key=keys)
    examples = collections.OrderedDict(x=x, y=work.y)
    return Cohort(examples, work.row_splits, BATCH)


class Loop:
    """Both forms as one would write them in a script, without federation around.

    Args:
      model: The model, of whose networks it trains copies.
      options: The form.
    """

    def __init__(self, model: Model, options: FedGAN):
        self._options = options
        network = tf.keras.models.clone_model(model.network)
        network.set_weights(model.network.get_weights())
        self._generator = network.get_layer('generator')
        self._discriminator = network.get_layer('discriminator')
        self.variables = network.trainable_variables
        self._round = 0
        rate = options.generator_learning_rate
        self._adam = tf.keras.optimizers.legacy.Adam(rate, beta_1=0.5)
        self._adam._create_all_weights(self._generator.trainable_variables)
        self._step = tf.function(self._take_step)
        self._generator_step = tf.function(self._take_generator_step)

    def _take_step(self, images, key):
        generator, discriminator = self._generator, self._discriminator
        both = self._options.generator == 'averaged'
        with tf.GradientTape(persistent=both) as tape:
            latents = _latents(generator, len(images), key)
            real = discriminator(images, training=True)
            fake = discriminator(generator(latents, training=True), training=True)
            loss = tf.reduce_mean(tf.nn.softplus(-real) + tf.nn.softplus(fake))
            if both:
                fooled = tf.reduce_mean(tf.nn.softplus(-fake))
        own = discriminator.trainable_variables
        moves = list(zip(own, tape.gradient(loss, own), strict=True))
        if both:
            own = generator.trainable_variables
            moves += zip(own, tape.gradient(fooled, own), strict=True)
        for variable, gradient in moves:
            variable.assign_sub(RATE * gradient)

    def _take_generator_step(self, key):
        own = self._generator.trainable_variables
        with tf.GradientTape() as tape:
            latents = _latents(self._generator, self._options.generator_batch, key)
            fake = self._discriminator(self._generator(latents))
            loss = tf.reduce_mean(tf.nn.softplus(-fake))
        self._adam.apply_gradients(zip(tape.gradient(loss, own), own, strict=True))

    def next_round(self, x, splits) -> None:
        """Trains client after client, and takes the mean of their variables."""
        self._round += 1
        before = [variable.numpy() for variable in self.variables]
        change = [np.zeros_like(w) for w in before]
        for start, end in zip(splits, splits[1:], strict=False):
            for first in range(start, end, BATCH):
                rows = slice(first, min(first + BATCH, end))
                self._step(x['inputs'][rows], x['key'][first])
            share = (end - start) / splits[-1]
            for c, variable, weight in zip(change, self.variables, before, strict=True):
                c += share * (variable.numpy() - weight)
                variable.assign(weight)
        for c, variable in zip(change, self.variables, strict=True):
            variable.assign_add(c)
        if self._options.generator == 'server':
            seed = randomness.generator(0, 'generator steps').integers(2**31 - 1)
            keys = tf.constant([seed, self._round], tf.int32)
            for step in range(self._options.generator_steps):
                self._generator_step(
                    tf.random.experimental.stateless_fold_in(keys, step)
                )


def _latents(generator, count: int, key):
    return tf.random.stateless_normal([count, generator.input_shape[1]], key + [0, 1])


def steps(form: str, stock, compiled, clients: Cohort) -> dict[str, Callable]:
    """Returns a function that does a round, and gives the weights, of each way.

    Args:
      form: One of `FORMS`.
      stock: TFF's context.
      compiled: This package's.
      clients: The clients' examples.
    """
    model = build(GAN(conditional=False), (28, 28, 1), workloads.IMAGE_CLASSES)
    sgd = tff.learning.optimizers.build_sgdm(RATE)
    process = algorithms.process(FORMS[form], model, client_optimizer=sgd).process

    def on(context, data):
        with tff.framework.get_context_stack().install(context):
            state = process.initialize()

        def step():
            nonlocal state
            with tff.framework.get_context_stack().install(context):
                state = process.next(state, data).state
            return [np.asarray(weight) for weight in state.server.weights]

        return step

    loop = Loop(model, FORMS[form])
    x = tf.nest.map_structure(tf.constant, clients.examples['x'])
    splits = clients.row_splits.tolist()

    def by_loop():
        loop.next_round(x, splits)
        return [variable.numpy() for variable in loop.variables]

    return {OURS: on(compiled, clients), STOCK: on(stock, list(clients)), LOOP: by_loop}


def measure(folder: pathlib.Path) -> dict[str, dict]:
    """Returns, of each form and way, seconds of rounds and the weights' difference.

    Args:
      folder: Not used.
    """
    del folder
    clients, found = cohort(), {}
    with runtime.use_stock() as stock, runtime.use_compiled() as compiled:
        for form in FORMS:
            ways = steps(form, stock, compiled, clients)
            seconds, weights = {name: [] for name in ways}, {}
            for _ in progress.bar(range(ROUNDS + 1), desc=form):
                for name, step in ways.items():
                    start = time.perf_counter()
                    weights[name] = step()
                    seconds[name].append(time.perf_counter() - start)
            found[form] = {
                name: {
                    'seconds': spent[1:],  # The first round compiles.
                    'apart': speed.difference(weights[name], weights[LOOP]),
                }
                for name, spent in seconds.items()
            }
    return found


def page(found: dict, described: dict) -> str:
    """Returns the measurement as a page in Markdown."""
    rows = []
    for form, ways in found.items():
        ours = np.array(ways[OURS]['seconds'])
        for name, way in ways.items():
            spent = way['seconds']
            ratio = np.median(np.array(spent) / ours)
            seconds = f'{statistics.median(spent):.2f}'
            spread = f'{min(spent):.2f} to {max(spent):.2f}'
            rows.append(
                f'| {form} | {name} | {seconds} ({spread}) | {ratio:.2f} |'
                f' {way["apart"]:.0e} |'
            )
    lines = [
        '# a round of a GAN',
        '',
        f'Seconds, medians (fastest to slowest) of {ROUNDS} rounds, by turns in one'
        f' process: {CLIENTS} clients x {EXAMPLES} images of 28 x 28, batch {BATCH},'
        ' the default generator and discriminator without classes, SGD. By ours: the'
        ' median of the ratios to the compiled round of the same turn. Apart: how far'
        " the weights are from the loop's at the end, to the largest weight.",
        '',
        '| form | | seconds | by ours | apart |',
        '| --- | --- | --: | --: | --: |',
        *rows,
        '',
        machine.sentence(described),
        '',
    ]
    return '\n'.join(lines)


def main() -> None:
    """Measures and writes."""
    machine.report(speed.RESULTS / 'gan.md', measure, page)


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    main()
