"""Schedules by hand, and what a process makes of them."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import test_methods

from tff_transfer.algorithms import schedules

R = test_methods.R
BY_HAND = {
    'linear': [1, 0.75, 0.5, 0.25],
    'cosine': [1, 0.5 + 0.25 * 2**0.5, 0.5, 0.5 - 0.25 * 2**0.5],
    'exponential': [1, 0.1**0.25, 0.1**0.5, 0.1**0.75],
    'step': [1, 0.1**0, 0.1**1, 0.1**2],
    'constant': [1, 1, 1, 1],
}


@pytest.mark.parametrize('name', schedules.NAMES)
def test_four_rounds_after_two_of_warm_up(name):
    schedule = schedules.build(name, 6, warmup=2)
    found = [float(schedule(tf.constant(t))) for t in range(1, 7)]
    np.testing.assert_allclose(found, [1 / 3, 2 / 3, *BY_HAND[name]], rtol=1e-5)


def test_a_constant_rate_is_no_schedule():
    assert schedules.build('constant', 10) is None


def test_both_sides_follow_their_schedules():
    clients, server = (schedules.build(n, 4) for n in ('linear', 'exponential'))
    made = dataclasses.replace(
        test_methods.context(), client_schedule=clients, server_schedule=server
    )
    found, _, _ = test_methods.run(test_methods.of('fedavg'), made)
    w = test_methods.W
    for t, batches in enumerate(test_methods.reference_rounds()):
        rate = R.RATE * BY_HAND['linear'][t]
        deltas = [w - R.sgd(w, b, rate=rate) for b in batches.values()]
        w = w - BY_HAND['exponential'][t] * R.weighted(batches, deltas)
    np.testing.assert_allclose(found, w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('side', ['client', 'server'])
def test_an_adaptive_optimizer_with_a_rate_of_zero_moves_nothing(side):
    adam = test_methods.tff.learning.optimizers.build_adam(0.1)
    made = dataclasses.replace(
        test_methods.context(),
        **{
            f'{side}_optimizer': adam,
            f'{side}_schedule': lambda t: tf.where(t < 3, 0.0, 1.0),
        },
    )
    of = test_methods.of('fedavg')
    _, second, third = test_methods.each_round(of, made, test_methods.ROUNDS[:3])
    np.testing.assert_array_equal(second[0], test_methods.START)
    assert not np.allclose(third[0], test_methods.START)
