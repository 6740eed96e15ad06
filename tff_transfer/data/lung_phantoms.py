"""Lung phantoms: drawn slices of a chest, with and without a nodule, by hospital.

No anatomy was measured for them: two dark lungs in a grey body, vessels along and
across the slice, noise. A nodule is a round spot in a lung, no brighter than vessels
are, so that neither brightness nor the amount of tissue tells it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import PIL.Image
import scipy.ndimage

from tff_transfer import memory, progress, randomness
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

SIZE = 224
SMALL = 64  # pixels of a side, of the small form
CLASSES = ('no nodule', 'nodule')

_SHARES = (0.2, 0.8)  # of slices of a hospital that have a nodule
_BODY, _LUNG = 0.55, 0.2
_COARSE = 14  # pixels of a side of the noise that tissue's slow changes are made of


class Spot(NamedTuple):
    """A spot that is added to a slice.

    Attributes:
      row: Of its centre, in pixels.
      column: Of its centre, in pixels.
      radii: Where it has fallen to 1 / e, along and across, in pixels.
      angle: How far it is turned, in radians.
      height: What it adds at its centre, as a share of the range of grey.
    """

    row: float
    column: float
    radii: tuple[float, float]
    angle: float
    height: float


def generate(
    sizes: Sequence[int],
    nodule_shares: Sequence[float],
    num_test: int,
    *,
    seed: int = 0,
    grey_size: int | None = None,
) -> FederatedData:
    """Draws the slices of some hospitals.

    Args:
      sizes: The slices of each hospital, each more than `num_test`.
      nodule_shares: The share of each one's slices that have a nodule, in [0, 1]; of
        its training and of its test slices alike, rounded.
      num_test: Test slices of each, at least 0.
      seed: At least 0; a slice is a function of it, of the hospital's number and of
        its own.
      grey_size: Pixels of a side, of which each is the mean of those of 224 that lie
        under it; the images then have one channel.

    Returns:
      Images uint8 [n, 224, 224, 3], grey, or uint8 [n, grey_size, grey_size, 1], with
      label 1 for a nodule; the clients are `hospital 1` and so on.

    Raises:
      UserError: A number is out of its range, or the slices do not fit in memory.
    """
    if len(sizes) != len(nodule_shares) or not len(sizes):
        raise UserError(
            f'{len(sizes)} sizes and {len(nodule_shares)} nodule_shares; give one of'
            ' each for a hospital'
        )
    if num_test < 0 or min(sizes) <= num_test:
        raise UserError(
            f'num_test is {num_test}, but must be 0 up and below each of sizes, of'
            f' which the least is {min(sizes)}'
        )
    for share in nodule_shares:
        if not 0 <= share <= 1:
            raise UserError(f'a nodule share is {share}, but must be in [0, 1]')
    shape = (SIZE, SIZE, 3) if grey_size is None else (grey_size, grey_size, 1)
    memory.check_fits(
        f'{sum(sizes):,} lung phantoms', sum(sizes) * math.prod(shape), 'lower sizes'
    )
    labels = []
    for hospital, (size, share) in enumerate(zip(sizes, nodule_shares, strict=True)):
        draw = randomness.generator(seed, 'labels of lung phantoms', hospital)
        for count in (size - num_test, num_test):
            labels.append(draw.permutation(np.arange(count) < round(share * count)))
    y = np.concatenate(labels).astype(np.int32)
    numbers = [
        (hospital, i) for hospital, size in enumerate(sizes) for i in range(size)
    ]
    x = np.empty((len(y), *shape), np.uint8)
    bar = progress.bar(numbers, desc='lung phantoms', unit=' slices')
    for row, number in enumerate(bar):
        drawn = draw_slice(seed, *number, nodule=bool(y[row]))
        if grey_size is not None:
            side = (grey_size, grey_size)
            means = PIL.Image.fromarray(drawn).resize(side, PIL.Image.Resampling.BOX)
            drawn = np.asarray(means)
        x[row] = drawn[..., None]
    return FederatedData(
        name=f'lung phantoms of {len(sizes)} hospitals, seed {seed}',
        x=x,
        y=y,
        client_ids=tuple(f'hospital {i + 1}' for i in range(len(sizes))),
        num_train=np.array(sizes) - num_test,
        num_test=np.full(len(sizes), num_test),
        num_classes=2,
        class_names=CLASSES,
    )


def of_hospitals(
    count: int, examples: int, *, seed: int = 0, test_fraction: float = 0.1
) -> FederatedData:
    """Draws small slices of many hospitals, of which some have more nodules.

    Args:
      count: How many hospitals there are.
      examples: Slices of each.
      seed: As of `generate`; the share of nodules of each hospital is uniform in
        [0.2, 0.8].
      test_fraction: The share of a hospital's slices that are test examples, in
        [0, 1); their number is rounded down.

    Returns:
      Images uint8 [count * examples, 64, 64, 1] (see `generate`).

    Raises:
      UserError: The slices do not fit in memory.
    """
    draw = randomness.generator(seed, 'shares of nodules')
    return generate(
        [examples] * count,
        draw.uniform(*_SHARES, count),
        int(examples * test_fraction),
        seed=seed,
        grey_size=SMALL,
    )


def draw_slice(seed: int, hospital: int, number: int, *, nodule: bool) -> np.ndarray:
    """Draws one slice, a pure function of the arguments.

    With a nodule or without, all else of it is the same.

    Args:
      seed: At least 0.
      hospital: The number of the hospital, at least 0.
      number: The slice's number in it, at least 0.
      nodule: Whether it has one.

    Returns:
      Grey values, uint8 [224, 224].
    """
    draw = randomness.generator(seed, 'lung phantom', hospital, number)
    image, lungs = _chest(draw)
    places = np.flatnonzero(lungs)
    for _ in range(draw.integers(6, 12)):
        long, short = draw.uniform(8, 20), draw.uniform(1, 2.5)
        _add(image, _spot(draw, places, (long, short)), lungs)
    for _ in range(draw.integers(3, 8)):  # Vessels across the slice: small and round.
        _add(image, _spot(draw, places, (draw.uniform(1.5, 3.5),) * 2), lungs)
    spot = _spot(draw, places, (draw.uniform(11, 20),) * 2)
    if nodule:
        _add(image, spot, lungs)
    image += 0.02 * draw.standard_normal(image.shape, np.float32)
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _chest(draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws body and lungs: grey values in [0, 1], and which pixels are lung."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE - 0.5
    width, height = draw.uniform(0.44, 0.47), draw.uniform(0.36, 0.4)
    body = (columns / width) ** 2 + (rows / height) ** 2 < 1
    lungs = np.zeros_like(body)
    for side in (-1, 1):
        centre = side * draw.uniform(0.42, 0.5) * width, draw.uniform(-0.03, 0.03)
        a, b = draw.uniform(0.36, 0.4) * width, draw.uniform(0.68, 0.75) * height
        lungs |= ((columns - centre[0]) / a) ** 2 + ((rows - centre[1]) / b) ** 2 < 1
    coarse = draw.normal(0, 0.03, (_COARSE, _COARSE))
    slow = scipy.ndimage.zoom(coarse, SIZE / _COARSE, order=1)
    image = np.where(lungs, _LUNG, _BODY * body) + slow * body
    return scipy.ndimage.uniform_filter(image, 3), lungs


def _spot(draw: np.random.Generator, places: np.ndarray, radii: tuple) -> Spot:
    """Draws at which of some pixels, by number, a spot is, and how bright."""
    row, column = divmod(draw.choice(places), SIZE)
    return Spot(row, column, radii, draw.uniform(0, np.pi), draw.uniform(0.3, 0.5))


def _add(image: np.ndarray, spot: Spot, lungs: np.ndarray) -> None:
    """Adds a spot to an image, as far as it lies in the lungs."""
    reach = int(2 * max(spot.radii)) + 1
    window = tuple(
        slice(max(int(centre) - reach, 0), min(int(centre) + reach + 1, SIZE))
        for centre in (spot.row, spot.column)
    )
    rows, columns = np.mgrid[window]
    rows, columns = rows - spot.row, columns - spot.column
    cos, sin = np.cos(spot.angle), np.sin(spot.angle)
    along = (cos * columns + sin * rows) / spot.radii[0]
    across = (cos * rows - sin * columns) / spot.radii[1]
    # The fourth power of the distance: a flat middle and an edge.
    added = spot.height * np.exp(-((along**2 + across**2) ** 2))
    image[window] += added * lungs[window]
