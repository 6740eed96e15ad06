"""A plain TensorFlow training loop over the same batches, no federation around it.

One compiled step, called for client after client; runs in this package's
environment, as a module.
"""

import numpy as np
import tensorflow as tf

from benchmarks.peers import runner, tff_models


def train(work: runner.Work, options) -> runner.Result:
    """Federated averaging, written as one would in a script."""
    network = tff_models.keras_network(work)
    variables = network.trainable_variables
    loss_function = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(reduce_retracing=True)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = loss_function(y, network(x, training=True))
        for variable, gradient in zip(
            variables, tape.gradient(loss, variables), strict=True
        ):
            variable.assign_sub(work.learning_rate * gradient)

    x, y = tf.constant(work.x), tf.constant(work.y)
    total = int(work.row_splits[-1])

    def next_round(server):
        change = [np.zeros_like(w) for w in server]
        for client in range(work.clients):
            rows = work.rows(client)
            for variable, weight in zip(variables, server, strict=True):
                variable.assign(weight)
            for start in range(rows.start, rows.stop, work.batch_size):
                batch = slice(start, min(start + work.batch_size, rows.stop))
                step(x[batch], y[batch])
            share = (rows.stop - rows.start) / total
            for c, variable, weight in zip(change, variables, server, strict=True):
                c += share * (variable.numpy() - weight)
        return [w + c for w, c in zip(server, change, strict=True)]

    first = [v.numpy() for v in variables]
    seconds, weights = runner.time_rounds(next_round, first, options.rounds)
    return runner.Result(seconds, weights, 'one tf.function step, no tf.data')


if __name__ == '__main__':
    runner.main(train, ['tensorflow'])
