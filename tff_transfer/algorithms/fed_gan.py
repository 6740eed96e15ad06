"""Generative adversarial networks, trained federated, in two forms.

`averaged`: Rasouli, Sun, Rajagopal 2020, "FedGAN: Federated generative adversarial
networks for distributed data", algorithm 1: clients take steps of generator and
discriminator at once, at rates of their own, and both are averaged. Of a model whose
gradient is that step (`models/generative/adversaries.py`) it is federated averaging.

`server`: Augenstein et al. 2020, "Generative models for effective ML on private,
decentralized datasets", algorithms 1 and 2: clients train the discriminator alone, on
their examples and on samples of the generator that they got; the server averages the
discriminators and then trains the generator against the average, for which it needs no
examples. So clients send what moved the discriminator and nothing else: clipped, with
noise (`--privacy=central`), it is DP-FedAvg-GAN.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import randomness
from tff_transfer.algorithms import client_rates, fed_avg, gradients, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.errors import UserError
from tff_transfer.options import option

# Of the generator's Adam, as DCGAN has it (Radford et al. 2016, section 4).
_BETA_1 = 0.5


class Server(NamedTuple):
    """What the server has.

    Attributes:
      weights: All trained weights, the generator's first.
      optimizer: The state of the discriminator's optimizer.
      generator_optimizer: That of the generator's.
      generator_loss: The generator's mean loss over the last round's steps, float32 [].
    """

    weights: tuple
    optimizer: Any
    generator_optimizer: Any
    generator_loss: Any


@dataclasses.dataclass(frozen=True)
class FedGAN:
    """A GAN, trained federated."""

    generator: str = option(
        'averaged',
        'Who trains the generator: averaged, clients, with the discriminator; or'
        ' server, the server, against the mean of the discriminators, which are all'
        ' that clients train and send.',
        choices=('averaged', 'server'),
    )
    generator_rate: float = option(
        1.0,
        "How many times the discriminator's rate the generator's is, where clients"
        ' train both, by SGD.',
        above=0,
        only_for={'generator': ('averaged',)},
    )
    generator_steps: int = option(
        10,
        "Steps of the server's generator in a round.",
        at_least=1,
        only_for={'generator': ('server',)},
    )
    generator_batch: int = option(
        64,
        'Images of each.',
        at_least=1,
        only_for={'generator': ('server',)},
    )
    generator_learning_rate: float = option(
        1e-3,
        "The rate of the server's generator, by Adam.",
        above=0,
        only_for={'generator': ('server',)},
    )

    @property
    def sent_parts(self) -> tuple[str, ...]:
        """The parts of the model that clients send; none named: all that is shared."""
        return ('discriminator',) if self.generator == 'server' else ()

    def build(self, context: Context) -> Method:
        """Makes the method."""
        if context.model.generator_loss is None:
            raise UserError(
                'fedgan trains a generator and a discriminator; use --model=gan'
            )
        if self.generator == 'server':
            return _at_server(self, context)
        if self.generator_rate == 1:
            return fed_avg.averaging(context)
        client_rates.sgd_momentum(context, 'a rate of the generator alone')
        return fed_avg.averaging(context, lambda *_: _of_two_rates(self, context))


def _of_two_rates(options: FedGAN, context: Context) -> gradients.Direction:
    """Returns the direction in which the generator moves at another rate."""
    generator = context.numbers(['generator'])

    def correct(gradient, _):
        return tuple(
            options.generator_rate * g if number in generator else g
            for number, g in enumerate(gradient)
        )

    return gradients.corrected(correct)


def _at_server(options: FedGAN, context: Context) -> Method:
    """Makes the method whose server trains the generator."""
    model, adam = context.model, _adam(options)
    count = len(context.numbers(['generator']))

    def initialize():
        weights = tuple(map(tf.convert_to_tensor, context.initial))
        generator, discriminator = weights[:count], weights[count:]
        of_clients = fed_avg.server_from(context, discriminator)
        specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, generator)
        return Server(weights, of_clients.optimizer, adam.initialize(specs), 0.0)

    def client_update(weights, client):
        generator, discriminator = weights[:count], weights[count:]

        def direction(_, values, batch):
            with tf.GradientTape() as tape:
                tape.watch(values)
                outputs = model.functional.predict_on_batch(
                    ((*generator, *values), ()), batch['x'], training=True
                )
                loss = model.functional.loss(outputs, batch['y'])
            return gradients.Gradient(
                tape.gradient(loss, values), (), loss, outputs, ()
            )

        trained = local.train(context, discriminator, client, direction=direction)
        return local.update(context, client, trained)

    def server_update(server, aggregate):
        generator, discriminator = server.weights[:count], server.weights[count:]
        before = fed_avg.Server(discriminator, server.optimizer)
        discriminator, optimizer = fed_avg.server_step(context, before, aggregate)
        state, generator, loss = _generator_steps(
            options,
            context,
            (server.generator_optimizer, generator),
            discriminator,
            aggregate.round,
        )
        return Server((*generator, *discriminator), optimizer, state, loss)

    return Method(
        initialize,
        lambda server: server.weights,
        client_update,
        server_update,
        measured=lambda server: {'generator_loss': server.generator_loss},
    )


def _adam(options: FedGAN) -> tff.learning.optimizers.Optimizer:
    return tff.learning.optimizers.build_adam(
        options.generator_learning_rate, beta_1=_BETA_1
    )


def _generator_steps(
    options: FedGAN, context: Context, start: tuple, discriminator: tuple, round_number
):
    """Trains the generator against a discriminator that stays as it is.

    What is drawn is a function of the seed, the round and the step.

    Args:
      options: How many steps there are, and of how many images.
      context: The model and the seed.
      start: The optimizer's state, and the generator's weights.
      discriminator: The discriminator's.
      round_number: The round, int32 [].

    Returns:
      The optimizer's state, the generator's weights, and its mean loss, float32 [].
    """
    model, adam = context.model, _adam(options)
    draw = randomness.generator(context.seed, 'generator steps')
    keys = tf.stack([np.int32(draw.integers(2**31 - 1)), round_number])

    def step(number, state, weights, total):
        key = tf.random.experimental.stateless_fold_in(keys, number)
        with tf.GradientTape() as tape:
            tape.watch(weights)
            weights_of_both = (*weights, *discriminator)
            loss = model.generator_loss(weights_of_both, options.generator_batch, key)
        state, weights = adam.next(state, weights, tape.gradient(loss, weights))
        return number + 1, state, tuple(weights), total + loss

    _, state, weights, total = tf.while_loop(
        lambda number, *_: number < options.generator_steps,
        step,
        (tf.constant(0), *start, tf.constant(0.0)),
    )
    return state, weights, total / options.generator_steps
