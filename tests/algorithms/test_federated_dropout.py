"""Clients that train a part of the hidden units, against smaller networks in NumPy."""

import dataclasses

import numpy as np
import pytest
import walks
from method_references import CLASSES, FEATURES, RATE, probabilities
from test_methods import cohort, context, flat, of, reference_rounds

from tff_transfer import models, runtime
from tff_transfer.algorithms import compose
from tff_transfer.compression.federated_dropout import Hidden, SubNetworks
from tff_transfer.models.hidden import hidden_layers

UNITS = (8, 5)


def net(units=UNITS):
    model = models.mlp((FEATURES,), CLASSES, units, seed=1)
    return dataclasses.replace(context(), model=model)


def of_clients(made, name='fedavg', share=0.6):
    layers = [Hidden(*layer) for layer in hidden_layers(made.model)]
    parts = SubNetworks(layers, [w.shape for w in made.initial], share)
    return compose.compose(of(name).build(made), made, sub_networks=parts)


def trained(weights, batches):
    """SGD on a network of dense layers with ReLU, of any sizes: kernels and biases."""
    weights = [np.array(w, np.float64) for w in weights]
    for x, y in batches:
        layers = list(zip(weights[::2], weights[1::2], strict=True))
        inputs = [x]
        for kernel, bias in layers[:-1]:
            inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0))
        kernel, bias = layers[-1]
        back = probabilities(inputs[-1] @ kernel + bias) - np.eye(CLASSES)[y]
        back, moved = back / len(y), []
        for value, (kernel, _) in zip(inputs[::-1], layers[::-1], strict=True):
            moved = [value.T @ back, back.sum(0), *moved]
            back = (back @ kernel.T) * (value > 0)
        weights = [w - RATE * g for w, g in zip(weights, moved, strict=True)]
    return weights


def kept_units(delta):
    """Returns the numbers of the units of each hidden layer that a delta moved."""
    return [np.flatnonzero(np.abs(delta[i]).max(0)) for i in (0, 2)]


def smaller(weights, kept, factors):
    """Returns a network's weights without other units, what goes out scaled."""
    (first, second), (one, two) = kept, factors
    k1, b1, k2, b2, k3, b3 = weights
    return [
        *(k1[:, first], b1[first]),
        *(one * k2[np.ix_(first, second)], b2[second]),
        *(two * k3[second], b3),
    ]


def one_client(made, process, client, round_number):
    with runtime.use_compiled(seed=5), runtime.in_round(round_number):
        state = process.initialize()
        after = process.next(state, cohort([client])).state
    before = [np.array(w) for w in made.initial]
    return before, [np.array(w) for w in after.server.weights]


@pytest.mark.parametrize('client', [0, pytest.param(4, marks=pytest.mark.slow)])
def test_a_client_trains_the_smaller_network(client):
    made = net()
    before, after = one_client(made, of_clients(made).process, client, 1)
    delta = [a - b for a, b in zip(after, before, strict=True)]
    kept = kept_units(delta)
    counts = [len(units) for units in kept]
    assert counts == [5, 3]  # Of 8 and 5 units 60 %.
    scales = [8 / 5, 5 / 3]
    batches = reference_rounds([[client]])[0][client]
    expected = trained(smaller(before, kept, scales), batches)
    start = smaller(before, kept, scales)
    moved = [e - s for e, s in zip(expected, start, strict=True)]
    moved[2], moved[4] = moved[2] / scales[0], moved[4] / scales[1]
    found = smaller(delta, kept, (1, 1))
    for ours, theirs in zip(found, moved, strict=True):
        assert np.abs(theirs).max() > 1e-2
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    # Nothing else has moved.
    for ours, theirs in zip(delta, found, strict=True):
        np.testing.assert_allclose(np.abs(ours).sum(), np.abs(theirs).sum(), rtol=1e-5)


@pytest.mark.slow
def test_units_are_drawn_for_each_client_and_round():
    made, drawn = net(), {}
    process = of_clients(made).process
    for round_number in range(1, 5):
        before, after = one_client(made, process, 0, round_number)
        delta = [a - b for a, b in zip(after, before, strict=True)]
        drawn[round_number] = [tuple(units) for units in kept_units(delta)]
    before, after = one_client(made, process, 0, 2)
    again = kept_units([a - b for a, b in zip(after, before, strict=True)])
    assert [tuple(units) for units in again] == drawn[2]
    assert len({units for units, _ in drawn.values()}) > 2
    with runtime.use_compiled(seed=5), runtime.in_round(1):
        after = process.next(process.initialize(), cohort([0, 0, 0, 0])).state
    moved = np.abs(after.server.weights[0] - made.initial[0]).max(0)
    assert np.count_nonzero(moved) > 5  # Four clients have not the same 5 of 8.


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', walks.over(['fedprox', 'fedntd', 'fedadam', 'fedsam'], ['fedntd'])
)
def test_methods_of_which_all_units_stay_are_what_they_are(name):
    made = net()
    whole = compose.compose(of(name).build(made), made)
    parts = of_clients(made, name, share=1.0)
    found = []
    with runtime.use_compiled(seed=5):
        for process in (whole.process, parts.process):
            state = process.initialize()
            for clients in ([0, 1], [2, 0]):
                state = process.next(state, cohort(clients)).state
            found.append(flat(state.server.weights))
    np.testing.assert_allclose(*found, rtol=1e-6, atol=1e-7)


def test_a_smaller_network_travels_each_way():
    made = of_clients(net())
    numbers = FEATURES * 5 + 5 + 5 * 3 + 3 + 3 * CLASSES + CLASSES
    assert made.bytes_up == 4 * numbers + 4  # And the client's weight.
    assert made.bytes_down == 4 * numbers + 8  # And the seed of its units.


def test_hidden_layers_are_dense_ones_before_dense_ones():
    assert hidden_layers(net().model) == [((0, 1), 2), ((2, 3), 4)]
    assert hidden_layers(models.mlp((4,), 3)) == []
    assert hidden_layers(models.mlp((4,), 3, (6,), cosine=True)) == []
    assert hidden_layers(models.mlp((4,), 3, (6,), dropout=0.5)) == [((0, 1), 2)]
    assert hidden_layers(models.cnn((8, 8, 1), 3)) == [((4, 5), 6)]
