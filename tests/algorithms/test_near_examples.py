"""kNN-Per, beside scikit-learn's vote of near examples."""

import dataclasses

import method_references as R
import numpy as np
import pytest
import sklearn.neighbors
from test_methods import (
    POPULATION,
    X,
    Y,
    cohort,
    composed,
    context,
    context_for,
    of,
    run,
)

from tff_transfer import models, runtime
from tff_transfer.algorithms.computations import Kept
from tff_transfer.errors import UserError
from tff_transfer.training import personal

INPUTS = np.random.default_rng(3).normal(size=(20, R.FEATURES)).astype(np.float32)


def predicted(options, made, use=runtime.use_compiled):
    """Returns the weights of all, and each client's probabilities of `INPUTS`."""
    method = options.build(made)
    _, state, _ = run(options, made, use=use)
    with use():
        kept = composed(options, made).adapt()(state, cohort(range(POPULATION)))
    outputs = [
        personal.outputs_of_client(method, made, state, Kept(*each), INPUTS)
        for each in kept
    ]
    return state.server.weights, [R.probabilities(np.array(o)) for o in outputs]


def represented(weights, x):
    *below, _, _ = (np.asarray(w, np.float64) for w in weights)
    return np.maximum(x @ below[0] + below[1], 0) if below else x


def votes(weights, x, y, k):
    made = sklearn.neighbors.KNeighborsClassifier(
        min(k, len(x)), weights=lambda distances: np.exp(-distances)
    )
    made.fit(represented(weights, x), y)
    found = np.zeros([len(INPUTS), R.CLASSES])
    found[:, made.classes_] = made.predict_proba(represented(weights, INPUTS))
    return found


ALONE, FEWER = {'lam': 1.0}, {'k': 2, 'capacity': 3}


@pytest.mark.parametrize(
    ('hidden', 'more'),
    [
        (False, {'k': 3}),
        (True, FEWER),
        *(
            pytest.param(hidden, more, marks=[pytest.mark.slow, pytest.mark.walk])
            for hidden, more in ((False, ALONE), (False, FEWER), (True, {'k': 3}))
        ),
        pytest.param(True, ALONE, marks=pytest.mark.slow),
    ],
)
def test_near_examples_vote(hidden, more):
    options = of('knnper', **more)
    weights, found = predicted(options, context_for('moon') if hidden else context())
    kernel, bias = (np.asarray(w, np.float64) for w in weights[-2:])
    of_all = R.probabilities(represented(weights, INPUTS) @ kernel + bias)
    for client, ours in enumerate(found):
        x, y = (part[client][: options.capacity] for part in (X, Y))
        near = votes(weights, x, y, options.k)
        expected = options.lam * near + (1 - options.lam) * of_all
        assert np.abs(near - of_all).max() > 0.1
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_without_a_vote_it_is_federated_averaging():
    weights, found = predicted(of('knnper', lam=0.0), context())
    expected, _, _ = run(of('fedavg'))
    np.testing.assert_array_equal(np.concatenate([*map(np.ravel, weights)]), expected)
    of_all = R.probabilities(R.logits(expected.astype(np.float64), INPUTS))
    for ours in found:
        np.testing.assert_allclose(ours, of_all, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_votes_are_equal_on_both_runtimes():
    _, found = predicted(of('knnper'), context_for('moon'))
    _, expected = predicted(of('knnper'), context_for('moon'), runtime.use_stock)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_model_without_a_last_dense_layer_is_refused():
    made = context()
    model = models.Model(made.model.functional, None, False, '')
    made = dataclasses.replace(made, model=model)
    with pytest.raises(UserError, match='kNN-Per compares what a last dense layer'):
        of('knnper').build(made)
