"""A whole trained model as a Keras network, for a `.keras` file.

It is made of TensorFlow's own layers, so that loading the file needs no more than
TensorFlow; `--head=cosine` and layers of one's own need their packages too.
"""

import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.backbones import Backbone, pretraining
from tff_transfer.backbones.keras_models import CLASSIFIER
from tff_transfer.errors import UserError, one_line
from tff_transfer.features.scaling import EPSILON, ByExample, Standardisation
from tff_transfer.models.below import Below
from tff_transfer.networks import keras_layers


def _backbone(below: Below, trained: Sequence[np.ndarray]) -> tf.keras.Model:
    """Returns the backbone as a Keras network of its own.

    Args:
      below: What stands under the head.
      trained: The trained weights, those of the backbone first and BatchNorm's
        statistics last.

    Raises:
      UserError: Its weights have no names of their own.
    """
    made, weights = _copy(below.backbone)
    if below.network is not None:
        own = [tf.constant(w) for w in trained[: len(below.parameters.initial)]]
        values = below.parameters.compose(own)
        if below.statistics is not None:
            moved = trained[-len(below.statistics.places) :]
            values = below.statistics.with_statistics(values, moved)
        names = [weight.name for weight in below.network.weights]
        weights.update(zip(names, map(np.asarray, values), strict=True))
    if len({v.name for v in made.weights}) < len(made.weights):
        raise UserError(
            f'--export_keras: several weights of the backbone {below.backbone.name}'
            ' have the same name; give its layers names of their own'
        )
    made.set_weights([weights[variable.name] for variable in made.weights])
    return made


def _copy(backbone: Backbone) -> tuple[tf.keras.Model, dict[str, np.ndarray]]:
    """Returns an equal Keras network, and the backbone's weights by name."""
    if backbone.handle == 'embedded':  # A SavedModel, but of a network known here.
        images = tf.keras.Input((*backbone.image_size, 3))
        in_range = tf.keras.layers.Rescaling(2, -1)(images)
        features = pretraining.build_network()(in_range)
        weights = {w.name: w.value for w in backbone.functional.weights}
        return tf.keras.Model(images, features, name='embedded'), weights
    weights = {v.name: v.numpy() for v in backbone.keras_model.variables}
    return tf.keras.models.clone_model(backbone.keras_model), weights


def check(x: np.ndarray, backbone: Backbone | None, head: tf.keras.Model) -> None:
    """Writes and reads an untrained file, to say before training what cannot be.

    Args:
      x: Raw inputs, as the data have them.
      backbone: The backbone; without one there is nothing that could not be.
      head: The head.

    Raises:
      UserError: A `.keras` file cannot hold them.
    """
    if backbone is None:
        return
    if backbone.keras_model is None and backbone.handle != 'embedded':
        raise UserError(
            f'--export_keras: the backbone {backbone.name} is a SavedModel, which a'
            ' .keras file cannot hold; leave --export_keras out (model/ holds it), or'
            ' use embedded or a keras.applications name'
        )
    size, spec = backbone.feature_size, tf.TensorSpec([None, *x.shape[1:]], x.dtype)
    plain = Standardisation(np.zeros(size, np.float32), np.ones(size, np.float32))
    try:
        made = build(spec, Below(backbone, plain), head, [])
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, 'model.keras')
            made.save(path)
            tf.keras.models.load_model(path, compile=False)
    except UserError:
        raise
    except Exception as error:  # A foreign layer may raise anything.
        raise UserError(
            f'--export_keras: a .keras file cannot hold the backbone {backbone.name} or'
            f' its head ({one_line(error)}); leave --export_keras out'
        ) from error


def build(
    spec: tf.TensorSpec,
    below: Below | None,
    head: tf.keras.Model,
    trained: Sequence[np.ndarray],
) -> tf.keras.Model:
    """Returns a whole network.

    Args:
      spec: One batch of raw inputs.
      below: What stands under the head, if anything does.
      head: The trained head; without a backbone the whole network.
      trained: All weights of the model.

    Returns:
      A network from raw inputs as the data have them to logits.
    """
    head = _without_keys(head)
    if below is None:
        return tf.keras.Model(head.input, head.output, name=CLASSIFIER)
    inputs = tf.keras.Input(spec.shape[1:], dtype=spec.dtype, name='images')
    # BatchNorm keeps the statistics that the head was trained on.
    images = below.backbone.preprocess(inputs)
    features = _backbone(below, trained)(images, training=False)
    standardise = _layer(below.standardise)
    return tf.keras.Model(inputs, head(standardise(features)), name=CLASSIFIER)


def _layer(standardise: Standardisation | ByExample) -> tf.keras.layers.Layer:
    if isinstance(standardise, ByExample):
        return tf.keras.layers.LayerNormalization(
            epsilon=EPSILON, center=False, scale=False
        )
    return tf.keras.layers.Normalization(
        mean=standardise.mean, variance=standardise.deviation**2
    )


def _without_keys(network: tf.keras.Model) -> tf.keras.Model:
    """Returns a network whose dropout needs no keys: TensorFlow's own."""
    if not isinstance(network.input, dict):
        return network
    config = network.get_config()
    keyed = {
        layer.name: layer.rate
        for layer in network.layers
        if isinstance(layer, keras_layers.KeyedDropout)
    }
    kept = []
    for entry in config['layers']:
        if entry['name'] in keyed:
            name = entry['name']
            plain = tf.keras.layers.Dropout(keyed[name], name=name)
            ((activations, _),) = entry['inbound_nodes']
            entry = {
                **tf.keras.saving.serialize_keras_object(plain),
                'name': name,
                'inbound_nodes': [[activations]],
            }
        kept.append(entry)
    key = config['input_layers']['key'][0]
    layers = [entry for entry in kept if entry['name'] != key]
    made = tf.keras.Model.from_config(
        {**config, 'layers': layers, 'input_layers': [config['input_layers']['inputs']]}
    )
    for layer in made.layers:
        layer.set_weights(network.get_layer(layer.name).get_weights())
    return made
