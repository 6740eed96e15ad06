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

import dataclasses
from typing import NamedTuple

import tensorflow_federated as tff

from tff_transfer.algorithms import distillation, local
from tff_transfer.algorithms.method import Context, Method
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
        distillation.check_no_statistics(context, 'FedDF')
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
            public = distillation.answered(context.public, taught, self.epochs)
            rows = public.rows(aggregate.round)
            return Server(
                distillation.distilled(
                    context, adam, mean, rows, distillation.divergence
                )
            )

        return Method(
            lambda: Server(context.initial),
            lambda server: server.weights,
            client_update,
            server_update,
            computed=('logits',),
        )
