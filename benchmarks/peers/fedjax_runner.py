"""FedJAX's federated averaging: `fed_avg.create_train_for_each_client` and a mean.

Or its Mime, likewise: both of `mime`'s functions for each client, and their means.

`fedjax.algorithms.fed_avg.federated_averaging` also takes the norm of each client's
update for its diagnostics; that is left out here.
"""

import os
import sys

if '--backend=pmap' in sys.argv:
    # FedJAX spreads clients over devices; on a CPU, XLA makes as many as are asked for.
    os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=2'

import fedjax
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import runner
from fedjax.algorithms import fed_avg, mime


def build(work: runner.Work):
    """Returns the loss's gradient, the initial parameters, and the way back."""
    classes = work.weights[-1].shape[0]

    def network(x):
        if work.model == 'linear':
            return hk.Linear(classes)(x)
        for filters in (32, 64):
            x = jax.nn.relu(hk.Conv2D(filters, 5, padding='SAME')(x))
            x = hk.MaxPool((1, 2, 2, 1), (1, 2, 2, 1), 'VALID')(x)
        x = jax.nn.relu(hk.Linear(128)(hk.Flatten()(x)))
        return hk.Linear(classes)(x)

    transformed = hk.without_apply_rng(hk.transform(network))

    def loss(params, batch, rng):
        logits = transformed.apply(params, batch['x'])
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(logits), batch['y'][:, None], axis=1
        )
        real = batch[fedjax.EXAMPLE_MASK_KEY]
        return -jnp.sum(jnp.where(real, chosen[:, 0], 0.0)) / jnp.sum(real)

    template = transformed.init(jax.random.PRNGKey(0), work.x[:1])
    # Haiku's layers, in the order they were made, each with weights and biases.
    layers = sorted(template, key=lambda name: list(template).index(name))
    names = [(layer, part) for layer in layers for part in ('w', 'b')]
    params = {layer: {} for layer in layers}
    for (layer, part), weight in zip(names, work.weights, strict=True):
        assert template[layer][part].shape == weight.shape
        params[layer][part] = jnp.asarray(weight)

    def to_keras(params):
        return [np.asarray(params[layer][part]) for layer, part in names]

    return jax.grad(loss), params, to_keras


def train(work: runner.Work, options) -> runner.Result:
    """Trains with FedJAX's `for_each_client`."""
    fedjax.set_for_each_client_backend(options.backend)
    gradient, params, to_keras = build(work)
    optimizer = fedjax.optimizers.sgd(work.learning_rate)
    whole = options.method == 'mime'
    create = (mime if whole else fed_avg).create_train_for_each_client
    train_clients = create(gradient, optimizer)
    gradients_of_clients = mime.create_grads_for_each_client(gradient)
    # Padded batches have one shape, and a client's examples are seen once; those of
    # shuffle_repeat_batch fill the last batch with examples seen before.
    batching = fedjax.PaddedBatchHParams(batch_size=work.batch_size)
    datasets = [
        fedjax.ClientDataset({'x': work.x[rows], 'y': work.y[rows]})
        for rows in map(work.rows, range(work.clients))
    ]
    keys = jax.random.split(jax.random.PRNGKey(0), work.clients)

    def next_round(params):
        clients = [
            (i, data.padded_batch(batching), keys[i]) for i, data in enumerate(datasets)
        ]
        sent, state = params, optimizer.init(params)
        if whole:  # SGD's state stays as it is.
            totals = (total for _, total in gradients_of_clients(params, clients))
            control = fedjax.tree_util.tree_inverse_weight(
                *fedjax.tree_util.tree_sum(totals)
            )
            sent = {'params': params, 'opt_state': state, 'control_variate': control}
        change = fedjax.tree_util.tree_mean(
            (delta, len(datasets[i])) for i, delta in train_clients(sent, clients)
        )
        # A client's change is what the server had less what the client has.
        params = jax.tree_util.tree_map(lambda p, c: p - c, params, change)
        return jax.block_until_ready(params)

    seconds, params = runner.time_rounds(next_round, params, options.rounds)
    settings = (
        f'for_each_client backend {options.backend}, padded batches,'
        f' {jax.local_device_count()} device(s)'
    )
    return runner.Result(seconds, to_keras(params), settings)


def add_options(parser) -> None:
    """Adds the backend of `for_each_client` and the method."""
    parser.add_argument('--method', choices=['fedavg', 'mime'], default='fedavg')
    parser.add_argument('--backend', choices=['jit', 'pmap'], default='jit')


if __name__ == '__main__':
    runner.main(train, ['fedjax', 'jax', 'jaxlib', 'dm-haiku'], add_options)
