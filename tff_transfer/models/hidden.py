"""Where the units of a network's hidden layers are among its trained weights."""

from collections.abc import Sequence

import tensorflow as tf

from tff_transfer.models.model import Model


def hidden_layers(model: Model) -> list[tuple[Sequence[int], int]]:
    """Returns the hidden dense layers with ReLU that another dense one follows.

    Only layers without weights may stand between both, and nothing else may take what
    the first gives.

    Args:
      model: The model, whose network, or head, is searched.

    Returns:
      Of each the numbers, among the trained weights, of its kernel and bias, whose last
      axis are the units; and that of the next layer's kernel, whose first axis they
      are.
    """
    variables = [v.ref() for v in model.network.trainable_variables]
    first = len(model.functional.initial_weights[0]) - len(variables)

    def numbers(layer) -> tuple[int, ...]:
        return tuple(
            first + variables.index(v.ref()) for v in layer.trainable_variables
        )

    found = []
    for layer in model.network.layers:
        following = _following(layer)
        dense = all(
            isinstance(one, tf.keras.layers.Dense) and one.trainable_variables
            for one in (layer, following)
        )
        if dense and layer.activation is tf.keras.activations.relu:
            found.append((numbers(layer), numbers(following)[0]))
    return found


def _following(layer) -> tf.keras.layers.Layer | None:
    """Returns the next layer with weights, if what this one gives goes there alone."""
    while len(layer.outbound_nodes) == 1:
        layer = layer.outbound_nodes[0].layer
        if layer.weights:
            return layer
    return None
