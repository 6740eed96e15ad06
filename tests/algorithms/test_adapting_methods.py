"""Methods whose clients make their own models when these are used, against NumPy."""

import dataclasses

import method_references as R
import numpy as np
import personal_references as references
import pytest
import tensorflow as tf
import walks
from method_references import sgd
from test_methods import (
    POPULATION,
    W,
    X,
    cohort,
    composed,
    context,
    context_for,
    flat,
    of,
    reference_rounds,
    run,
)
from test_personal_methods import divided

from tff_transfer import runtime
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.computations import Kept
from tff_transfer.algorithms.ridge import PENALTIES
from tff_transfer.errors import UserError
from tff_transfer.training import personal


def adapted(options, use=runtime.use_compiled):
    """Returns the server's weights after the rounds, and every client's own model."""
    made = divided(options)
    evaluated, state, _ = run(options, made, use=use)
    method = options.build(made)
    clients = range(POPULATION)
    with use():
        kept = composed(options, made).adapt()(state, cohort(clients))
    models = [
        flat(personal.weights_of_client(method, made, state, Kept(*each)))
        for each in kept
    ]
    return evaluated, models


def tuned(w, batches, mask=None):
    direction = () if mask is None else (references.only(mask),)
    return sgd(w, batches, *direction)


# What rounds come to, and what a client makes of that.
BIAS = references.BIAS
CASES = {
    'fedavgft': (of('fedavgft'), R.fed_avg, tuned),
    'fedavgft, head': (
        of('fedavgft', tuned=('head',)),
        R.fed_avg,
        lambda w, batches: tuned(w, batches, BIAS),
    ),
    'fedbabu': (
        of('fedbabu'),
        lambda w, rounds: references.fed_babu(w, rounds, BIAS),
        tuned,
    ),
    'fedbabu, head': (
        of('fedbabu', tuned=('head',)),
        lambda w, rounds: references.fed_babu(w, rounds, BIAS),
        lambda w, batches: tuned(w, batches, BIAS),
    ),
    'perfedavg': (
        of('perfedavg', alpha=0.4),
        lambda w, rounds: references.per_fed_avg(w, rounds, 0.4),
        lambda w, batches: sgd(w, batches, rate=0.4),
    ),
    'perfedavg, hessian-free': (
        of('perfedavg', alpha=0.4, variant='hessian_free'),
        lambda w, rounds: references.per_fed_avg(w, rounds, 0.4, hessian=True),
        lambda w, batches: sgd(w, batches, rate=0.4),
    ),
    'fedrecon': (
        of('fedrecon'),
        lambda w, rounds: references.fed_recon(w, rounds, BIAS),
        lambda w, batches: tuned(w, batches, BIAS),
    ),
    'fedrecon, body, split': (
        of('fedrecon', reconstructed=('body',), split=True),
        lambda w, rounds: references.fed_recon(w, rounds, ~BIAS, split=True),
        lambda w, batches: tuned(w, batches, ~BIAS),
    ),
    'personalridge': (
        of('personalridge', penalty=0.5),
        lambda w, rounds: R.ridge(rounds, 0.5),
        lambda w, batches: references.own_ridge(w, batches, PENALTIES)[0],
    ),
    'personalridge, one lambda': (
        of('personalridge', lam=3.0),
        lambda w, rounds: R.ridge(rounds, 1.0),
        lambda w, batches: references.own_ridge(w, batches, [3.0])[0],
    ),
    'personalprototype': (
        of('personalprototype', prior=2.5),
        lambda w, rounds: R.prototype(rounds),
        lambda w, batches: references.own_prototype(w, batches, 2.5),
    ),
    'personalprototype, no prior': (
        of('personalprototype', prior=0.0),
        lambda w, rounds: R.prototype(rounds),
        lambda w, batches: references.own_prototype(w, batches, 0.0),
    ),
}

# Second derivatives by differences, a part alone, and a head by a formula.
OF_EACH_KIND = ('perfedavg, hessian-free', 'fedrecon, body, split', 'personalridge')


def rounding(case, of_gradients):
    """Returns a tolerance: a difference of gradients has fewer digits than they."""
    return 2e-4 if 'hessian' in case else of_gradients


