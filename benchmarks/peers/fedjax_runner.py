"""FedJAX's federated averaging: `fed_avg.create_train_for_each_client` and a mean.

Or its Mime, APFL and HypCluster, likewise: their functions for each client, and the
means of what these give.

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
from fedjax.algorithms import apfl, fed_avg, hyp_cluster, mime


def build(work: runner.Work):
    """Returns the losses, their mean's gradient, the parameters, and the way back."""
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

    def losses(params, batch, rng):
        logits = transformed.apply(params, batch['x'])
        chosen = jnp.take_along_axis(
            jax.nn.log_softmax(logits), batch['y'][:, None], axis=1
        )
        return -chosen[:, 0]

    def loss(params, batch, rng):
        real = batch[fedjax.EXAMPLE_MASK_KEY]
        return jnp.sum(jnp.where(real, losses(params, batch, rng), 0.0)) / jnp.sum(real)

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

    return losses, jax.grad(loss), params, to_keras


def gather(work: runner.Work):
    """Returns each client's number, padded batches and key, as `for_each_client` wants.

    Padded batches have one shape, and a client's examples are seen once; those of
    shuffle_repeat_batch fill the last batch with examples seen before.
    """
    batching = fedjax.PaddedBatchHParams(batch_size=work.batch_size)
    datasets = [
        fedjax.ClientDataset({'x': work.x[rows], 'y': work.y[rows]})
        for rows in map(work.rows, range(work.clients))
    ]
    keys = jax.random.split(jax.random.PRNGKey(0), work.clients)
    sizes = [len(data) for data in datasets]

    def clients():
        return [
            (i, data.padded_batch(batching), keys[i]) for i, data in enumerate(datasets)
        ]

    return clients, sizes


def moved(params, changes, sizes):
    """Returns parameters less the weighted mean of pairs of client and change."""
    change = fedjax.tree_util.tree_mean((delta, sizes[i]) for i, delta in changes)
    # A client's change is what the server had less what the client has.
    return jax.tree_util.tree_map(lambda p, c: p - c, params, change)


def fed_avg_round(losses, gradient, optimizer, clients, sizes):
    """Returns the round of federated averaging."""
    train_clients = fed_avg.create_train_for_each_client(gradient, optimizer)
    return lambda params: moved(params, train_clients(params, clients()), sizes)


def mime_round(losses, gradient, optimizer, clients, sizes):
    """Returns the round of Mime, whose state of SGD stays as it is."""
    train_clients = mime.create_train_for_each_client(gradient, optimizer)
    gradients_of_clients = mime.create_grads_for_each_client(gradient)

    def next_round(params):
        totals = (total for _, total in gradients_of_clients(params, clients()))
        control = fedjax.tree_util.tree_inverse_weight(
            *fedjax.tree_util.tree_sum(totals)
        )
        state = optimizer.init(params)
        sent = {'params': params, 'opt_state': state, 'control_variate': control}
        return moved(params, train_clients(sent, clients()), sizes)

    return next_round


def apfl_round(losses, gradient, optimizer, clients, sizes):
    """Returns the round of APFL; each layer's share of the own model is learnt too."""
    train_clients = apfl.create_train_for_each_client(gradient, optimizer)
    states = {}

    def next_round(params):
        half = jax.tree_util.tree_map(lambda _: 0.5, params)
        first = apfl.ClientState(params, half)
        some = [
            (i, batches, {'rng': key, 'state': states.get(i, first)})
            for i, batches, key in clients()
        ]
        changes = []
        for i, output in train_clients(params, some):
            states[i] = output['state']
            changes.append((i, output['delta_params']))
        return moved(params, changes, sizes)

    return next_round


def hyp_cluster_round(losses, gradient, optimizer, clients, sizes):
    """Returns the round of HypCluster with two models, the second of them moved."""
    evaluator = fedjax.AverageLossEvaluator(losses)
    trainer = hyp_cluster.ClientDeltaTrainer(gradient, optimizer)
    others = []

    def next_round(params):
        if not others:
            others.append(jax.tree_util.tree_map(lambda p: 1.01 * p, params))
        models = [params, others[0]]
        found = [dict(evaluator.evaluate_global_params(m, clients())) for m in models]
        chosen = {i: int(found[1][i] < found[0][i]) for i in found[0]}
        trained = list(
            trainer.train_per_client_params(
                (i, batches, key, models[chosen[i]]) for i, batches, key in clients()
            )
        )
        after = []
        for number, model in enumerate(models):
            mine = [(i, delta) for i, delta in trained if chosen[i] == number]
            after.append(moved(model, mine, sizes) if mine else model)
        others[0] = jax.block_until_ready(after[1])
        return after[0]

    return next_round


METHODS = {
    'fedavg': fed_avg_round,
    'mime': mime_round,
    'apfl': apfl_round,
    'hypcluster': hyp_cluster_round,
}


def train(work: runner.Work, options) -> runner.Result:
    """Trains with FedJAX's `for_each_client`."""
    fedjax.set_for_each_client_backend(options.backend)
    losses, gradient, params, to_keras = build(work)
    optimizer = fedjax.optimizers.sgd(work.learning_rate)
    one = METHODS[options.method](losses, gradient, optimizer, *gather(work))
    seconds, params = runner.time_rounds(
        lambda params: jax.block_until_ready(one(params)), params, options.rounds
    )
    settings = (
        f'for_each_client backend {options.backend}, padded batches,'
        f' {jax.local_device_count()} device(s)'
    )
    return runner.Result(seconds, to_keras(params), settings)


def add_options(parser) -> None:
    """Adds the backend of `for_each_client` and the method."""
    parser.add_argument('--method', choices=list(METHODS), default='fedavg')
    parser.add_argument('--backend', choices=['jit', 'pmap'], default='jit')


if __name__ == '__main__':
    runner.main(train, ['fedjax', 'jax', 'jaxlib', 'dm-haiku'], add_options)
