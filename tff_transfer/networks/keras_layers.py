"""The Keras layers of this package, registered: Keras reads files that hold them."""

import tensorflow as tf


@tf.keras.utils.register_keras_serializable('tff_transfer')
class CosineDense(tf.keras.layers.Layer):
    """Logits that are scaled cosines between the inputs and a vector of each class.

    Gidaris & Komodakis 2018, "Dynamic few-shot visual learning without forgetting",
    section 3.2, with their learned scale.

    Args:
      units: Classes.
      scale: The scale before training.
      kernel_initializer: As of `tf.keras.layers.Dense`; zeros have no direction.
    """

    def __init__(
        self,
        units: int,
        scale: float = 10.0,
        kernel_initializer='glorot_uniform',
        **arguments,
    ):
        super().__init__(**arguments)
        self.units, self.initial_scale = units, scale
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Makes the weights: `kernel` [size, units] and `scale` []."""
        self.kernel = self.add_weight(
            'kernel', (input_shape[-1], self.units), initializer=self.kernel_initializer
        )
        self.scale = self.add_weight(
            'scale', (), initializer=tf.keras.initializers.Constant(self.initial_scale)
        )
        super().build(input_shape)

    def call(self, inputs):
        """Returns logits float32 [batch, units] of inputs float32 [batch, size]."""
        cosines = tf.matmul(
            tf.math.l2_normalize(inputs, -1), tf.math.l2_normalize(self.kernel, 0)
        )
        return self.scale * cosines

    def get_config(self):
        """Returns what makes the layer again."""
        return {
            **super().get_config(),
            'units': self.units,
            'scale': self.initial_scale,
            'kernel_initializer': tf.keras.initializers.serialize(
                self.kernel_initializer
            ),
        }


@tf.keras.utils.register_keras_serializable('tff_transfer')
class KeyedDropout(tf.keras.layers.Layer):
    """Dropout whose mask is a function of the batch's first key, and of nothing else.

    So a run that is resumed draws what the first one would have drawn, which
    `tf.keras.layers.Dropout`, with its hidden generator, does not.
    """

    def __init__(self, rate: float, salt: int, **arguments):
        super().__init__(**arguments)
        self.rate, self.salt = rate, salt

    def call(self, inputs, training=False):
        """Drops each unit with probability `rate` in training, and scales the rest.

        Args:
          inputs: Activations float32 [batch, units] and keys int32 [batch, 2].
          training: Whether to drop at all.

        Returns:
          The activations, float32 [batch, units].
        """
        activations, keys = inputs
        if not training:
            return activations
        return tf.nn.experimental.stateless_dropout(
            activations, self.rate, seed=_seed(keys, self.salt)
        )

    def get_config(self):
        """Returns what makes the layer again."""
        return {**super().get_config(), 'rate': self.rate, 'salt': self.salt}


@tf.keras.utils.register_keras_serializable('tff_transfer')
class KeyedNormal(tf.keras.layers.Layer):
    """Standard normal noise that is a function of the batch's first key alone.

    It is drawn in evaluation too: there keys are zero, so that the noise of an example
    hangs on its place in its batch.
    """

    draw = staticmethod(tf.random.stateless_normal)

    def __init__(self, salt: int, **arguments):
        super().__init__(**arguments)
        self.salt = salt

    def call(self, inputs):
        """Returns noise float32 [batch, ...] of the shape of the first of `inputs`.

        Args:
          inputs: What it is like, float32 [batch, ...], and keys int32 [batch, 2].
        """
        like, keys = inputs
        noise = self.draw(tf.shape(like), _seed(keys, self.salt))
        return tf.ensure_shape(noise, like.shape)

    def get_config(self):
        """Returns what makes the layer again."""
        return {**super().get_config(), 'salt': self.salt}


@tf.keras.utils.register_keras_serializable('tff_transfer')
class KeyedUniform(KeyedNormal):
    """The same as `KeyedNormal`, but uniform in [0, 1)."""

    draw = staticmethod(tf.random.stateless_uniform)


def _seed(keys: tf.Tensor, salt: int) -> tf.Tensor:
    """Returns the seed of a batch's draws, int32 [2], of its keys int32 [batch, 2]."""
    # An empty batch has no first key.
    return tf.reduce_sum(keys[:1], axis=0) + [0, salt]
