"""Methods that leave clients a model of their own, against NumPy from their papers."""

import dataclasses

import numpy as np
import personal_references as references
import pytest
from test_methods import ROUNDS, W, context, flat, of, reference_rounds, run

from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.training import personal

BIAS = references.BIAS
# Of the softmax model the bias stands for the last layer.
PARTS = {'head': frozenset({1}), 'body': frozenset({0})}


def divided(options):
    made = context()
    made = dataclasses.replace(made, model=dataclasses.replace(made.model, parts=PARTS))
    return dataclasses.replace(made, parts=getattr(options, 'parts', ()))


def own_models(options, made, state, kept):
    """Returns each client's own model, that never took part the start's, by number."""
    method = options.build(made)
    return [
        flat(personal.weights_of_client(method, made, state, each)) for each in kept
    ]


CASES = {
    'ditto': (of('ditto', lam=0.7), lambda r: references.ditto(W, r, 0.7)),
    'mrmtl': (of('mrmtl', lam=0.7), lambda r: references.mr_mtl(W, r, 0.7)),
    'apfl': (of('apfl', alpha=0.4), lambda r: references.apfl(W, r, 0.4)),
    'pfedme': (
        of('pfedme', lam=2.0, steps=3, own_learning_rate=0.1),
        lambda r: references.p_fed_me(W, r, 2.0, 3, 0.1),
    ),
    'fedper': (of('fedper'), lambda r: references.fed_per(W, r, BIAS)),
    'lgfedavg': (of('lgfedavg'), lambda r: references.fed_per(W, r, ~BIAS)),
    'fedrep': (of('fedrep'), lambda r: references.fed_rep(W, r, BIAS)),
}


@pytest.mark.parametrize('name', CASES)
def test_four_rounds_are_those_of_the_paper(name):
    options, reference = CASES[name]
    made = divided(options) if hasattr(options, 'parts') else context()
    _, state, kept = run(options, made)
    server, own = reference(reference_rounds())
    assert sorted(own) == [0, 1, 2, 3, 4]
    models = own_models(options, made, state, kept)
    for number, expected in own.items():
        assert np.abs(expected - W).max() > 0.1
        np.testing.assert_allclose(models[number], expected, rtol=2e-5, atol=2e-6)
    shared = flat(state.server.weights)
    if hasattr(options, 'parts'):
        server = server[BIAS if name == 'lgfedavg' else ~BIAS]
    np.testing.assert_allclose(shared, server, rtol=2e-5, atol=2e-6)


def test_each_has_its_case():
    keeping = {
        name
        for name in registry.BY_OWN_MODELS
        if (options := of(name)).build(divided(options)).adapt is None
    }
    assert {*CASES, 'local'} == keeping


def test_without_a_tie_own_models_are_those_of_clients_alone():
    _, _, expected = run(of('local'))
    for name in ('ditto', 'mrmtl'):
        _, _, kept = run(of(name, lam=0.0))
        for ours, theirs in zip(kept, expected, strict=True):
            np.testing.assert_allclose(
                flat(ours.method), flat(theirs.method), rtol=1e-6
            )


def test_their_server_is_that_of_federated_averaging():
    expected, _, _ = run(of('fedavg'))
    for options in (of('ditto'), of('apfl', alpha=0.0)):
        found, state, kept = run(options)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for model in own_models(options, context(), state, kept):  # Of alpha 0.
        np.testing.assert_allclose(model, expected, rtol=1e-6)


@pytest.mark.parametrize('name', ['fedper', 'lgfedavg', 'fedrep'])
def test_what_leaves_nothing_to_divide_is_refused(name):
    options = of(name)
    made = dataclasses.replace(context(), parts=options.parts)
    with pytest.raises(UserError, match='of what is trained, (all|none) would stay'):
        options.build(made)
    unknown = of(name, parts=('tail',))
    with pytest.raises(UserError, match="no part 'tail'; it has head, body"):
        unknown.build(dataclasses.replace(made, parts=unknown.parts))


def test_one_client_alone_is_federated_averaging_with_it():
    rounds = [[0]] * len(ROUNDS)
    expected, _, _ = run(of('fedavg'), rounds=rounds)
    for options in (of('mrmtl', lam=0.0), of('ditto', lam=0.0)):
        _, _, kept = run(options, rounds=rounds)
        np.testing.assert_allclose(flat(kept[0].method), expected, rtol=1e-6)
