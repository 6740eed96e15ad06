"""The factories of `tff.aggregators`, against the sums and means they stand for."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime

AGGREGATORS = tff.aggregators
TYPE = tff.TensorType(np.float32, [6])
VALUES = [np.arange(6, dtype=np.float32) * (i + 1) / 10 for i in range(4)]
SUM, MEAN = np.sum(VALUES, axis=0), np.mean(VALUES, axis=0)


def norms(values):
    """Returns the sum of clients' norms."""
    norm = tff.tensorflow.computation(lambda value: tf.norm(value), TYPE)
    total = tff.federated_sum(tff.federated_map(norm, values))
    return collections.OrderedDict(norms=total)


def tree_aggregation():
    return AGGREGATORS.DifferentiallyPrivateFactory.tree_aggregation(
        noise_multiplier=1e-6,
        clients_per_round=4.0,
        l2_norm_clip=100.0,
        record_specs=tf.TensorSpec([6]),
        noise_seed=0,
    )


# What gives the factory, what is expected, and how far from it rounding or noise of
# a millionth of the bound may lead.
FACTORIES = {
    'sum': (AGGREGATORS.SumFactory, SUM, 1e-6),
    'mean': (AGGREGATORS.UnweightedMeanFactory, MEAN, 1e-6),
    'clipping': (
        lambda: AGGREGATORS.clipping_factory(
            float(np.linalg.norm(VALUES[0])), AGGREGATORS.SumFactory()
        ),
        4 * VALUES[0],
        1e-5,
    ),
    'zeroing': (
        lambda: AGGREGATORS.zeroing_factory(1.2, AGGREGATORS.SumFactory()),
        VALUES[0] + VALUES[1],
        1e-6,
    ),
    'secure sum': (lambda: AGGREGATORS.SecureSumFactory(2.0, -2.0), SUM, 1e-6),
    'Hadamard transform': (
        lambda: AGGREGATORS.HadamardTransformFactory(AGGREGATORS.SumFactory()),
        SUM,
        1e-5,
    ),
    'Fourier transform': (
        lambda: AGGREGATORS.DiscreteFourierTransformFactory(AGGREGATORS.SumFactory()),
        SUM,
        1e-5,
    ),
    'concatenation': (
        lambda: AGGREGATORS.concat_factory(AGGREGATORS.SumFactory()),
        SUM,
        1e-6,
    ),
    'encoding': (
        lambda: AGGREGATORS.EncodedSumFactory.quantize_above_threshold(8, 0),
        SUM,
        4 * 2 / 255,  # A step of quantisation for each client, of 0 to 2 at most.
    ),
    'measurements': (
        lambda: AGGREGATORS.add_measurements(
            AGGREGATORS.SumFactory(), client_measurement_fn=norms
        ),
        SUM,
        1e-6,
    ),
    'fixed clipping with noise': (
        lambda: AGGREGATORS.DifferentiallyPrivateFactory.gaussian_fixed(
            1e-6, 4.0, 100.0
        ),
        MEAN,
        1e-3,
    ),
    'tree aggregation with noise': (tree_aggregation, MEAN, 1e-3),
}


@pytest.mark.parametrize('name', FACTORIES)
def test_factories(name):
    make, expected, apart = FACTORIES[name]
    with runtime.use_compiled():
        process = make().create(TYPE)
        output = process.next(process.initialize(), VALUES)
    np.testing.assert_allclose(output.result, expected, atol=apart)
    if name == 'measurements':
        total = sum(map(np.linalg.norm, VALUES))
        assert output.measurements['norms'] == pytest.approx(total, rel=1e-6)


def test_weighted_mean():
    weights = [1.0, 2.0, 3.0, 4.0]
    with runtime.use_compiled():
        process = AGGREGATORS.MeanFactory().create(TYPE, tff.TensorType(np.float32))
        output = process.next(process.initialize(), VALUES, weights)
    expected = np.average(VALUES, axis=0, weights=weights)
    np.testing.assert_allclose(output.result, expected, rtol=1e-6)


def test_modular_sum_wraps_around():
    with runtime.use_compiled():
        process = AGGREGATORS.SecureModularSumFactory(8).create(
            tff.TensorType(np.int32)
        )
        output = process.next(process.initialize(), [5, 6, 7])
    assert output.result == (5 + 6 + 7) % 8


def test_reservoir_samples_are_clients_values():
    with runtime.use_compiled():
        factory = AGGREGATORS.UnweightedReservoirSamplingFactory(3)
        process = factory.create(tff.TensorType(np.int32))
        output = process.next(process.initialize(), list(range(10)))
    found = np.asarray(output.result).tolist()
    assert len(set(found)) == 3 and set(found) <= set(range(10))
