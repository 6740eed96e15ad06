"""Methods that leave clients a model of their own, against NumPy from their papers."""

import dataclasses
import functools

import numpy as np
import personal_references as references
import pytest
import test_methods
from method_references import CLASSES, FEATURES, HIDDEN
from test_methods import (
    ROUNDS,
    W,
    composed,
    context,
    context_for,
    each_round,
    flat,
    of,
    reference_rounds,
    run,
)

from tff_transfer import models
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.training import personal

BIAS = references.BIAS
# Of the softmax model the bias stands for the last layer.
PARTS = {'head': frozenset({1}), 'body': frozenset({0})}


def divided(options):
    return in_parts(getattr(options, 'parts', ()))


@functools.cache
def in_parts(parts):
    made = context()
    model = dataclasses.replace(made.model, parts=PARTS)
    return dataclasses.replace(made, model=model, parts=parts)


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
    'fedala': (
        of('fedala', eta=2.0, share=0.5),
        lambda r: references.fed_ala(W, r, BIAS, 2.0, 0.5),
    ),
    'feddistill': (
        of('feddistill', gamma=2.0),
        lambda r: (W, references.fed_distill(W, r, 2.0)[0]),
    ),
    'fedamp': (
        of('fedamp', alpha=0.7, sigma=2.0, lam=0.5),
        lambda r: references.fed_amp(W, r, 0.7, 2.0, 0.5),
    ),
    'fedrep': (of('fedrep'), lambda r: references.fed_rep(W, r, BIAS)),
}


# Of a network with a hidden layer, from its start.
OF_NETS = {
    'fedrod': (of('fedrod'), {}, references.fed_rod),
    'fedproto': (
        of('fedproto', lam=3.0),
        {},
        lambda w, r: references.fed_proto(w, r, 3.0),
    ),
    'fedproto, uniform': (
        of('fedproto', lam=3.0),
        {'weighting': 'uniform'},
        lambda w, r: references.fed_proto(w, r, 3.0, uniform=True),
    ),
    'fedproto, head': (
        of('fedproto', predictor='head'),
        {},
        lambda w, r: references.fed_proto(w, r, 1.0, predictor='head'),
    ),
}


@functools.cache
def net(**changed):
    hidden = models.mlp((FEATURES,), CLASSES, (HIDDEN,))
    return dataclasses.replace(context(**changed), model=hidden)


@pytest.mark.parametrize(
    'case',
    [
        c if c == 'fedproto' else pytest.param(c, marks=pytest.mark.slow)
        for c in OF_NETS
    ],
)
def test_four_rounds_of_a_network_are_those_of_the_paper(case):
    options, changed, reference = OF_NETS[case]
    made = net(**changed)
    _, state, kept = run(options, made)
    start = flat(made.initial).astype(np.float64)
    server, own = reference(start, reference_rounds())
    assert sorted(own) == [0, 1, 2, 3, 4]
    models = own_models(options, made, state, kept)
    for number, expected in own.items():
        assert np.abs(expected - start).max() > 0.1
        np.testing.assert_allclose(models[number], expected, rtol=2e-5, atol=2e-6)
    shared = flat(state.server.weights)
    np.testing.assert_allclose(shared, server, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    'name',
    [
        n
        if n in ('ditto', 'apfl', 'fedper')
        else pytest.param(n, marks=pytest.mark.slow)
        for n in CASES
    ],
)
def test_four_rounds_are_those_of_the_paper(name):
    options, reference = CASES[name]
    made = divided(options)
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
        if of(name).build(context_for(name)).adapt is None
    }
    of_nets = {case.partition(',')[0] for case in OF_NETS}
    assert {*CASES, *of_nets, 'local'} == keeping


@pytest.mark.slow
def test_without_a_tie_own_models_are_those_of_clients_alone():
    _, _, expected = run(of('local'))
    for name in ('ditto', 'mrmtl'):
        _, _, kept = run(of(name, lam=0.0))
        for ours, theirs in zip(kept, expected, strict=True):
            np.testing.assert_allclose(
                flat(ours.method), flat(theirs.method), rtol=1e-6
            )


