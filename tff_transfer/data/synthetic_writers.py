"""Handwriting by writer, drawn from pen strokes: no network, any number of writers.

A writer has a form for each character, a slant, width, pen, pressure, tremor and a
way of bending strokes of their own, and varies all of them a little from one
example to the next. Pictures look like MNIST's: ink 255 on 0, 20 pixels for the
longer side, centred by mass in 28 x 28.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tff_transfer import memory, progress, randomness
from tff_transfer.data import strokes
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

SIZE = 28
BOX = 20.0
BLOCK = 128  # pictures inked at a time, so that they fit into the cache
WAVES = 4  # cosines along a stroke, and plane waves across a character
HAND_SHARE = 0.75  # of the characters that have them, those in hand-drawn forms


@dataclasses.dataclass(frozen=True)
class Variety:
    """How much writers differ, and how much one writer varies (standard deviations).

    Lengths are shares of the longer side of a character, angles are in radians.

    Attributes:
      slant: Of writers' shear (its mean is 0.12), and of one writer's.
      rotation: Of the angle.
      width: Of the logarithm of the width against the height.
      bend: Of a stroke's slow bends and shifts.
      elastic: Of the distortion of the whole character.
      pen: Of the logarithm of the pen's radius, whose median is 1.15 pixels.
      tremor: Of the outline's raggedness, in pixels.
      specks: The share of examples with a stray dot.
    """

    slant: tuple[float, float] = (0.25, 0.09)
    rotation: tuple[float, float] = (0.07, 0.06)
    width: tuple[float, float] = (0.18, 0.08)
    bend: tuple[float, float] = (0.05, 0.035)
    elastic: tuple[float, float] = (0.035, 0.025)
    pen: tuple[float, float] = (0.3, 0.08)
    tremor: tuple[float, float] = (0.1, 0.05)
    specks: float = 0.04


HANDWRITING = Variety()


def _drawn(draw, count, writer_and_example, *shape):
    """Draws one writer's values plus each example's own, float32 [count, *shape]."""
    writer, example = writer_and_example
    values = draw.normal(0, example, (count, *shape))
    return (values + draw.normal(0, writer, shape)).astype(np.float32)


def _choose_forms(draw, labels):
    """Chooses the form of each example: a habit of the writer, now and then left."""
    all_forms = strokes.skeletons()
    chosen = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        forms = np.flatnonzero(all_forms.character == label)
        by_hand = all_forms.by_hand[forms]
        weights = np.where(by_hand, HAND_SHARE / max(by_hand.sum(), 1), 0)
        weights += (1 - weights.sum()) * ~by_hand / (~by_hand).sum()
        habit, rare = draw.choice(forms, 2, p=weights)
        chosen[mine] = np.where(draw.random(len(mine)) < 0.85, habit, rare)
    return chosen


def _paths(draw, labels, variety):
    """Draws the pen's way: points [n, POINTS, 2], and the stroke of each point."""
    n = len(labels)
    # Some hands are steadier than others.
    bend, elastic = (
        np.multiply(spread, draw.lognormal(0, 0.35))
        for spread in (variety.bend, variety.elastic)
    )
    forms = strokes.skeletons()
    chosen = _choose_forms(draw, labels)
    stroke, first, last = (
        table[chosen] for table in (forms.stroke, forms.first, forms.last)
    )
    # A pen starts and stops early or late: the ends of strokes are cut or extended.
    span = np.arange(strokes.POINTS) - first
    along = (span / (last - first)).astype(np.float32)
    cut = draw.normal(0.01, 0.03, (n, stroke.max() + 1, 2)).astype(np.float32)
    start, stop = np.moveaxis(np.take_along_axis(cut, stroke[..., None], 1), 2, 0)
    at = first + (start + along * (1 - start - stop)) * (last - first)
    low = np.clip(np.floor(at).astype(int), first, last - 1)
    rest = (at - low)[..., None]
    roundness = draw.beta(0.7, 0.7) * draw.uniform(0.6, 1, (n, 1, 1))
    rows = np.arange(n)[:, None]
    before, after = (
        forms.points[chosen[:, None], p] * (1 - roundness)
        + forms.smooth[chosen[:, None], p] * roundness
        for p in (low, low + 1)
    )
    points = before * (1 - rest) + after * rest

    # Slow bends along each stroke; the lowest "wave" shifts the stroke as a whole.
    waves = np.arange(WAVES + 1)
    bends = np.zeros((n, stroke.max() + 1, WAVES + 1, 2), np.float32)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        bends[mine] = _drawn(draw, len(mine), bend, *bends.shape[1:])
    bends /= np.maximum(waves, 1)[:, None] ** 1.5
    # A plain straight stroke is bent less than a loop.
    extent = np.ptp(points, axis=1).min(1)
    bends *= (0.35 + 0.65 * np.minimum(extent / 0.5, 1))[:, None, None, None]
    cosines = np.cos(np.pi * along[..., None] * waves).astype(np.float32)
    points += np.einsum('npw,npwc->npc', cosines, bends[rows, stroke])

    # A smooth distortion of the plane, which strokes that meet share.
    frequency = draw.normal(0, 0.5, (WAVES, 2)).astype(np.float32)
    phase = _drawn(draw, n, (3, 0.3), 1, WAVES)
    push = _drawn(draw, n, elastic, WAVES, 2)
    points += np.sin(2 * np.pi * points @ frequency.T + phase) @ push

    # Width, slant, rotation.
    points[..., 0] *= np.exp(_drawn(draw, n, variety.width, 1))
    slant = _drawn(draw, n, variety.slant, 1) + 0.12
    points[..., 0] -= slant * points[..., 1]
    angle = _drawn(draw, n, variety.rotation, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = points[..., 0], points[..., 1]
    points = np.stack([cos * x - sin * y, sin * x + cos * y], -1)
    return points.astype(np.float32), stroke


def _frame(points, radius, size):
    """Puts paths into MNIST's frame: the longer side BOX, the mass in the middle.

    Args:
      points: The pen's way [n, points, 2], of any size.
      radius: The pen's radius in pixels [n, points]; the side includes the ink.
      size: What BOX is multiplied with, [n, 1, 1].

    Returns:
      The way in pixels [n, points, 2].
    """
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)
    room = (BOX - 2 * radius.mean(1) + 0.5)[:, None, None]
    points = (points - low) * (size * room / (high - low).max(2, keepdims=True))
    steps = np.linalg.norm(np.diff(points, axis=1), axis=2, keepdims=True)
    # Where the pen is lifted there is no ink.
    steps = np.where(steps > 2.5 * np.median(steps, 1, keepdims=True), 0, steps)
    middles = (points[:, 1:] + points[:, :-1]) / 2
    mass = (middles * steps).sum(1, keepdims=True) / steps.sum(1, keepdims=True)
    points = points - mass + (SIZE - 1) / 2
    # A centre of mass far from the box's would push ink out of the picture.
    points += np.maximum(0, 1 - points.min(1, keepdims=True))
    return points - np.maximum(0, points.max(1, keepdims=True) - (SIZE - 2))


