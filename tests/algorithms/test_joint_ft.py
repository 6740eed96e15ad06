"""Joint fine-tuning: early stopping, what it holds out, and where it is FedAvg."""

import dataclasses

import method_references as references
import numpy as np
import pytest
from personal_references import BIAS
from test_methods import (
    POPULATION,
    SIZES,
    W,
    cohort,
    composed,
    context,
    each_round,
    flat,
    of,
    reference_rounds,
    run,
)
from test_personal_methods import divided, own_models

from tff_transfer import runtime
from tff_transfer.errors import UserError

EPOCHS, FRACTION, PATIENCE = 20, 0.35, 2
OPTIONS = of('jointft', validation_fraction=FRACTION, patience=PATIENCE)


def told():
    """Returns NumPy's validation losses by pass, of each round's clients."""
    losses = []
    references.joint_ft(W, reference_rounds(), EPOCHS, FRACTION, PATIENCE, losses)
    return losses


def test_clients_of_the_reference_stop_at_the_start_on_the_way_and_never():
    best = [(np.argmin(one), len(one) - 1) for clients in told() for one in clients]
    assert (0, PATIENCE) in best and (EPOCHS, EPOCHS) in best
    assert any(at > 0 and passes == at + PATIENCE for at, passes in best)


def test_the_server_measures_the_loss_at_the_weights_that_it_sent():
    held = [int(FRACTION * n) for n in SIZES]
    for (_, state, _), clients, losses in zip(
        each_round(OPTIONS, context(epochs=EPOCHS)),
        ([0, 1, 2], [2, 3], [4, 0, 3], [1, 4]),
        told(),
        strict=True,
    ):
        at_start = [one[0] for one in losses]
        expected = np.average(at_start, weights=[held[c] for c in clients])
        np.testing.assert_allclose(state.server.validation_loss, expected, rtol=1e-5)


@pytest.mark.slow
def test_many_passes_are_equal_on_both_runtimes():
    made = context(epochs=EPOCHS)
    found, _, _ = run(OPTIONS, made)
    expected, _, _ = run(OPTIONS, made, use=runtime.use_stock)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('momentum', [pytest.param(None, marks=pytest.mark.slow), 0.9])
def test_without_a_validation_part_it_is_federated_averaging(momentum):
    # Of whole batches, so that several epochs in one dataset are cut likewise.
    made, rounds = context(momentum, epochs=3), [[1, 4], [4, 1]]
    found, state, _ = run(of('jointft', validation_fraction=0.0), made, rounds)
    averaged = composed(of('fedavg'), made).process
    with runtime.use_compiled():
        expected = averaged.initialize()
        for clients in rounds:
            repeated = cohort([c for c in clients for _ in range(3)])
            splits = repeated.row_splits[::3]
            batches = dataclasses.replace(repeated, row_splits=splits)
            expected = averaged.next(expected, batches).state
    np.testing.assert_allclose(
        found, flat(expected.server.weights), rtol=1e-5, atol=1e-6
    )
    assert 'validation_loss' not in of('jointft', validation_fraction=0.0).build(
        made
    ).measured(state.server)


def test_own_heads_are_judged_with_the_shared_weights():
    options = dataclasses.replace(OPTIONS, parts=('head',))
    made = dataclasses.replace(divided(options), epochs=EPOCHS)
    _, state, kept = run(options, made)
    w, own, start = W, {}, W
    for clients in reference_rounds():
        best, cuts = {}, {}
        for number, batches in clients.items():
            mine = np.where(BIAS, own.get(number, start), w)
            best[number], _, cuts[number] = references.stopped_early(
                mine, batches, EPOCHS, FRACTION, PATIENCE
            )
        own |= best
        mean = sum(cuts[n] * best[n] for n in clients) / sum(cuts.values())
        w = np.where(BIAS, start, mean)
    np.testing.assert_allclose(
        flat(state.server.weights), w[~BIAS], rtol=2e-5, atol=2e-6
    )
    models = own_models(options, made, state, kept)
    for number in range(POPULATION):
        expected = np.where(BIAS, own[number], w)
        np.testing.assert_allclose(models[number], expected, rtol=2e-5, atol=2e-6)


def test_parts_that_leave_nothing_to_share_are_refused():
    options = of('jointft', parts=('head',))
    made = dataclasses.replace(context(), parts=options.parts)
    with pytest.raises(UserError, match='of what is trained, all would stay'):
        options.build(made)