@pytest.mark.slow
def test_their_server_is_that_of_federated_averaging():
    expected, _, _ = run(of('fedavg'))
    for name in {*registry.WITH_GLOBAL_MODEL} - {*registry.OF_ONE_ROUND}:
        found, _, _ = run(of(name))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
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


@pytest.mark.slow
def test_one_client_alone_is_federated_averaging_with_it():
    rounds = [[0]] * len(ROUNDS)
    expected, _, _ = run(of('fedavg'), rounds=rounds)
    for options in (of('mrmtl', lam=0.0), of('ditto', lam=0.0)):
        _, _, kept = run(options, rounds=rounds)
        np.testing.assert_allclose(flat(kept[0].method), expected, rtol=1e-6)


def test_generic_heads_of_classes_alike_are_federated_averaging(monkeypatch):
    alike = [np.arange(len(y)) % CLASSES for y in test_methods.Y]
    monkeypatch.setattr(test_methods, 'Y', alike)
    rounds = [[0], [0, 2], [2]]  # Of 9 and 6 examples of three classes.
    expected, _, _ = run(of('fedavg'), net(), rounds)
    found, _, _ = run(of('fedrod'), net(), rounds)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    others, _, _ = run(of('fedrod'), net(), [[1]])  # Of 4: the classes are not alike.
    plain, _, _ = run(of('fedavg'), net(), [[1]])
    assert np.abs(others - plain).max() > 1e-3


def test_two_heads_need_a_dense_last_layer():
    cosine = models.mlp((FEATURES,), CLASSES, (HIDDEN,), cosine=True)
    with pytest.raises(UserError, match='whose last layer is a dense one with a bias'):
        of('fedrod').build(dataclasses.replace(context(), model=cosine))


@pytest.mark.slow
def test_prototypes_that_hold_nothing_leave_clients_alone():
    _, _, expected = run(of('local'), net())
    _, _, found = run(of('fedproto', lam=0.0), net())
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(flat(ours.method), flat(theirs.method), rtol=1e-6)


def test_classes_that_nobody_has_keep_their_prototype():
    made, options = net(), of('fedproto')
    found = each_round(options, made, [[3], [0], [3]])
    first, second, third = (state.server.prototypes for _, state, _ in found)
    has = np.isin(range(CLASSES), test_methods.Y[3])
    assert has.any() and not has.all()
    np.testing.assert_array_equal(first.known, has)
    assert second.known.all() and third.known.all()
    np.testing.assert_array_equal(third.means[~has], second.means[~has])
    assert np.abs(third.means[has] - second.means[has]).max() > 1e-3
    # A class without a prototype is never the nearest.
    _, state, kept = found[0]
    weights = personal.weights_of_client(options.build(made), made, state, kept[3])
    logits = made.model.logits(weights, test_methods.X[0]).numpy()
    assert logits[:, ~has].max() < logits[:, has].min() - 1e6


@pytest.mark.parametrize(
    'weighting', ['uniform', pytest.param('examples', marks=pytest.mark.slow)]
)
def test_teachers_are_what_others_answered_when_they_had_the_class(weighting):
    made, options = context(weighting=weighting), of('feddistill', gamma=2.0)
    rounds = [*ROUNDS, [3], [0, 3], [3]]  # The last one has not all classes.
    _, state, kept = run(options, made, rounds)
    uniform = weighting == 'uniform'
    args = W, reference_rounds(rounds), 2.0, uniform
    own, said = references.fed_distill(*args)
    models = own_models(options, made, state, kept)
    for number, expected in own.items():
        np.testing.assert_allclose(models[number], expected, rtol=2e-5, atol=2e-6)
    answers = state.server.answers
    for c, of_clients in said.items():
        expected = sum(
            np.mean(a, 0) if uniform else sum(a) for a in of_clients.values()
        )
        np.testing.assert_allclose(answers.sums[c], expected, rtol=1e-5)
        assert answers.counts[c] == sum(
            1 if uniform else len(a) for a in of_clients.values()
        )
    last = [
        max(
            t
            for t, n in enumerate(rounds, 1)
            if c in np.concatenate([test_methods.Y[i] for i in n])
        )
        for c in range(CLASSES)
    ]
    assert min(last) < len(rounds)
    np.testing.assert_array_equal(answers.rounds, last)


