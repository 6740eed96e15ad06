"""IFCA, or HypCluster: some models, of which each client takes the one that suits it.

Ghosh et al. 2020, "An efficient framework for clustered federated learning", algorithm
1 with model averaging: a client takes the model of the least loss on its training
examples and trains it, and the server averages it with those of the clients that took
the same. HypCluster of Mansour et al. 2020, "Three approaches for personalization with
applications to federated learning", is the same choice by loss.

Both start from models drawn at random, again and again where clusters are not found.
Here the first is the model's own start, and the others have noise of the run's seed
added, so that pretrained weights may be clustered too; another seed is another try.
What a client sends is of the size of all models, zeros but for the one that it took,
so that the server needs no more than sums over clients.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer import randomness
from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Server(NamedTuple):
    """What the server has.

    Attributes:
      weights: The model that most of the last round's clients took.
      models: All of them, stacked, [clusters, ...] each, and their optimizer's state.
      chosen: How many of the last round's clients took each, float32 [clusters].
    """

    weights: tuple
    models: fed_avg.Server
    chosen: Any


class Moved(NamedTuple):
    """What a client sends: how its model moved, and which it is, one-hot."""

    models: tuple
    taken: Any


@dataclasses.dataclass(frozen=True)
class IFCA:
    """IFCA, or HypCluster."""

    clusters: int = option(2, 'How many models there are.', at_least=1)
    noise: float = option(
        0.1,
        'What makes all but the first of another start: normal noise on kernels of so'
        ' many times the deviation of their Glorot initialisation.',
        at_least=0,
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def started(weights):
            drawn = [_noise(context, each, self.noise) for each in range(self.clusters)]
            models = tuple(
                tf.stack([w + draw for draw in draws])
                for w, draws in zip(weights, zip(*drawn, strict=True), strict=True)
            )
            server = fed_avg.server_from(context, models)
            return Server(tuple(weights), server, tf.zeros([self.clusters]))

        def choice(models, client):
            """Returns the number of the model of the least loss, int64 []."""
            losses = [
                local.summed_loss(context, _one(models, each), client)
                for each in range(self.clusters)
            ]
            totals = client.batches.reduce(
                tf.zeros([self.clusters]),
                lambda total, batch: total + tf.stack([of(batch) for of in losses]),
            )
            return tf.argmin(totals)

        def client_update(models, client):
            number = choice(models, client)
            trained = local.train(context, _one(models, number), client)
            taken = tf.one_hot(number, self.clusters)
            moved = tuple(_along(taken, d[None]) * d for d in trained.delta)
            return local.update(
                context,
                client,
                trained,
                delta=Moved(moved, taken),
                sums={'chosen': taken},
            )

        def server_update(server, aggregate):
            share = aggregate.delta.taken
            delta = tuple(
                tf.math.divide_no_nan(moved, _along(share, moved))
                for moved in aggregate.delta.models
            )
            before, chosen = server.models, aggregate.sums['chosen']
            after = fed_avg.server_step(
                context, before, aggregate._replace(delta=delta)
            )
            # What nobody took stays, whatever the optimizer remembers.
            models = tuple(
                tf.where(_along(share, new) > 0, new, old)
                for new, old in zip(after.weights, before.weights, strict=True)
            )
            most = _one(models, tf.argmax(chosen))
            return Server(most, after._replace(weights=models), chosen)

        return Method(
            lambda: started(context.initial),
            lambda server: server.models.weights,
            client_update,
            server_update,
            adapt=lambda models, client: client._replace(kept=choice(models, client)),
            personal=lambda models, client: _one(models, client.kept),
            with_weights=lambda server, weights: started(weights),
            measured=lambda server: {
                f'chosen_{each}': server.chosen[each] for each in range(self.clusters)
            },
        )


def _one(models: tuple, number) -> tuple:
    return tuple(stacked[number] for stacked in models)


def _along(values, stacked):
    """Returns a value for each model, [clusters], in a shape that meets all its own."""
    return tf.reshape(values, [-1] + [1] * (len(stacked.shape) - 1))


def _noise(context: Context, number: int, scale: float) -> list[np.ndarray]:
    """Returns what is added to the shared weights for the start of a model."""
    draw = randomness.generator(context.seed, 'clusters', number)
    found = []
    for weight in context.initial:
        noise = np.zeros(weight.shape, np.float32)
        if number and weight.ndim > 1:
            fans = math.prod(weight.shape[:-2]) * sum(weight.shape[-2:])
            noise = scale * math.sqrt(2 / fans) * draw.standard_normal(weight.shape)
        found.append(noise.astype(np.float32))
    return found
