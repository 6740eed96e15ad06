"""Methods in which a part of the model takes no part in the federation."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from method_references import CLASSES, FEATURES
from personal_references import BIAS
from test_methods import ROUNDS, START, cohort, composed, context, flat, of, run
from test_personal_methods import PARTS, divided

from tff_transfer import models, runtime
from tff_transfer.errors import UserError


def test_fed_babu_moves_the_body_alone_and_sends_no_more():
    made = divided(of('fedbabu'))
    found, state, _ = run(of('fedbabu'), made)
    np.testing.assert_array_equal(found[BIAS], START[BIAS])
    assert np.abs(found - START)[~BIAS].max() > 0.1
    of_clients = composed(of('fedbabu'), made)
    # The kernel, and up the client's weight too.
    assert of_clients.bytes_down == 4 * (~BIAS).sum()
    assert of_clients.bytes_up == of_clients.bytes_down + 4
    assert of_clients.kept is None
    with runtime.use_compiled():
        weights = of_clients.process.get_model_weights(state)
        again = of_clients.process.set_model_weights(state, weights)
    np.testing.assert_array_equal(flat(weights.trainable), found)
    np.testing.assert_array_equal(
        flat(again.server.weights), flat(state.server.weights)
    )


@pytest.mark.slow
@pytest.mark.walk
def test_the_first_round_of_fed_recon_is_that_of_fed_rep():
    found, _, _ = run(of('fedrecon'), divided(of('fedrecon')), ROUNDS[:1])
    _, state, _ = run(of('fedrep'), divided(of('fedrep')), ROUNDS[:1])
    expected = flat(state.server.weights)
    np.testing.assert_allclose(found[~BIAS], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize('split', [pytest.param(False, marks=pytest.mark.walk), True])
def test_fed_recon_is_that_of_tff(split):
    made = divided(of('fedrecon'))
    keras = tff.learning.models

    def reconstruction():
        inputs = tf.keras.Input((FEATURES,))
        initial = tf.keras.initializers.Constant(START[~BIAS])
        kernel = tf.keras.layers.Dense(CLASSES, None, False, initial)
        network = tf.keras.Sequential([inputs, kernel, Bias()])
        return keras.ReconstructionModel.from_keras_model_and_layers(
            network,
            global_layers=[network.layers[0]],
            local_layers=[network.layers[1]],
            input_spec=made.model.functional.input_spec,
        )

    theirs = tff.learning.algorithms.build_fed_recon(
        reconstruction,
        loss_fn=lambda: tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        server_optimizer_fn=made.server_optimizer,
        client_optimizer_fn=made.client_optimizer,
        reconstruction_optimizer_fn=made.client_optimizer,
        dataset_split_fn=keras.ReconstructionModel.build_dataset_split_fn(
            split_dataset=split
        ),
    )
    with runtime.use_compiled():
        state = theirs.initialize()
        for clients in ROUNDS:
            state = theirs.next(state, cohort(clients)).state
    expected = flat(theirs.get_model_weights(state).trainable)
    found, _, _ = run(of('fedrecon', split=split), made)
    np.testing.assert_allclose(found[~BIAS], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(expected - START[~BIAS]).max() > 0.1


class Bias(tf.keras.layers.Layer):
    """The bias of the start."""

    def build(self, shape):
        initial = tf.keras.initializers.Constant(START[BIAS])
        self.bias = self.add_weight('bias', shape[-1:], initializer=initial)

    def call(self, inputs):
        return inputs + self.bias


def test_a_head_that_begins_at_zero_is_refused():
    linear = models.mlp((FEATURES,), CLASSES)
    model = dataclasses.replace(linear, parts=PARTS)
    made = dataclasses.replace(context(), model=model)
    with pytest.raises(UserError, match='begins at zero, under which nothing learns'):
        of('fedbabu').build(made)
    with pytest.raises(UserError, match='of what is trained, all would stay'):
        of('fedbabu').build(dataclasses.replace(made, model=linear))
