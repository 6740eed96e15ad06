"""The mean by secure aggregation: that of the protocol, to the last bit."""

import numpy as np
import pytest
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.aggregation.secure import Secure, SecureMean, neighbours
from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import graphs, quantisation, simulation
from tff_transfer.secure_aggregation.parameters import Parameters
from tff_transfer.secure_aggregation.quantisation import Quantiser

LENGTH, WEIGHTS = 7, (3, 0, 12, 1)
VECTORS = np.random.default_rng(0).normal(size=(4, LENGTH)).astype(np.float32)


def in_a_process(quantiser, weights):
    of = tff.types.to_type(((np.float32, [3]), (np.float32, [2, 2])))
    process = SecureMean(quantiser).create(of, tff.TensorType(np.float32))
    values = [(v[:3], v[3:].reshape(2, 2)) for v in VECTORS]
    with runtime.use_compiled():
        state = process.initialize()
        result = process.next(state, values, list(map(np.float32, weights))).result
    return np.concatenate([np.ravel(part) for part in result])


@pytest.mark.parametrize('bits', [32, 14])
def test_it_is_the_mean_of_the_protocol(bits):
    quantiser = Quantiser(1.5, bits, len(WEIGHTS), 10)
    found = in_a_process(quantiser, WEIGHTS)
    # A client of more than the largest weight counts as that.
    cut = np.minimum(WEIGHTS, 10)
    whole = [
        quantisation.quantise(quantiser, v, int(w))
        for v, w in zip(VECTORS, cut, strict=True)
    ]
    of = Parameters(bytes(16), graphs.complete(4), 2, LENGTH + 1, bits)
    total = simulation.run(of, whole).total
    expected = quantisation.mean(quantiser, total).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
    plain = np.average(np.clip(VECTORS, -1.5, 1.5), axis=0, weights=cut)
    bound = quantisation.error_bound(quantiser, 4, int(sum(cut)))
    assert np.abs(found - plain).max() <= bound * (1 + 1e-6) + 1e-6


def test_without_weight_nothing_moves():
    quantiser = Quantiser(1.5, 32, 4, 10)
    np.testing.assert_array_equal(in_a_process(quantiser, [0] * 4), np.zeros(LENGTH))


def test_few_clients_share_masks_with_all_others_and_many_with_some():
    assert neighbours(5) == 4
    assert neighbours(1000) < 100


def test_what_hides_nobody_or_has_no_bits_is_one_line():
    with pytest.raises(UserError, match='--clients_per_round=3 or more'):
        Secure().quantiser(2, 'uniform')
    with pytest.raises(UserError, match='can wrap'):
        Secure(bits=10).quantiser(20, 'examples')
    assert Secure(bits=10).quantiser(20, 'uniform').levels == 1023 // 20
