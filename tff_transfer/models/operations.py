"""How many floating point operations a model takes, by its graph."""

import tensorflow as tf
from tensorflow.python.framework import convert_to_constants
from tensorflow.python.util import deprecation

from tff_transfer.models.model import Model

# Training is forward and backward, which is about twice as much: gradients with
# respect to what a layer takes, and to its weights.
TRAINING = 3


def of_training(model: Model) -> float:
    """Returns the floating point operations of training on one example.

    Three times those of the model's graph for one example, as TensorFlow's profiler
    counts them (a multiplication and an addition are two). Of frozen features the
    model is what is trained on them: they count as extracted before.
    """
    functional = model.functional

    def forward(weights, x):
        return functional.predict_on_batch(weights, x, training=False)

    weights = tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype),
        functional.initial_weights,
    )
    one = tf.nest.map_structure(
        lambda spec: tf.TensorSpec([1, *spec.shape[1:]], spec.dtype),
        functional.input_spec['x'],
    )
    traced = tf.function(forward, autograph=False).get_concrete_function(weights, one)
    # The profiler sees no operation within a function that is called.
    inlined = convert_to_constants.convert_variables_to_constants_v2(
        traced, lower_control_flow=False
    )
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options['output'] = 'none'
    with deprecation.silence():
        found = tf.compat.v1.profiler.profile(inlined.graph, options=options)
    return float(TRAINING * found.total_float_ops)
