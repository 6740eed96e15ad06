"""FedGKT: clients train small networks, the server a larger one on their features.

He, Annavaram, Avestimehr 2020, "Group knowledge transfer: Federated learning of large
CNNs at the edge", algorithm 1: a client sends what the last layer of its small network
takes of each of its examples, its logits and labels; the server's network, which goes
on from there, learns from all of them, and sends its logits back; both sides' losses
have the Kullback-Leibler divergence of the other's predictions from theirs (equations
5 and 6). A client predicts by what is below its last layer and the server's network.

In this simulation a client's computation does what the server would do with what the
client sends: a copy of the server's network trains on its features, and the server's
becomes the mean of the copies (as in SplitFedV1, Thapa et al. 2022), where the paper
has one network that trains on the features of one client after another, several
passes. The server's answers are those of its network now to the features that the
client has now, which in the paper are of its last round. What travels of an example are
features, logits and a label up, logits down, and is counted so.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import randomness
from tff_transfer.algorithms import descent, distillation, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.small_networks import glorot, two_layers
from tff_transfer.options import option

_NUMBER = 4  # bytes


class Large(NamedTuple):
    """The server's network, of two layers, and the last round it learned in, or 0."""

    weights: tuple
    round: Any


class Server(NamedTuple):
    """What the server has: weights of the start, which never change, and `Large`."""

    weights: tuple
    large: Large


@dataclasses.dataclass(frozen=True)
class FedGKT:
    """FedGKT."""

    alpha: float = option(
        1.0, 'The weight of what each side learns of the other.', at_least=0
    )
    hidden: int = option(
        256, "The size of the hidden layer of the server's network.", at_least=1
    )
    learning_rate: float = option(
        1e-3, "The rate of the server's Adam, which starts anew.", at_least=0
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_last_dense('FedGKT')
        classes, size = context.classes, context.initial[-2].shape[0]
        functional = context.model.functional
        adam = tff.learning.optimizers.build_adam(self.learning_rate)

        def represent(own, client, batch):
            weights = context.join(own, client.personal), client.statistics
            logits, found, _ = context.model.representation(
                weights, batch['x'], training=False
            )
            return logits, found

        def client_update(large, client):
            alpha = tf.where(large.round > 0, self.alpha, 0.0)

            def follow(gradient_of, at, batch):
                _, found = represent(client.kept, client, batch)
                taught = two_layers(large.weights, found)

                def loss(logits, labels):
                    apart = distillation.divergence(taught, logits)
                    return functional.loss(logits, labels) + alpha * apart

                return gradient_of(at, batch, loss=loss)

            trained = local.train(context, client.kept, client, direction=follow)
            own = local.difference(client.kept, trained.delta)
            after = client._replace(personal=trained.personal)

            def of_server(at, batch):
                taught, found = represent(own, after, batch)
                logits = two_layers(at, found)
                apart = distillation.divergence(taught, logits)
                return functional.loss(logits, batch['y']) + self.alpha * apart

            learned = descent.descended(adam, large.weights, client.batches, of_server)
            delta = local.difference(large.weights, learned)
            return local.update(context, client, trained, delta=delta, kept=own)

        def server_update(server, aggregate):
            now = local.difference(server.large.weights, aggregate.delta)
            return server._replace(large=Large(now, aggregate.round))

        def outputs(large, client, inputs):
            weights = [*context.join(client.kept, client.personal), *client.statistics]
            logits, found = context.model.represented(weights, inputs)
            return tf.where(large.round > 0, two_layers(large.weights, found), logits)

        def initialize():
            draw = randomness.generator(context.seed, "the server's network")
            large = glorot(draw, (size, self.hidden, classes))
            return Server(context.initial, Large(large, np.int32(0)))

        return Method(
            initialize,
            lambda server: server.large,
            client_update,
            server_update,
            kept=lambda: context.initial,
            personal=lambda large, client: client.kept,
            outputs=outputs,
            example_bytes=(_NUMBER * (size + classes + 1), _NUMBER * classes),
        )
