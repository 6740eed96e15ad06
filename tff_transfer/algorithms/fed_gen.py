"""FedGen: the server learns to generate what the last layer takes, without data.

Zhu, Hong, Zhou 2021, "Data-free knowledge distillation for heterogeneous federated
learning", algorithm 1: beside the mean of the clients' weights the server has a
generator of representations of a label, that learns to give what the clients' last
layers together take for that label (equation 4), for labels as frequent as with the
clients, who tell how many they have; clients get it, and their last layers learn that
what it generates is of its label (equation 5).

The ensemble of the clients' last layers, dense ones, is the mean of their logits, which
is that of the mean layer. The generator has one hidden layer; the authors' code also
has its outputs differ by their noise, weighs clients by label in the ensemble, holds
clients to the server's answers, and lowers the weight by round. A client's steps of a
round all have the same generated batch, which is drawn anew for each round.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import randomness
from tff_transfer.algorithms import descent, fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.rows import Rows
from tff_transfer.algorithms.small_networks import glorot, two_layers
from tff_transfer.options import option


class Message(NamedTuple):
    """What travels to the clients.

    Attributes:
      weights: The shared trained weights.
      generator: The generator's, as of `two_layers`, of noise and one-hot labels.
      counts: How many examples of each class the clients of the last round had,
        float32 [classes].
    """

    weights: tuple
    generator: tuple
    counts: Any


class Server(NamedTuple):
    """What the server has: that, and the state of its optimizer."""

    weights: tuple
    optimizer: Any
    generator: tuple
    counts: Any


@dataclasses.dataclass(frozen=True)
class FedGen:
    """FedGen."""

    weight: float = option(
        1.0, 'The weight of the loss on generated representations.', at_least=0
    )
    generated: int = option(
        64, 'How many are generated at once, on server and clients.', at_least=1
    )
    noise: int = option(32, "The size of the generator's noise.", at_least=1)
    hidden: int = option(256, "The size of the generator's hidden layer.", at_least=1)
    steps: int = option(
        50, "Steps of the generator's Adam in a round, which starts anew.", at_least=0
    )
    learning_rate: float = option(1e-3, 'The rate of that Adam.', at_least=0)

    def drawn(self, context: Context, counts, purpose: str, *number) -> tuple:
        """Returns labels, int32 [generated], and noise, float32 [generated, noise].

        Args:
          context: Says the seed.
          counts: What labels are drawn in proportion to, float32 [classes]; all alike
            without any.
          purpose: What for.
          *number: A number of the draw, int32 [], and another, if wanted.
        """
        key = int(randomness.generator(context.seed, purpose).integers(2**31))
        seed = tf.constant([key, 0])
        for each in number:
            seed = tf.random.experimental.stateless_fold_in(seed, each)
        of_labels, of_noise = tf.unstack(
            tf.random.experimental.stateless_split(seed, 2)
        )
        some = tf.where(tf.reduce_sum(counts) > 0, counts, 1.0)
        logits = tf.math.log(some)[tf.newaxis]
        labels = tf.random.stateless_categorical(
            logits, self.generated, of_labels, tf.int32
        )[0]
        shape = [self.generated, self.noise]
        return labels, tf.random.stateless_normal(shape, of_noise)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_last_dense('FedGen')
        classes, size = context.classes, context.initial[-2].shape[0]

        def represented(generator, labels, noise):
            given = tf.concat([noise, tf.one_hot(labels, classes)], 1)
            return two_layers(generator, given)

        def loss_of(kernel, bias, representations, labels):
            logits = tf.matmul(representations, kernel) + bias
            return tf.reduce_mean(
                tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            )

        def client_update(message, client):
            known = tf.reduce_sum(message.counts) > 0
            labels, noise = self.drawn(
                context, message.counts, 'generated on clients', client.round
            )
            generated = represented(message.generator, labels, noise)
            weight = tf.where(known, self.weight, 0.0)

            def direction(gradient_of, at, batch):
                found = gradient_of(at, batch)
                last = at[-2:]
                with tf.GradientTape() as tape:
                    tape.watch(last)
                    value = loss_of(*last, generated, labels)
                more = tape.gradient(value, last)
                moved = (
                    g + weight * m for g, m in zip(found.shared[-2:], more, strict=True)
                )
                return found._replace(shared=(*found.shared[:-2], *moved))

            trained = local.train(context, message.weights, client, direction=direction)
            kernel, bias = local.difference(message.weights, trained.delta)[-2:]
            sums = {
                'counts': local.label_counts(client, classes),
                'kernel': kernel,
                'bias': bias,
            }
            return local.update(context, client, trained, sums=sums)

        def server_update(server, aggregate):
            sums = aggregate.sums
            last = sums['kernel'] / aggregate.clients, sums['bias'] / aggregate.clients
            adam = tff.learning.optimizers.build_adam(self.learning_rate)

            def loss(generator, numbers):
                labels, noise = self.drawn(
                    context,
                    sums['counts'],
                    'generated on the server',
                    aggregate.round,
                    numbers[0],
                )
                return loss_of(*last, represented(generator, labels, noise), labels)

            # A step for each of their numbers.
            steps = Rows(tf.range(self.steps), tf.constant(0), self.steps, 1)
            generator = descent.descended(adam, server.generator, steps, loss)
            moved = fed_avg.server_step(context, server, aggregate)
            return Server(moved.weights, moved.optimizer, generator, sums['counts'])

        def initialize():
            draw = randomness.generator(context.seed, 'generator')
            sizes = (self.noise + classes, self.hidden, size)
            nothing = np.zeros(classes, np.float32)
            return Server(
                *fed_avg.initial_server(context), glorot(draw, sizes), nothing
            )

        return Method(
            initialize,
            lambda server: Message(server.weights, server.generator, server.counts),
            client_update,
            server_update,
            # The server has them of the weights.
            computed=('kernel', 'bias'),
        )
