"""Methods whose clients make their own models when these are used, against NumPy."""

import numpy as np
import personal_references as references
import pytest
import tensorflow as tf
from method_references import sgd
from test_methods import POPULATION, W, cohort, flat, of, reference_rounds, run
from test_personal_methods import divided

from tff_transfer import runtime
from tff_transfer.algorithms import compose, registry
from tff_transfer.algorithms.computations import Kept
from tff_transfer.errors import UserError
from tff_transfer.training import personal


def adapted(options, use=runtime.use_compiled):
    """Returns the server's weights after the rounds, and every client's own model."""
    made = divided(options)
    _, state, _ = run(options, made, use=use)
    method = options.build(made)
    composed = compose.compose(method, made)
    clients = range(POPULATION)
    with use():
        kept = composed.adapt()(state, cohort(clients))
    models = [
        flat(personal.weights_of_client(method, made, state, Kept(*each)))
        for each in kept
    ]
    return flat(state.server.weights), models


def tuned(w, batches, mask=None):
    direction = () if mask is None else (references.only(mask),)
    return sgd(w, batches, *direction)


CASES = {
    'fedavgft': (of('fedavgft'), tuned),
    'fedavgft, head': (
        of('fedavgft', tuned=('head',)),
        lambda w, batches: tuned(w, batches, references.BIAS),
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_own_models_are_those_of_the_paper(case):
    options, reference = CASES[case]
    server, models = adapted(options)
    (batches,) = reference_rounds([range(POPULATION)])
    for client, found in enumerate(models):
        expected = reference(server.astype(np.float64), batches[client])
        assert np.abs(expected - server).max() > 0.01
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_each_has_its_case():
    adapting = {
        name
        for name in registry.BY_OWN_MODELS
        if (options := of(name)).build(divided(options)).adapt is not None
    }
    assert {case.partition(',')[0] for case in CASES} == adapting


def test_training_is_that_of_federated_averaging():
    expected, _, _ = run(of('fedavg'))
    found, _, kept = run(of('fedavgft'))
    np.testing.assert_array_equal(found, expected)
    assert not any(tf.nest.flatten(kept))
    assert np.abs(found - W).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_equal_on_both_runtimes(case):
    options, _ = CASES[case]
    found, expected = adapted(options), adapted(options, runtime.use_stock)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_part_that_the_model_has_not_is_refused():
    with pytest.raises(UserError, match="no part 'tail'; it has head, body"):
        of('fedavgft', tuned=('tail',)).build(divided(of('fedavgft')))
