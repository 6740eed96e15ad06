"""Generated examples as a file by client, with what was promised of whose they are."""

import math
import pathlib

import numpy as np

from tff_transfer import files, randomness

# Examples of a client that there is none of.
EACH = 50


def write(
    path: pathlib.Path,
    images: np.ndarray,
    labels: np.ndarray,
    epsilon: float,
    delta: float,
) -> None:
    """Writes an npz file that `--dataset=by_client` reads.

    Its arrays are `image`, uint8 [n, height, width, channels]; `label`; `client`, to
    whom the examples are dealt at random; and of the model that they are of `epsilon`,
    infinite of one that promises nothing, and `delta`.

    Args:
      path: Where to.
      images: float32 [n, height, width, channels] in [0, 1].
      labels: int [n].
      epsilon: What was spent on the model.
      delta: The delta of that.
    """
    count = len(labels)
    owners = np.arange(count) // EACH
    draw = randomness.generator(0, 'owners of generated images')
    names = np.array(
        [f'generated {owner:04d}' for owner in owners[draw.permutation(count)]]
    )
    with files.replacing(path) as new, open(new, 'wb') as file:
        np.savez_compressed(
            file,
            image=np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8),
            label=labels.astype(np.int32),
            client=names,
            epsilon=np.float64(epsilon),
            delta=np.float64(delta),
        )


def promise(epsilon: float, delta: float) -> str:
    """Returns in words what was promised of clients' examples."""
    if math.isinf(epsilon):
        return 'epsilon inf: nothing is promised, do not share it'
    return f'epsilon {epsilon:.3f} at delta {delta:.2g}, for a client and all it has'
