"""A trained model as files that plain TensorFlow, or TensorFlow Lite, loads."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import files
from tff_transfer.errors import UserError, one_line
from tff_transfer.models import trained_network
from tff_transfer.records import keras_file

_GENERATING = [
    tf.TensorSpec([None], tf.int32, 'labels'),
    tf.TensorSpec([2], tf.int32, 'key'),
]


class Exported(tf.Module):
    """A trained model, from raw inputs to what `save` says.

    Args:
      setup: The `Setup` that it was trained in.
      weights: The trained weights.
    """

    def __init__(self, setup, weights: Sequence[np.ndarray]):
        super().__init__()
        self.weights = [tf.Variable(weight) for weight in weights]
        self._setup = setup
        function, signature = self._predict, [setup.input_spec]
        if setup.model.generate is not None:
            function, signature = self._generate, _GENERATING
        self.__call__ = tf.function(
            function, input_signature=signature, autograph=False
        )

    def _predict(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        # The model keeps what it was traced with: variables would outlive this.
        weights = [weight.read_value() for weight in self.weights]
        model = self._setup.model
        outputs = model.logits(weights, self._setup.from_images(inputs))
        if model.task.classify is None:
            return {'outputs': outputs}
        return {'logits': outputs, 'probabilities': tf.nn.softmax(outputs)}

    def _generate(self, labels: tf.Tensor, key: tf.Tensor) -> dict[str, tf.Tensor]:
        weights = [weight.read_value() for weight in self.weights]
        return {'images': self._setup.model.generate(weights, labels, key)}


def save(setup, weights: Sequence[np.ndarray], path: str | os.PathLike[str]) -> None:
    """Saves a trained model with its backbone as a SavedModel.

    Its call and its `serving_default` signature take a batch of raw inputs as the
    data have them and give `logits` and `probabilities`, float32 [batch, classes]; of
    another task than classification `outputs`. Those of a generative model take
    `labels`, int32 [n], and a `key`, int32 [2], and give `images` (`Model.generate`).

    Args:
      setup: The `Setup` that it was trained in.
      weights: The trained weights.
      path: The folder to write, whole or not at all.
    """
    module = Exported(setup, weights)
    with files.replacing(path) as new:
        tf.saved_model.save(module, str(new), signatures=module.__call__)


def save_tflite(
    saved_model: str | os.PathLike[str], path: str | os.PathLike[str]
) -> None:
    """Converts what `save` wrote to a TensorFlow Lite file.

    Its signature `serving_default` is that of the SavedModel, for batches of any
    size, in float32. Operations that TensorFlow Lite does not have, such as resizing
    with antialiasing, are TensorFlow's own: then an interpreter needs the Flex
    delegate, which `tf.lite.Interpreter` has.

    Args:
      saved_model: The folder of the SavedModel.
      path: The file to write, whole or not at all.

    Raises:
      UserError: The backbone has an operation that cannot be converted.
    """
    converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(saved_model))
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    # Resizing with antialiasing, which is not on TensorFlow Lite's own list.
    converter.target_spec.experimental_select_user_tf_ops = ['ScaleAndTranslate']
    try:
        content = converter.convert()
    except Exception as error:  # The converter's errors share no public class.
        raise UserError(
            f'{saved_model} cannot be converted to TensorFlow Lite'
            f' ({one_line(error)}); leave --tflite out'
        ) from error
    with files.replacing(path) as new:
        new.write_bytes(content)


def save_keras(
    setup, weights: Sequence[np.ndarray], path: str | os.PathLike[str]
) -> None:
    """Saves a trained model with its backbone as a `.keras` file.

    What `tf.keras.models.load_model` reads from it maps a batch of raw inputs as the
    data have them to logits, float32 [batch, classes].

    Args:
      setup: The `Setup` that it was trained in.
      weights: The trained weights.
      path: The file to write, whole or not at all; it ends with `.keras`.
    """
    head = trained_network(setup.model, weights)
    with files.replacing(path) as new:
        keras_file.build(setup.input_spec, setup.below, head, weights).save(new)