def _ink(points, stroke, radius, ragged):
    """Inks paths: uint8 [n, SIZE, SIZE] from pixels [n, points, 2], radius alike.

    A pixel's ink is its overlap with the nearest disc of the pen, from the signed
    distance to the disc's edge, so that outlines have MNIST's grey levels.
    """
    # Discs between neighbours too, lest a thin line look like a string of beads.
    discs = np.concatenate([points, radius[..., None]], 2)
    joined = (stroke[:, 1:] == stroke[:, :-1])[..., None]
    between = np.where(joined, (discs[:, 1:] + discs[:, :-1]) / 2, discs[:, 1:])
    discs = np.ascontiguousarray(np.concatenate([discs, between], 1).T)[:, :, None]
    pixels = np.arange(SIZE, dtype=np.float32)[:, None]
    # Squares of distances as 16-bit integers, pictures last: four times faster.
    unit, far = 200, 60
    dx = (discs[0] - pixels) ** 2 - discs[2] ** 2
    dy = (discs[1] - pixels) ** 2
    dx, dy = ((np.minimum(d, far) * unit).astype(np.int16) for d in (dx, dy))
    nearest = np.full((SIZE, SIZE, len(points)), 2 * far * unit, np.int16)
    power = np.empty_like(nearest)
    for x, y in zip(dx, dy, strict=True):
        np.add(y[:, None], x, out=power)
        np.minimum(nearest, power, out=nearest)
    nearest = np.moveaxis(nearest, 2, 0).astype(np.float32) / unit
    typical = radius.mean(1)[:, None, None]
    edge = typical - np.sqrt(np.maximum(nearest + typical**2, 0)) + ragged
    return (np.clip(edge + 0.5, 0, 1) * 255).astype(np.uint8)


