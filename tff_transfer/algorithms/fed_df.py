"""FedDF: the server distils the models of a round's clients into their mean.

Lin, Kong, Stich, Jaggi 2020, "Ensemble distillation for robust model fusion in
federated learning", algorithm 1 and equation 3: the mean of the clients' weights
learns, on public examples without labels, the softmax of the mean of the clients'
logits, by Adam that starts anew in each round.

The server has the clients' models, and computes their logits itself: these do not
travel, and no bytes are counted of them. In the simulation each client's are computed
beside its training, so that the server need not hold all models at once. Without the
paper's early stopping and its annealed rate: the passes are `epochs`.
"""

import collections
import dataclasses
from typing import NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms import distillation, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.errors import UserError
from tff_transfer.options import option


class Server(NamedTuple):
    """What the server has: the weights."""

    weights: tuple


@dataclasses.dataclass(frozen=True)
class FedDF:
    """FedDF."""

    public_clients: int = option(
        2,
        'How many seen clients, drawn, do not train: their training examples, without'
        ' labels, are public.',
        at_least=1,
    )
    public_data: str | None = option(
        None,
        'An .npz file whose images are public instead, such as generated ones; all'
        ' seen clients train then. Labels that it may have are not read.',
    )
    epochs: int = option(
        5, 'Passes of the server over the public examples in a round.', at_least=1
    )
    learning_rate: float = option(1e-3, "The rate of the server's Adam.", at_least=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        if context.model.statistics is not None:
            raise UserError(
                'FedDF distils on the server, where BatchNorm layers that are trained'
                ' have no statistics of the clients; use --batch_norm=frozen or'
                ' group_norm'
            )
        adam = tff.learning.optimizers.build_adam(self.learning_rate)

        def client_update(weights, client):
            trained = local.train(context, weights, client)
            own = local.difference(weights, trained.delta)
            predict = local.predictor(context, own, client)
            logits = context.public.outputs(predict, context.model.output_spec)
            return local.update(context, client, trained, sums={'logits': logits})

        def server_update(server, aggregate):
            mean = local.difference(server.weights, aggregate.delta)
            taught = aggregate.sums['logits'] / aggregate.clients
            examples = collections.OrderedDict(x=context.public.examples['x'], y=taught)
            batches = dataclasses.replace(
                context.public, examples=examples, epochs=self.epochs
            ).batches(aggregate.round)
            return Server(_distilled(context, adam, mean, batches))

        return Method(
            lambda: Server(context.initial),
            lambda server: server.weights,
            client_update,
            server_update,
            computed=('logits',),
        )


def _distilled(context: Context, optimizer, weights: tuple, batches) -> tuple:
    """Returns the weights after steps towards the logits that are the batches' y."""

    def step(state, batch):
        optimizer_state, at = state
        with tf.GradientTape() as tape:
            tape.watch(at)
            logits = context.model.functional.predict_on_batch(
                (at, ()), batch['x'], training=True
            )
            loss = distillation.divergence(batch['y'], logits)
        gradient = tape.gradient(loss, at, unconnected_gradients='zero')
        optimizer_state, at = optimizer.next(optimizer_state, at, gradient)
        return optimizer_state, tuple(at)

    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
    _, after = batches.reduce((optimizer.initialize(specs), weights), step)
    return after
