"""What the server sees of clients' vectors."""

import numpy as np
import pytest
from scipy import stats

from tff_transfer.secure_aggregation import graphs, messages, packing, simulation
from tff_transfer.secure_aggregation.messages import MASK
from tff_transfer.secure_aggregation.parameters import Parameters

CLIENTS, LENGTH, BITS = 10, 4000, 16


class Seeded:
    """Repeatable bytes."""

    def __init__(self, seed):
        self.draw = np.random.default_rng(seed)

    def __call__(self, count):
        return self.draw.bytes(count)


def view(vectors, seed):
    """Returns the masked vectors that the server holds, and the sum it decodes."""
    order = np.random.default_rng(seed).permutation(CLIENTS)
    graph = graphs.k_regular(order, 4)
    parameters = Parameters(bytes(16), graph, 3, LENGTH, BITS)
    out = simulation.run(parameters, vectors, source=Seeded(seed))
    held = [
        packing.unpack(message[messages.HEADER :], LENGTH, BITS)
        for message in out.rounds[MASK].received.values()
    ]
    return np.array(held), out.total


@pytest.fixture(scope='module')
def inputs():
    """Two populations with one sum: all alike and small, or one client with it all."""
    alike = np.full((CLIENTS, LENGTH), 7, np.uint32)
    one = np.zeros((CLIENTS, LENGTH), np.uint32)
    one[3] = 7 * CLIENTS
    return alike, one


@pytest.fixture(scope='module')
def views(inputs):
    """Of each population; the seeds differ, as the draws of two rounds do."""
    return view(inputs[0], 1), view(inputs[1], 2)


def unlike_uniform(values):
    """The p-value of a chi-square test on 64 equal parts of the range."""
    counts = np.bincount(values.ravel() >> (BITS - 6), minlength=64)
    return stats.chisquare(counts).pvalue


def test_what_it_decodes_is_the_exact_sum(views):
    for _, total in views:
        assert np.all(total == 70)


def test_each_masked_vector_is_uniform(views, inputs):
    assert unlike_uniform(inputs[0]) < 1e-9
    for held, _ in views:
        found = [unlike_uniform(vector) for vector in held]
        # The least of ten p-values is less than 0.001 once in a hundred times.
        assert min(found) > 1e-3
        scaled = held.ravel() / 2**BITS
        assert stats.kstest(scaled, 'uniform').pvalue > 1e-3


def test_sums_of_some_clients_are_uniform_too(views):
    draw = np.random.default_rng(0)
    for held, _ in views:
        for size in (2, 5, 9):
            some = draw.choice(CLIENTS, size, replace=False)
            assert unlike_uniform(held[some].sum(0, np.uint32) % 2**BITS) > 1e-3


def test_inputs_of_equal_sum_cannot_be_told_apart(views, inputs):
    """The statistic: two-sample Kolmogorov-Smirnov of client 3's vector and of all."""
    (first, _), (second, _) = views
    assert stats.ks_2samp(*(of[3] for of in inputs)).pvalue < 1e-9
    assert stats.ks_2samp(first[3], second[3]).pvalue > 1e-3
    assert stats.ks_2samp(first.ravel(), second.ravel()).pvalue > 1e-3
    # Numbers at one place of several clients: none foretells another.
    for held in (first, second):
        related = np.corrcoef(held)[np.triu_indices(CLIENTS, 1)]
        assert np.abs(related).max() < 4.5 / np.sqrt(LENGTH)


def test_without_the_pairs_masks_the_statistic_tells(inputs):
    # One shared mask alone, as after both secrets of a client were handed out.
    mask = np.random.default_rng(5).integers(0, 2**BITS, LENGTH, dtype=np.uint32)
    held = (inputs[1] + mask) % 2**BITS
    assert np.abs(np.corrcoef(held)[np.triu_indices(CLIENTS, 1)]).min() > 0.9
