"""Feature extractors from Keras models and the files that hold them."""

import json
import os

import h5py
import tensorflow as tf

from tff_transfer.errors import UserError, one_line
from tff_transfer.networks import keras_layers  # noqa: F401 (Keras finds its layers by their names.)

SUFFIXES = ('.keras', '.h5', '.hdf5')

# The name of the networks that this package writes, from raw inputs to logits.
CLASSIFIER = 'tff_transfer_classifier'


def read(path: str | os.PathLike[str]) -> tf.keras.Model:
    """Reads a `.keras` or HDF5 file.

    Raises:
      UserError: It is broken, holds weights alone, or layers that need code: Lambda
        layers, which could run anything, and layers of packages that are not loaded.
    """
    try:
        if not str(path).endswith('.keras'):
            _refuse_code(path)
        return tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except UserError:
        raise
    except Exception as error:  # What Keras raises depends on what is broken.
        if 'Lambda layer' in str(error):
            raise _code(path) from error
        raise UserError(
            f'backbone {path} cannot be read ({one_line(error)}); get it again, or, if'
            ' it has layers of its own, load it in Python with them and give the model'
            ' to tff_transfer.backbones.load'
        ) from error


def _refuse_code(path: str | os.PathLike[str]) -> None:
    """Refuses Lambda layers in an HDF5 file, which Keras would run."""
    with h5py.File(path) as file:
        config = file.attrs.get('model_config')
    if config is None:
        raise UserError(
            f'backbone {path} holds no model, perhaps weights alone; save the whole'
            ' model, or give the name of the network and this file as its weights'
        )
    # The hook sees each object, those within others too.
    classes = []
    json.loads(config, object_hook=lambda o: classes.append(o.get('class_name')) or o)
    if 'Lambda' in classes:
        raise _code(path)


def _code(path) -> UserError:
    return UserError(
        f'backbone {path} has a Lambda layer, Python code that could do anything, so it'
        ' is not read; if you trust it, load it in Python and give the model to'
        ' tff_transfer.backbones.load'
    )


def extractor(model: tf.keras.Model) -> tf.keras.Model:
    """Returns the part of a model that gives features, for float images.

    That is all of it, unless it is a classifier that this package wrote, or one that
    ends with a softmax: of those it is what their last dense layer takes.

    Args:
      model: A model with one input.
    """
    if len(model.outputs) == 1 and (
        model.name == CLASSIFIER or _ends_with_softmax(model)
    ):
        features = _taken_by_head(model)
        model = tf.keras.Model(model.input, features, name=model.name)
    return _of_floats(model) if model.input.dtype == tf.uint8 else model


def _last(model: tf.keras.Model) -> tf.keras.layers.Layer:
    return model.get_layer(model.output_names[0])


def _ends_with_softmax(model: tf.keras.Model) -> bool:
    last = _last(model)
    if isinstance(last, tf.keras.Model):
        return _ends_with_softmax(last)
    activation = getattr(last, 'activation', None)
    softmax = activation is tf.keras.activations.softmax
    return softmax or isinstance(last, tf.keras.layers.Softmax)


def _taken_by_head(model: tf.keras.Model):
    """Returns what the last dense layer takes, be it in a model within the model."""
    last = _last(model)
    taken = last.inbound_nodes[0].input_tensors
    if isinstance(last, tf.keras.layers.Softmax | tf.keras.layers.Activation):
        return _taken_by_head(tf.keras.Model(model.input, taken))
    if isinstance(last, tf.keras.Model):
        inside = _taken_by_head(last)
        same = inside is last.input
        return taken if same else tf.keras.Model(last.input, inside)(taken)
    return taken


def _of_floats(model: tf.keras.Model) -> tf.keras.Model:
    """Returns a copy of a model of bytes that takes the same values as float32."""
    config = model.get_config()
    for layer in config['layers']:
        if layer['class_name'] == 'InputLayer':
            layer['config']['dtype'] = 'float32'
    made = type(model).from_config(config)
    made.set_weights(model.get_weights())
    return made
