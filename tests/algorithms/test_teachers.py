"""Features that are held to those of the start, against NumPy."""

import dataclasses
import functools

import method_references as references
import numpy as np
import pytest
from test_methods import composed, flat, of, reference_rounds, run
from test_personal_methods import net

from tff_transfer.algorithms.teachers import Pretrained

slow = pytest.mark.slow


@functools.cache
def taught(teacher):
    return dataclasses.replace(net(), teacher=teacher)


def squared(z, first):
    return 2 * (z - first) / z.size


def of_softmax(z, first):
    shares = (references.probabilities(each / 2) for each in (z, first))
    own, others = shares
    return (own - others) / 2 / len(z)


def cosine(z, first):
    return -references.cosine(z, first)[1] / len(z)


DISTANCES = {
    'squared': (Pretrained(3.0), squared),
    'softmax': (Pretrained(3.0, 'softmax', 2.0), of_softmax),
    'cosine': (Pretrained(3.0, 'cosine'), cosine),
}


def direction(start, weight, by_distance):
    def pull(z, batch):
        return weight * by_distance(z, references.represented(start, batch[0]))

    return functools.partial(references.net_gradient, pull=pull)


@slow
@pytest.mark.parametrize('distance', DISTANCES)
def test_features_are_held_to_those_of_the_start(distance):
    teacher, by_distance = DISTANCES[distance]
    made = taught(teacher)
    found, _, _ = run(of('fedavg'), made)
    start = flat(made.initial).astype(np.float64)
    held = direction(start, 3.0, by_distance)
    expected = references.fed_avg(start, reference_rounds(), held)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    without = references.fed_avg(start, reference_rounds(), references.net_gradient)
    assert np.abs(expected - without).max() > 1e-2


@slow
def test_gradients_of_all_examples_have_it_too():
    """Clients' last batches are smaller, so that a mean of means would differ."""
    made = taught(DISTANCES['squared'][0])
    found, _, _ = run(of('fedsgd'), made)
    w = start = flat(made.initial).astype(np.float64)
    held = direction(start, 3.0, squared)
    for clients in reference_rounds():
        moves = [held(w, references.whole(b)) for b in clients.values()]
        w = w - references.weighted(clients, moves)
    np.testing.assert_allclose(found, w, rtol=2e-5, atol=2e-6)


@slow
def test_without_weight_it_is_the_method_alone():
    found, _, _ = run(of('fedavg'), taught(Pretrained(0.0)))
    expected, _, _ = run(of('fedavg'), net())
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    # Nothing more travels.
    held = composed(of('fedavg'), taught(Pretrained(0.0)))
    assert held.bytes_down == composed(of('fedavg'), net()).bytes_down
