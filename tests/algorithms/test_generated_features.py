"""FedGen and FedGKT, whose server has a network of its own, against NumPy."""

import method_references as references
import numpy as np
import pytest
import tensorflow as tf
from method_references import CLASSES, FEATURES, HIDDEN, probabilities, sgd
from test_methods import (
    W,
    composed,
    context,
    flat,
    of,
    reference_rounds,
    run,
)
from test_personal_methods import net, own_models

from tff_transfer.training import personal

slow = pytest.mark.slow
GEN = {'weight': 0.7, 'generated': 16, 'noise': 3, 'hidden': 5, 'steps': 4}


def answers(layers, x):
    first, shift, last, bias = layers
    return np.maximum(x @ first + shift, 0) @ last + bias


def through(layers, x, by_answers):
    """Returns the gradient of two layers, flat, from that of their answers."""
    first, shift, last, _ = layers
    hidden = np.maximum(x @ first + shift, 0)
    by_hidden = (by_answers @ last.T) * (hidden > 0)
    found = x.T @ by_hidden, by_hidden.sum(0), hidden.T @ by_answers, by_answers.sum(0)
    return np.concatenate([g.ravel() for g in found])


def like(layers, vector):
    cuts = np.cumsum([layer.size for layer in layers])[:-1]
    parts = np.split(vector, cuts)
    return [p.reshape(layer.shape) for p, layer in zip(parts, layers, strict=True)]


def fed_gen(w, rounds, options, made, layers, rate):
    generator, counts = np.concatenate([np.ravel(a) for a in layers]), None
    layers = [np.asarray(layer, np.float64) for layer in layers]

    def drawn(counts, purpose, *number):
        found = options.drawn(
            made, tf.constant(counts, tf.float32), purpose, *map(tf.constant, number)
        )
        labels, noise = (part.numpy() for part in found)
        return labels, np.column_stack([noise, np.eye(CLASSES)[labels]])

    for t, clients in enumerate(rounds, 1):
        direction = references.gradient
        if counts is not None:
            labels, given = drawn(counts, 'generated on clients', t)
            generated = answers(like(layers, generator), given), labels

            def direction(at, batch, generated=generated):
                more = options.weight * references.gradient(at, generated)
                return references.gradient(at, batch) + more

        found = [sgd(w, batches, direction) for batches in clients.values()]
        w, last = references.weighted(clients, found), np.mean(found, axis=0)
        kernel = last[: FEATURES * CLASSES].reshape(FEATURES, CLASSES)
        counts = np.bincount(
            np.concatenate([references.whole(b)[1] for b in clients.values()]),
            minlength=CLASSES,
        )

        def down(at, batch, last=last, kernel=kernel):
            labels, given = batch
            scores = references.logits(last, answers(like(layers, at), given))
            error = (probabilities(scores) - np.eye(CLASSES)[labels]) / len(labels)
            return through(like(layers, at), given, error @ kernel.T)

        batches = [
            drawn(counts, 'generated on the server', t, n) for n in range(options.steps)
        ]
        generator = references.adam(generator, batches, down, rate)
    return w, generator


@slow
def test_the_server_learns_to_generate_and_clients_learn_of_it():
    options, made = of('fedgen', learning_rate=0.05, **GEN), context(seed=4)
    layers = options.build(made).initialize().generator
    found, state, _ = run(options, made)
    args = reference_rounds(), options, made, layers, 0.05
    expected, generator = fed_gen(W, *args)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(flat(state.server.generator), generator, atol=1e-4)
    assert np.abs(generator - flat(layers)).max() > 0.1
    without, _, _ = run(of('fedavg'))
    assert np.abs(expected - without).max() > 1e-2
    # Of what clients send their last layers and counts are a part, down the generator.
    plain, sent = composed(of('fedavg'), context()), composed(options, made)
    assert sent.bytes_up == plain.bytes_up + 4 * CLASSES
    down = plain.bytes_down + 4 * (CLASSES + generator.size)
    assert sent.bytes_down == down


def test_what_is_generated_is_of_labels_that_there_are():
    options, counts = of('fedgen', generated=400), tf.constant([3.0, 0.0, 1.0])
    found = [
        options.drawn(context(), counts, 'x', tf.constant(t))[0].numpy()
        for t in range(3)
    ]
    for labels in found:
        shares = np.bincount(labels, minlength=3) / 400
        assert shares[1] == 0 and abs(shares[0] - 0.75) < 0.1
    assert not np.array_equal(found[0], found[1])


def fed_gkt(start, rounds, alpha, layers, rate):
    """Returns own models and the server's layers, of a network with a hidden layer."""
    own, server, learned = {}, np.concatenate([np.ravel(a) for a in layers]), False
    layers = [np.asarray(layer, np.float64) for layer in layers]

    def mixed(y, taught, alpha):
        return (np.eye(CLASSES)[y] + alpha * taught) / (1 + alpha)

    for clients in rounds:
        found = []
        for number, batches in clients.items():
            before, now = own.get(number, start), alpha if learned else 0.0

            def direction(at, batch, before=before, now=now, server=server):
                z = references.represented(before, batch[0])
                taught = probabilities(answers(like(layers, server), z))
                soft = batch[0], mixed(batch[1], taught, now)
                return (1 + now) * references.net_gradient(at, soft)

            own[number] = mine = sgd(before, batches, direction)
            _, _, last, bias = references.net_parts(mine)

            def down(at, batch, mine=mine, last=last, bias=bias):
                z = references.represented(mine, batch[0])
                target = mixed(batch[1], probabilities(z @ last + bias), alpha)
                p = probabilities(answers(like(layers, at), z))
                error = (1 + alpha) * (p - target) / len(z)
                return through(like(layers, at), z, error)

            found.append(references.adam(server, batches, down, rate))
        server, learned = references.weighted(clients, found), True
    return own, server


@slow
def test_both_sides_learn_of_each_others_answers():
    options = of('fedgkt', alpha=0.8, hidden=6, learning_rate=0.05)
    made = net()
    method = options.build(made)
    layers = method.initialize().large.weights
    start = flat(made.initial).astype(np.float64)
    _, state, kept = run(options, made)
    own, server = fed_gkt(start, reference_rounds(), 0.8, layers, 0.05)
    np.testing.assert_allclose(
        flat(state.server.large.weights), server, rtol=1e-3, atol=1e-4
    )
    for number, model in enumerate(own_models(options, made, state, kept)):
        np.testing.assert_allclose(model, own[number], rtol=1e-4, atol=1e-5)
    alone, _ = fed_gkt(start, reference_rounds(), 0.0, layers, 0.05)
    assert np.abs(alone[0] - own[0]).max() > 1e-2
    # A client predicts by the server's network on what is below its last layer.
    x = np.random.default_rng(0).normal(size=(7, FEATURES)).astype(np.float32)
    found = personal.outputs_of_client(method, made, state, kept[2], tf.constant(x))
    of_server = like([np.asarray(a) for a in layers], server)
    expected = answers(of_server, references.represented(own[2], x))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    assert method.example_bytes == (4 * (HIDDEN + CLASSES + 1), 4 * CLASSES)
    sent = composed(options, made)
    assert (sent.bytes_up, sent.bytes_down) == (0, 0)


@slow
def test_without_the_others_answers_clients_learn_alone():
    _, _, found = run(of('fedgkt', alpha=0.0), net())
    _, _, expected = run(of('local'), net())
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(flat(ours.method), flat(theirs.method), rtol=1e-6)