@pytest.mark.parametrize(
    'case',
    [
        c
        if c in ('fedbabu', 'perfedavg', 'personalridge')
        else pytest.param(c, marks=pytest.mark.slow)
        for c in CASES
    ],
)
def test_own_models_are_those_of_the_paper(case):
    options, of_rounds, of_client = CASES[case]
    server, models = adapted(options)
    expected = of_rounds(W, reference_rounds())
    assert np.abs(expected - W).max() > 0.1
    np.testing.assert_allclose(server, expected, rtol=2e-5, atol=rounding(case, 2e-6))
    (batches,) = reference_rounds([range(POPULATION)])
    own = [of_client(server.astype(np.float64), batches[c]) for c in batches]
    assert np.abs(own - server).max() > 0.01
    np.testing.assert_allclose(models, own, rtol=2e-5, atol=2e-6)


def test_each_has_its_case():
    methods = {
        name: of(name).build(context_for(name)) for name in registry.BY_OWN_MODELS
    }
    adapting = {name for name, method in methods.items() if method.adapt is not None}
    beyond = {name for name, method in methods.items() if method.outputs is not None}
    assert beyond == set(registry.BEYOND_WEIGHTS)
    # Clients that choose among models, and that go by near examples, have files of
    # their own: test_ifca.py, test_near_examples.py.
    elsewhere = {'ifca', 'knnper'}
    assert {case.partition(',')[0] for case in CASES} | elsewhere == adapting
    assert set(registry.IN_ONE_PASS) <= adapting


def test_training_is_that_of_federated_averaging():
    expected, _, _ = run(of('fedavg'))
    options = of('fedavgft')
    found, _, kept = run(options, divided(options))
    np.testing.assert_array_equal(found, expected)
    assert not any(tf.nest.flatten(kept))
    assert np.abs(found - W).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize('case', walks.over(CASES, OF_EACH_KIND))
def test_equal_on_both_runtimes(case):
    options, *_ = CASES[case]
    found, expected = adapted(options), adapted(options, runtime.use_stock)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=rounding(case, 1e-6))


@pytest.mark.slow
@pytest.mark.parametrize('variant', ['first_order', 'hessian_free'])
def test_per_fed_avg_without_own_steps_is_federated_averaging(variant):
    server, models = adapted(of('perfedavg', alpha=0.0, variant=variant))
    expected, _, _ = run(of('fedavg'))
    for found in (server, *models):
        np.testing.assert_array_equal(found, expected)


def test_clients_of_personal_ridge_choose_for_themselves():
    server, _ = adapted(of('personalridge', penalty=0.5))
    (batches,) = reference_rounds([range(POPULATION)])
    w = server.astype(np.float64)
    chosen = {references.own_ridge(w, mine, PENALTIES)[1] for mine in batches.values()}
    assert len(chosen) > 1


@pytest.mark.parametrize(
    'options', [of('personalridge', lam=1e12), of('personalprototype', prior=1e12)]
)
def test_own_heads_held_fast_are_the_head_of_all(options):
    server, models = adapted(options)
    for model in models:
        np.testing.assert_allclose(model, server, rtol=1e-6, atol=1e-7)


# Of IFCA there is no model of all.
@pytest.mark.parametrize('name', sorted({*registry.IN_ONE_PASS} - {'ifca'}))
def test_a_client_without_examples_has_the_model_of_all(name):
    made, options = context(), of(name)
    method = options.build(made)
    evaluated, state, _ = run(options, made)
    nothing = dataclasses.replace(cohort([0]), row_splits=np.array([0, 0]))
    with runtime.use_compiled():
        (kept,) = composed(options, made).adapt()(state, nothing)
    kept = Kept(*kept)
    found = personal.outputs_of_client(method, made, state, kept, X[1])
    expected = R.logits(evaluated.astype(np.float64), X[1])
    if name == 'knnper':
        expected = np.log(R.probabilities(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_second_derivative_counts():
    cases = ('perfedavg', 'perfedavg, hessian-free')
    found = [run(o, divided(o))[0] for o, *_ in map(CASES.get, cases)]
    assert np.abs(found[0] - found[1]).max() > 0.01


@pytest.mark.parametrize(
    'options',
    [
        of('fedavgft', tuned=('tail',)),
        of('fedbabu', tuned=('tail',)),
        of('fedrecon', reconstructed=('tail',)),
    ],
)
def test_a_part_that_the_model_has_not_is_refused(options):
    with pytest.raises(UserError, match="no part 'tail'; it has head, body"):
        options.build(divided(options))
