"""Networks that do more than read their variables, as functions of their weights."""

import pytest
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.networks import tracing


class Branching(tf.Module):
    """Branches on `training`, a tensor, as some SavedModels do."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable([[2.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 1]), tf.TensorSpec([], tf.bool)])
    def __call__(self, x, training):
        if training:
            return x
        return x @ self.kernel


@pytest.mark.parametrize(('training', 'expected'), [(True, 3.0), (False, 6.0)])
def test_branches_on_training_are_taken(training, expected):
    network = tracing.trace(Branching(), tf.TensorSpec([None, 1]), training=training)
    values = [tf.constant(w.value) for w in network.weights]
    assert len(values) == (0 if training else 1)
    assert tf.function(network)(values, tf.constant([[3.0]])).numpy() == expected


class Looks(tf.Module):
    """Looks features up in a table, which is no weight."""

    def __init__(self):
        super().__init__()
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([0, 1], [2.0, 3.0]), 0.0
        )

    def __call__(self, x, training):
        return self.table.lookup(x)


def test_a_table_is_refused():
    with pytest.raises(UserError, match='cannot be trained'):
        tracing.trace(Looks(), tf.TensorSpec([None], tf.int32), training=False)