@pytest.mark.slow
@pytest.mark.parametrize(('gamma', 'rounds'), [(2.0, [[0], [0], [0]]), (0.0, ROUNDS)])
def test_without_others_or_weight_clients_learn_alone(gamma, rounds):
    options = of('feddistill', gamma=gamma)
    _, _, found = run(options, rounds=rounds)
    _, _, expected = run(of('local'), rounds=rounds)
    for ours, theirs in zip(found, expected, strict=True):
        own = flat(ours.method.weights)
        np.testing.assert_allclose(own, flat(theirs.method), rtol=1e-6)


def test_predictions_by_class_are_all_that_travels():
    of_clients = composed(of('feddistill'), context())
    assert of_clients.bytes_up == 4 * (CLASSES * CLASSES + CLASSES)
    assert of_clients.bytes_down == of_clients.bytes_up + 4 * CLASSES


ALL = ('head', 'body')


@pytest.mark.slow
@pytest.mark.parametrize('share', [0.5, 1.0])
def test_mixing_weights_are_learned_in_each_round_anew(share):
    rounds = [*ROUNDS, [2, 0, 3], [0, 4], [0, 1, 2]]
    options = of('fedala', mixed=ALL, eta=5.0, share=share)
    _, state, kept = run(options, divided(options), rounds)
    everywhere = np.full(W.shape, True)
    args = everywhere, 5.0, share
    server, own = references.fed_ala(W, reference_rounds(rounds), *args)
    np.testing.assert_allclose(flat(state.server.weights), server, rtol=1e-4, atol=1e-5)
    for number, expected in own.items():
        found = flat(kept[number].method.weights)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    mixing = flat(kept[0].method.mixing)
    assert 0 <= mixing.min() < 0.5 < mixing.max() <= 1
    never = references.fed_ala(W, reference_rounds(rounds), everywhere, 0.0, share)
    assert np.abs(never[1][0] - own[0]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize('alpha', [0.3, 0.95])
def test_each_client_learns_its_alpha(alpha):
    options = of('apfl', alpha=alpha, adaptive_alpha=True)
    rounds = [*ROUNDS, *ROUNDS, *ROUNDS]
    _, state, kept = run(options, rounds=rounds)
    alphas, own = references.apfl(W, reference_rounds(rounds), alpha, adaptive=True)
    found = [float(each.method[-1]) for each in kept]
    np.testing.assert_allclose(found, [alphas[n] for n in range(5)], rtol=1e-4)
    assert max(found) - min(found) > 0.02
    assert (max(found) == 1) == (alpha == 0.95)
    models = own_models(options, context(), state, kept)
    for number, expected in own.items():
        np.testing.assert_allclose(models[number], expected, rtol=1e-4, atol=1e-5)


def test_an_adaptive_alpha_is_for_plain_sgd():
    options = of('apfl', adaptive_alpha=True)
    with pytest.raises(UserError, match='without momentum on the clients; leave'):
        options.build(context(0.9))


@pytest.mark.slow
def test_others_have_no_more_than_all_of_a_mixture():
    options = of('fedamp', alpha=5.0, sigma=20.0, lam=0.5)
    rounds = [*ROUNDS, *ROUNDS]
    _, _, kept = run(options, rounds=rounds)
    _, own = references.fed_amp(W, reference_rounds(rounds), 5.0, 20.0, 0.5)
    for number, expected in own.items():
        np.testing.assert_allclose(
            flat(kept[number].method), expected, rtol=2e-5, atol=2e-6
        )


def test_a_model_up_and_a_mixture_down_are_all_that_travels():
    of_clients = composed(
        of('fedamp', alpha=0.7, sigma=2.0, lam=0.5), divided(of('fedamp'))
    )
    model = 4 * references.SIZE
    assert of_clients.bytes_down == model
    assert of_clients.bytes_up == model + 4  # And its weight.


@pytest.mark.slow
def test_without_mixing_it_is_federated_averaging():
    expected, _, _ = run(of('fedavg'))
    for options in (of('fedala', mixed=()), of('fedala', mixed=ALL, eta=0.0)):
        found, _, kept = run(options, divided(options))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    # All weights stay one: the server's are taken.
    assert all((flat(each.method.mixing) == 1).all() for each in kept)
