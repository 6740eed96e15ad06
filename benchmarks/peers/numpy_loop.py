"""Plain NumPy: twenty lines for clients one after another, or all in lockstep.

In lockstep each step is one stacked product for all clients that still have a batch of
the same size: those with the most steps first, so that they are the first of the
stack, and at last each client's smaller batch, by itself.
"""

import numpy as np

from benchmarks.peers import runner


def step(weights, x, y, rate):
    """Takes a step of SGD, in place, on weights and a batch, or on stacks of them.

    Args:
      weights: Kernel and bias of each dense layer, between which is a ReLU, float32
        [..., inputs, outputs] and [..., outputs].
      x: Inputs, float32 [..., batch, features].
      y: Labels, int32 [..., batch].
      rate: The learning rate.
    """
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    inputs = [x]
    for kernel, bias in layers[:-1]:
        hidden = inputs[-1] @ kernel + bias[..., None, :]
        inputs.append(np.maximum(hidden, 0, out=hidden))
    kernel, bias = layers[-1]
    error = inputs[-1] @ kernel + bias[..., None, :]
    error -= error.max(-1, keepdims=True)
    np.exp(error, out=error)
    error /= error.sum(-1, keepdims=True)
    right = np.take_along_axis(error, y[..., None], -1) - 1
    np.put_along_axis(error, y[..., None], right, -1)
    error *= rate / y.shape[-1]
    for (kernel, bias), x in zip(layers[::-1], inputs[::-1], strict=True):
        before = None
        if x is not inputs[0]:
            before = (error @ kernel.swapaxes(-1, -2)) * (x > 0)
        kernel -= x.swapaxes(-1, -2) @ error
        bias -= error.sum(-2)
        error = before


def one_by_one(work: runner.Work, weights: list) -> list:
    """Returns the weights after a round, clients one after another."""
    change = [np.zeros_like(w) for w in weights]
    for client in range(work.clients):
        rows = work.rows(client)
        mine = [w.copy() for w in weights]
        for start in range(rows.start, rows.stop, work.batch_size):
            batch = slice(start, min(start + work.batch_size, rows.stop))
            step(mine, work.x[batch], work.y[batch], work.learning_rate)
        share = np.float32((rows.stop - rows.start) / work.row_splits[-1])
        for c, after, before in zip(change, mine, weights, strict=True):
            c += share * (after - before)
    return [w + c for w, c in zip(weights, change, strict=True)]


def in_lockstep(work: runner.Work, weights: list) -> list:
    """Returns the weights after a round, all clients in lockstep."""
    sizes = np.diff(work.row_splits)
    full = sizes // work.batch_size
    order = np.argsort(-full, kind='stable')
    first, steps = work.row_splits[:-1][order], full[order]
    mine = [np.repeat(w[None], work.clients, 0) for w in weights]
    batch = np.arange(work.batch_size)
    for number in range(steps.max(initial=0)):
        active = int(np.count_nonzero(steps > number))
        rows = (first[:active] + number * work.batch_size)[:, None] + batch
        some = [w[:active] for w in mine]
        step(some, work.x[rows], work.y[rows], work.learning_rate)
    for client in np.flatnonzero(sizes[order] % work.batch_size):
        rows = slice(
            first[client] + steps[client] * work.batch_size,
            first[client] + sizes[order[client]],
        )
        some = [w[client] for w in mine]
        step(some, work.x[rows], work.y[rows], work.learning_rate)
    share = (sizes[order] / work.row_splits[-1]).astype(np.float32)
    return [
        w + np.tensordot(share, m - w, 1) for w, m in zip(weights, mine, strict=True)
    ]


def train(work: runner.Work, options) -> runner.Result:
    """Federated averaging."""
    next_round = in_lockstep if options.lockstep else one_by_one
    seconds, weights = runner.time_rounds(
        lambda weights: next_round(work, weights), work.weights, options.rounds
    )
    settings = 'all clients in lockstep' if options.lockstep else 'client by client'
    return runner.Result(seconds, weights, settings)


def add_options(parser) -> None:
    """Adds whether clients go in lockstep."""
    parser.add_argument('--lockstep', action='store_true')


if __name__ == '__main__':
    runner.main(train, ['numpy'], add_options)
