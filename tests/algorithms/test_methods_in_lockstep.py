"""Every method gives the same where its clients go in lockstep."""

import functools

import numpy as np
import pytest
import tensorflow as tf
import walks
from test_methods import IN_ONE_PLACE, NAMES, ROUNDS, composed, context_for, of, run

from tff_transfer import runtime
from tff_transfer.algorithms import registry

TOGETHER = functools.partial(runtime.use_compiled, lockstep=True)
ALONE = functools.partial(runtime.use_compiled, lockstep=False)
# What is in the way: arrays as long as each client has examples, predictions that are
# written to their places, and what comes of a client's own loop over others' examples.
IN_THE_WAY = {
    'jointft': 'Fill',
    'feddf': 'TensorScatterUpdate',
    'fedmd': 'Sub',
    'dsfl': 'Sub',
}
TO_ADAPT = {'personalridge': 'Fill', 'fedmd': 'Sub'}
# Their clients do what those of federated averaging do.
BY_SERVER = ('fedavgm', 'fedadagrad', 'fedadam', 'fedyogi', 'fedrmsprop')


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over([n for n in NAMES if n not in BY_SERVER]))
def test_equal_in_lockstep(name):
    rounds = IN_ONE_PLACE if name in registry.IN_ONE_PLACE else ROUNDS
    made, options = context_for(name), of(name)
    if name == 'pfedme':  # Its lambda of 15 is for lower rates than this.
        options = of(name, lam=2.0)
    if name == 'fedgen':  # Its server's Adam divides by small means.
        options = of(name, learning_rate=0.0)
    # After its rounds fedgkt's server trains for itself, which spreads roundings.
    most = 3e-6 if name == 'fedgkt' else 1e-6
    expected = run(options, made, rounds, use=ALONE)
    found = run(options, made, rounds, use=TOGETHER)
    for ours, theirs in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        if theirs is not None:
            scale = np.abs(theirs).max(initial=0)
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=most * scale)
    of_clients = composed(options, made)
    with TOGETHER():
        found = runtime.obstacles(of_clients.process.next)
        assert_in_the_way(found, IN_THE_WAY.get(name, ''))
        if name in registry.BY_OWN_MODELS:
            found = runtime.obstacles(of_clients.adapt())
            assert_in_the_way(found, TO_ADAPT.get(name, ''))


def assert_in_the_way(found, expected):
    assert all(why.partition(' ')[0] == expected for why in found), found
