"""IFCA: which model clients take, what they make of it, and who is judged by which."""

import numpy as np
import personal_references as references
import pytest
import tensorflow_federated as tff
import test_methods
from test_methods import (
    POPULATION,
    ROUNDS,
    W,
    cohort,
    composed,
    context,
    context_for,
    each_round,
    flat,
    of,
    reference_rounds,
    run,
)

from tff_transfer import models, runtime
from tff_transfer.algorithms.computations import Kept
from tff_transfer.training import personal

CLUSTERS = 3
OPTIONS = of('ifca', clusters=CLUSTERS, noise=2.0)


def models_of(server):
    """Returns the server's models, each flat."""
    return [
        flat([stacked[each] for stacked in server.models.weights])
        for each in range(len(server.chosen))
    ]


def started(options=OPTIONS, made=None):
    """Returns the models at the start, each flat, float64."""
    made = made or context()
    with runtime.use_compiled():
        state = composed(options, made).process.initialize()
    return [each.astype(np.float64) for each in models_of(state.server)]


def test_four_rounds_are_those_of_the_paper():
    first = started()
    for number, (_, state, _) in enumerate(each_round(OPTIONS), start=1):
        expected, taken = references.ifca(first, reference_rounds()[:number])
        found = models_of(state.server)
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
        np.testing.assert_array_equal(state.server.chosen, taken[-1])
        most = int(np.argmax(taken[-1]))
        np.testing.assert_array_equal(flat(state.server.weights), found[most])
    # Clients differed, and changed their minds.
    assert max(map(np.count_nonzero, taken)) > 1
    assert len({int(np.argmax(each)) for each in taken}) > 1


def test_starts_are_the_models_own_and_noise_of_the_seed():
    first, second, third = started()
    np.testing.assert_array_equal(first, W)
    moved = np.stack([second, third]) - W
    assert np.abs(moved[:, ~references.BIAS]).min() > 0
    assert not moved[:, references.BIAS].any()
    np.testing.assert_array_equal(started(), [first, second, third])
    other = started(made=context(seed=1))
    assert np.abs(other[1] - second).max() > 0.1
    # Of many draws: as Glorot's, of 2 / (inputs + outputs), times the noise.
    wide = models.mlp((200,), 100, (300,))
    made = context_for('ifca')
    made = type(made)(wide, made.client_optimizer, made.server_optimizer)
    start, noisy = started(of('ifca', noise=0.5), made)
    spread = (noisy - start)[: 200 * 300].std()
    assert spread == pytest.approx(0.5 * np.sqrt(2 / 500), rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('momentum', 'more'),
    [
        pytest.param(None, {}, marks=pytest.mark.walk),
        (None, {'weighting': 'uniform'}),
        (0.9, {}),
    ],
)
def test_one_model_is_federated_averaging(momentum, more):
    made = context(momentum, **more)
    found, _, _ = run(of('ifca', clusters=1), made)
    expected, _, _ = run(of('fedavg'), made)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_what_nobody_took_stays_with_an_optimizer_that_remembers():
    made = context()
    adam = tff.learning.optimizers.build_adam(0.1)
    made = type(made)(made.model, made.client_optimizer, adam)
    before = started(made=made)
    for _, state, _ in each_round(OPTIONS, made):
        after = models_of(state.server)
        for old, new, taken in zip(before, after, state.server.chosen, strict=True):
            assert (np.abs(new - old).max() > 1e-3) == (taken > 0)
        before = after


def test_clients_are_judged_by_the_model_that_suits_their_training_examples():
    made = context()
    method = OPTIONS.build(made)
    of_clients = composed(OPTIONS, made)
    assert of_clients.kept is None
    _, state, _ = run(OPTIONS, made, ROUNDS[:2])
    with runtime.use_compiled():
        adapted = of_clients.adapt()(state, cohort(range(POPULATION)))
    found = [
        flat(personal.weights_of_client(method, made, state, Kept(*each)))
        for each in adapted
    ]
    theirs = models_of(state.server)
    (batches,) = reference_rounds([range(POPULATION)])
    choices = [
        references.nearest([w.astype(np.float64) for w in theirs], batches[client])
        for client in range(POPULATION)
    ]
    assert len(set(choices)) > 1
    np.testing.assert_array_equal(found, [theirs[each] for each in choices])


@pytest.mark.slow
def test_other_weights_are_a_new_start():
    process = composed(OPTIONS, context()).process
    with runtime.use_compiled():
        state = process.initialize()
        weights = process.get_model_weights(state)
        other = type(weights)([w + 1 for w in weights.trainable], weights.non_trainable)
        after = process.set_model_weights(state, other)
    np.testing.assert_allclose(
        models_of(after.server), [w + 1 for w in started()], rtol=1e-6, atol=1e-6
    )


def test_clients_of_two_kinds_part(monkeypatch):
    # Labels are by the same features, but clients 1 and 3 have them the other way.
    labels = [(x[:, 0] > 0).astype(np.int32) for x in test_methods.X]
    for client in (1, 3):
        labels[client] = 1 - labels[client]
    monkeypatch.setattr(test_methods, 'Y', labels)
    made, options = context(), of('ifca', noise=1.0)
    _, state, _ = run(options, made, [list(range(POPULATION))] * 8)
    with runtime.use_compiled():
        adapted = composed(options, made).adapt()(state, cohort(range(POPULATION)))
    choices = [int(each.method) for each in adapted]
    assert choices[1] == choices[3] != choices[0] == choices[2] == choices[4]
    assert sorted(state.server.chosen) == [2, 3]
