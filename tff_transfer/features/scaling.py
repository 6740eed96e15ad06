"""Features of mean 0 and deviation 1."""

import dataclasses

import numpy as np
import tensorflow as tf

from tff_transfer import aligned, reprs

# Of features that are all alike the variance is 0.
EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, eq=False)
class Standardisation:
    """Shifts and scales features to mean 0 and deviation 1.

    Attributes:
      mean: float32 [size].
      deviation: Standard deviations, float32 [size]; 1 where a feature is constant.
    """

    mean: np.ndarray
    deviation: np.ndarray

    __repr__ = reprs.of_fields

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns features [..., size], an array or a tensor, standardised, float32."""
        if not isinstance(features, np.ndarray):
            return (features - self.mean) / self.deviation
        result = aligned.empty(features.shape, np.float32)
        np.subtract(features, self.mean, out=result)
        return np.divide(result, self.deviation, out=result)

    def of_one_scale(self) -> 'Standardisation':
        """Returns the same with one deviation, the root mean square of all.

        Where what gives the features is trained too: a feature that hardly differs
        between examples would send it thousands of times the gradient of others.
        """
        common = np.sqrt(np.mean(self.deviation**2))
        return Standardisation(self.mean, np.full_like(self.deviation, common))


@dataclasses.dataclass(frozen=True)
class ByExample:
    """Shifts and scales the features of each example by itself.

    To mean 0 and deviation 1 over its features, so that nothing of any other example
    is in it (Ba, Kiros, Hinton 2016, "Layer normalization", without gain and bias).
    """

    def __call__(self, features):
        """Returns features [..., size], an array or a tensor, likewise, float32."""
        if not isinstance(features, np.ndarray):
            mean, variance = tf.nn.moments(features, -1, keepdims=True)
            return (features - mean) / tf.sqrt(variance + EPSILON)
        features = np.asarray(features, np.float32)
        mean = features.mean(-1, keepdims=True)
        variance = features.var(-1, keepdims=True)
        result = aligned.empty(features.shape, np.float32)
        np.subtract(features, mean, out=result)
        return np.divide(result, np.sqrt(variance + np.float32(EPSILON)), out=result)

    def of_one_scale(self) -> 'ByExample':
        """Returns itself, which has one scale."""
        return self
