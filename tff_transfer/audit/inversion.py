"""What a client trained on, recovered from what it sends."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

# A first step of a pixel, of images in [0, 1]; it falls to a tenth, twice.
_RATE = 0.1
_FALLS = (0.5, 0.8)


def of_dense(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Recovers the input of a dense layer from its gradients, exactly for one example.

    Phong et al. 2017, "Privacy-preserving deep learning via additively homomorphic
    encryption", section 3: each unit's gradient of the kernel is its gradient of the
    bias times the input. All units together by least squares, so that noise on them
    averages out. A factor on both, such as a learning rate or clipping, changes
    nothing. Of several examples a mean comes out, weighted by the bias's gradients.

    Args:
      kernel: The gradient of the kernel, float [inputs, units].
      bias: The gradient of the bias, float [units].

    Returns:
      The input, float64 [inputs]; zeros where the bias has no gradient.
    """
    kernel, bias = np.asarray(kernel, np.float64), np.asarray(bias, np.float64)
    return np.divide(
        kernel @ bias, bias @ bias, out=np.zeros(len(kernel)), where=bias.any()
    )


def label_of(bias: np.ndarray) -> int:
    """Returns the label of the one example of a softmax layer's bias gradient.

    Zhao et al. 2020, "iDLG: improved deep leakage from gradients": of all classes the
    right one alone has a negative gradient.

    Args:
      bias: The gradient of the last bias, float [classes].
    """
    return int(np.argmin(bias))


def by_descent(
    gradient_of: Callable[[tf.Tensor], Sequence[tf.Tensor]],
    target: Sequence[np.ndarray],
    shape: Sequence[int],
    *,
    steps: int,
    variation: float,
    seed: int,
) -> np.ndarray:
    """Recovers images by descent towards those that have a given gradient.

    Geiping et al. 2020, "Inverting gradients: how easy is it to break privacy in
    federated learning?", equation 4: one minus the cosine of the gradients, and the
    total variation of the image; Adam on the gradient's signs, pixels kept in [0, 1].

    Args:
      gradient_of: Gives the gradients of the model's weights at images.
      target: The gradients that were sent, or a multiple.
      shape: Of the images, [batch, height, width, channels].
      steps: How many steps.
      variation: The weight of the total variation.
      seed: The seed of the image to begin with.

    Returns:
      The images, float32, of the least objective on the way.
    """
    target = [tf.constant(part, tf.float32) for part in target]
    norm = tf.linalg.global_norm(target)
    start = np.random.default_rng(seed).random(shape, np.float32)
    image, best = tf.Variable(start), tf.Variable(start)
    least = tf.Variable(np.inf, dtype=tf.float32)
    falls = [int(steps * fall) for fall in _FALLS]
    rates = tf.keras.optimizers.schedules.PiecewiseConstantDecay(
        falls, [_RATE, _RATE / 10, _RATE / 100]
    )
    optimizer = tf.keras.optimizers.Adam(rates)
    optimizer.build([image])

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            found = gradient_of(image)
            pairs = zip(found, target, strict=True)
            product = tf.add_n([tf.reduce_sum(one * other) for one, other in pairs])
            cosine = product / (tf.linalg.global_norm(found) * norm)
            smooth = tf.reduce_sum(tf.image.total_variation(image))
            objective = 1 - cosine + variation * smooth / np.prod(shape)
        better = objective < least
        best.assign(tf.where(better, image, best))
        least.assign(tf.where(better, objective, least))
        signs = tf.sign(tape.gradient(objective, image))
        optimizer.apply_gradients([(signs, image)])
        image.assign(tf.clip_by_value(image, 0, 1))

    for _ in range(steps):
        step()
    return best.numpy()


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio of two images of values in [0, 1], in dB.

    Infinite for equal ones.
    """
    error = np.mean((np.asarray(image, np.float64) - other) ** 2)
    return float('inf') if error == 0 else float(-10 * np.log10(error))
