"""Features of mean 0 and deviation 1."""

import dataclasses

import numpy as np

from tff_transfer import aligned, reprs


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
