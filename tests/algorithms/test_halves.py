"""The two halves of a round of a process, beside the round."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import models, runtime
from tff_transfer.algorithms import FedAvg, Scaffold, process
from tff_transfer.algorithms.computations import Sent

DRAW = np.random.default_rng(0)
CLIENTS = [
    tf.data.Dataset.from_tensor_slices(
        {
            'x': DRAW.normal(size=(12, 5)).astype(np.float32),
            'y': DRAW.integers(0, 3, 12).astype(np.int32),
        }
    ).batch(5)
    for _ in range(3)
]


@pytest.mark.parametrize('of', [FedAvg(), Scaffold()])
@pytest.mark.parametrize('use', [runtime.use_compiled, runtime.use_stock])
def test_a_round_is_its_halves_to_the_last_bit(of, use):
    made = process(of, models.mlp((5,), 3, (), 0.0, 0), population=5)
    own = [] if made.kept is None else [[made.kept] * len(CLIENTS)]
    with use():
        start = made.process.initialize()
        state, metrics, *kept = made.process.next(start, CLIENTS, *own)
        sent = made.train()(start, CLIENTS, *own)
        travels = [Sent(*each)._replace(kept=()) for each in sent]
        after, measured = made.absorb()(start, travels)
    tf.nest.map_structure(np.testing.assert_array_equal, tuple(after), tuple(state))
    tf.nest.map_structure(np.testing.assert_array_equal, measured, metrics)
    for found, expected in zip(sent, *kept, strict=True) if kept else ():
        tf.nest.map_structure(
            np.testing.assert_array_equal, tuple(found.kept), tuple(expected)
        )
    assert any(np.any(leaf) for leaf in after.server.weights)