def draw_writer(
    seed: int, writer: int, labels: Sequence[int], variety: Variety = HANDWRITING
) -> np.ndarray:
    """Draws characters in one writer's hand, a pure function of the arguments.

    Args:
      seed: At least 0.
      writer: The number of the writer, at least 0.
      labels: Which characters, indices in `strokes.CHARACTERS`, int [n], at least
        one. A writer's hand is the same for equal labels alone.
      variety: How much hands differ.

    Returns:
      Pictures, uint8 [n, 28, 28, 1], ink 255 on 0.
    """
    draw = randomness.generator(seed, 'synthetic writer', writer)
    labels = np.asarray(labels)
    n = len(labels)
    points, stroke = _paths(draw, labels, variety)

    pen = 1.15 * np.exp(_drawn(draw, n, variety.pen, 1))
    along = np.linspace(0, 1, strokes.POINTS, dtype=np.float32)
    pressure = _drawn(draw, n, (0.08, 0.08), 3, 1) * np.cos(
        np.pi * np.arange(1, 4)[:, None] * along
    )
    radius = np.clip(pen * np.exp(pressure.sum(1)), 0.65, 3.2).astype(np.float32)

    size = draw.uniform(0.93, 1.02) * draw.uniform(0.97, 1.0, (n, 1, 1))
    points = _frame(points, radius, size)
    speckled = draw.random(n) < variety.specks
    points[speckled, -1] = draw.uniform(3, SIZE - 4, (speckled.sum(), 2))
    stroke[speckled, -1] += 1
    tremor = abs(_drawn(draw, n, variety.tremor, 1, 1))
    ragged = tremor * draw.standard_normal((n, SIZE, SIZE), np.float32)
    points = points.astype(np.float32)
    blocks = [slice(i, i + BLOCK) for i in range(0, n, BLOCK)]
    x = [_ink(points[b], stroke[b], radius[b], ragged[b]) for b in blocks]
    return np.concatenate(x)[..., None]


def generate(
    num_writers: int,
    examples_per_writer: int,
    seed: int,
    classes: int = 62,
    *,
    test_fraction: float = 0.1,
    variety: Variety = HANDWRITING,
) -> FederatedData:
    """Draws a population of synthetic writers.

    Args:
      num_writers: The number of clients, at least 1.
      examples_per_writer: Examples of each, at least 1; labels are drawn evenly.
      seed: At least 0; writer number i is the same in every population of a seed
        with as many examples and classes.
      classes: 10 for digits, 62 for digits, upper and lower case (EMNIST's order).
      test_fraction: The share of a writer's examples that are test examples, in
        [0, 1), rounded down.
      variety: How much hands differ.

    Returns:
      Pictures uint8 [n, 28, 28, 1], ink 255 on 0 as in MNIST (federated EMNIST is
      1 - x / 255), with their characters.

    Raises:
      UserError: A number is out of its range, or the pictures do not fit in memory.
    """
    for name, value in (
        ('num_writers', num_writers),
        ('examples_per_writer', examples_per_writer),
    ):
        if value < 1:
            raise UserError(f'{name} is {value}, but must be at least 1')
    if classes not in (10, 62):
        raise UserError(f'classes is {classes}, but must be 10 (digits) or 62')
    if seed < 0:
        raise UserError(f'seed is {seed}, but must be at least 0')
    if not 0 <= test_fraction < 1:
        raise UserError(f'test_fraction is {test_fraction}, but must be in [0, 1)')
    num_test = int(examples_per_writer * test_fraction)
    examples = num_writers * examples_per_writer
    memory.check_fits(
        f'{examples:,} examples',
        examples * SIZE**2,
        'lower num_writers or examples_per_writer',
    )
    x = np.empty((num_writers, examples_per_writer, SIZE, SIZE, 1), np.uint8)
    y = np.empty((num_writers, examples_per_writer), np.int32)
    for writer in progress.bar(range(num_writers), desc='writers', unit='writer'):
        draw = randomness.generator(seed, 'synthetic labels', writer)
        y[writer] = (
            draw.permutation(np.arange(examples_per_writer) + draw.integers(classes))
            % classes
        )
        x[writer] = draw_writer(seed, writer, y[writer], variety)
    digits = 'digits' if classes == 10 else 'characters'
    return FederatedData(
        name=f'{num_writers} synthetic writers, {digits}, seed {seed}',
        x=x.reshape(-1, SIZE, SIZE, 1),
        y=y.reshape(-1),
        client_ids=tuple(f'writer_{i:06d}' for i in range(num_writers)),
        num_train=np.full(num_writers, examples_per_writer - num_test),
        num_test=np.full(num_writers, num_test),
        num_classes=classes,
        class_names=tuple(strokes.CHARACTERS[:classes]),
    )
