"""MOON: a client's representations stay near the server's, away from its own before.

Li, He, Song 2021, "Model-contrastive federated learning", equations 3 to 5. The
representation is what the last dense layer takes; the server's model and the client's
previous one give theirs as in evaluation, as in the authors' code.

What the paper leaves open: before its first round a client has no previous model. Here
the server's stands for it, and the contrast has no gradient. The authors' code leaves
it out in the first round too, but a client that first takes part later is contrasted
with random weights of its own.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Kept(NamedTuple):
    """What a client keeps: its model after its last round, if there was one."""

    weights: tuple
    took_part: Any


@dataclasses.dataclass(frozen=True)
class MOON:
    """MOON."""

    mu: float = option(1.0, 'The weight of the contrast.', at_least=0)
    temperature: float = option(0.5, 'The temperature of the contrast.', above=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_trained_representation('MOON')

        def client_update(weights, client):
            before = tuple(
                tf.where(client.kept.took_part, own, start)
                for own, start in zip(client.kept.weights, weights, strict=True)
            )

            def similarity(representation, shared, batch):
                all_weights = context.join(shared, client.personal), client.statistics
                _, other, _ = context.model.representation(
                    all_weights, batch['x'], training=False
                )
                unit = tf.math.l2_normalize(representation, -1)
                return tf.reduce_sum(unit * tf.math.l2_normalize(other, -1), -1)

            def contrast(representation, batch):
                to_server = similarity(representation, weights, batch)
                to_before = similarity(representation, before, batch)
                exponent = (to_before - to_server) / self.temperature
                return self.mu * tf.reduce_mean(tf.math.softplus(exponent))

            trained = local.train(context, weights, client, regulariser=contrast)
            own = local.difference(weights, trained.delta)
            kept = Kept(own, tf.constant(True))
            return local.update(context, client, trained, kept=kept)

        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: Kept(context.initial, np.bool_(False)),
        )
