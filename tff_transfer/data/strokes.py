"""Characters as pen strokes: the skeletons that synthetic writers bend and ink.

Digits, and letters that people print otherwise than type does, are drawn here by
hand in the forms that are common in handwriting. All 62 characters also come from
the single-stroke Hershey fonts (A. V. Hershey, 1967) of the package Hershey-Fonts.
"""

import dataclasses
import functools
import string

import HersheyFonts
import numpy as np

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
POINTS = 96
FONTS = ('futural', 'rowmans', 'cursive', 'scripts', 'timesi')

# Each form is strokes separated by '|', each of them points 'x,y' on a grid of 100
# with y downwards; a smooth curve runs through them and turns sharply at a '!'.
HAND = {
    '0': (
        '50,0 22,14 12,50 24,88 50,100 76,88 88,50 78,14 50,0',
        '62,4 34,6 10,38 16,80 46,100 78,82 90,44 76,10 52,2 40,10',
        '50,0 38,14 34,50 38,86 50,100 62,86 66,50 62,14 50,0',
        '74,0 52,4 22,26 12,62 28,96 58,92 82,58 84,26 62,8 36,14',
        '30,12 12,44 18,84 50,100 84,80 88,36 64,4 34,10 22,24',
        '50,0 18,10 2,50 16,92 50,100 84,92 98,50 82,10 50,0',
        '50,0 20,14 12,50 24,88 50,100 78,86 88,50 78,14 50,0 | 76,14 26,84',
        '40,16 52,2 74,10 86,48 72,90 44,100 16,80 12,40 28,12 60,6 80,22',
    ),
    '1': (
        '50,0 50,50 50,100',
        '50,0 50,50 50,100',
        '54,0 51,30 48,70 48,100',
        '50,0 46,50 52,100',
        '32,20 44,12 54,0! 54,50 54,100',
        '22,26! 52,0! 52,100',
        '24,24 40,16 54,0! 54,100! | 24,100 84,100',
        '50,0 50,100 | 26,100 76,100',
    ),
    '2': (
        '12,24 26,4 52,0 76,10 80,32 62,58 34,82 10,100! 50,98 90,98',
        '14,20 40,0 74,8 78,34 56,66 26,94 12,92 22,80 44,88 70,100 94,90',
        '10,14 44,2 80,6! 54,50 12,98! 50,100 92,96',
        '20,30 16,14 36,2 64,4 76,24 62,54 36,80 18,98 8,90 22,76 46,84 66,98 92,94',
        '8,12 36,0 62,10 66,36 44,70 8,98! 40,88 64,94 96,86',
        '30,20 40,4 62,4 70,24 54,56 20,92 6,84 24,70 52,84 98,100',
        '16,22 32,4 58,2 70,22 60,50 44,76 22,100! 54,96 86,100',
        '34,36 18,24 24,6 52,0 80,14 82,46 56,84 24,100 8,88 20,74 50,86 98,94',
        '30,30 14,16 34,0 66,6 82,34 68,72 34,98 12,92 20,74 48,78 92,100',
        '24,18 36,0 58,8 54,40 30,88 14,98 18,84 60,94 82,88',
        '12,16 40,0 62,16 50,54 14,96! 40,84 66,92 100,68',
        '20,12 50,4 62,18 48,56 10,100! 50,88 96,96',
        '10,10 30,0 56,4 68,20 64,44 40,78 16,100! 60,94 84,84',
    ),
    '3': (
        '14,14 40,0 72,10 72,36 42,48! 76,58 84,82 54,100 14,90',
        '12,4 74,2! 42,40! 74,50 84,76 62,98 32,100 10,88',
        '18,10 48,0 76,14 66,38 40,48 30,44 42,42 74,58 78,84 46,100 12,92',
        '20,18 44,2 68,8 70,30 44,46 36,50 46,48 76,62 70,92 40,100 16,84',
        '10,6 50,0 78,16 60,36 34,44! 66,54 74,78 44,98 4,96',
        '26,6 56,0 72,16 56,38 38,46! 62,50 68,72 48,92 8,100',
        '22,8 48,0 62,14 50,34 36,38! 70,46 86,70 62,98 20,96 10,82',
        '30,6 56,2 60,20 42,44! 60,56 64,80 40,100 28,96',
        '16,10 50,0 66,20 46,44 56,52 72,68 58,94 20,100',
        '10,12 36,2 84,8 66,28 40,44! 72,54 80,80 50,100 18,94',
        '14,6 76,0! 48,40! 70,52 78,76 54,98 10,92',
        '28,16 34,2 66,4 70,30 46,44 36,40 44,36 72,52 82,80 56,100 24,94 26,80',
    ),
    '4': (
        '60,0 34,34 8,66! 92,64 | 66,30 64,66 62,100',
        '22,0 18,30 14,52! 50,54 86,50 | 78,0 74,50 70,100',
        '66,0! 38,32 6,68! 94,66 | 66,0 66,50 66,100',
        '20,2 16,36 24,54 50,56 76,44! 80,4 74,60 66,100',
        '28,0 12,44! 84,40 | 72,12 62,60 52,100',
        '76,4! 44,28 14,58! 52,58 84,52 | 76,4 68,50 58,100',
        '18,4 18,40 34,54 60,50 78,38 | 82,2 80,40 76,100',
        '14,0 8,38 16,52 46,46 92,36 | 64,20 58,60 44,100',
        '50,0! 10,58! 88,56 | 56,36 52,100',
        '10,12 14,48 40,56 68,46 86,6 74,54 62,100',
    ),
    '5': (
        '80,2! 30,4! 22,44! 52,36 80,54 80,80 54,98 14,92',
        '28,4 24,30 22,44! 54,38 78,58 72,86 46,100 12,90 | 28,4 56,4 88,0',
        '34,6 28,42! 60,44 76,66 62,92 34,100 8,92 | 32,6 92,2',
        '90,0 64,4 42,10! 34,42 58,50 68,70 52,92 10,98',
        '84,4 56,2 36,14 32,34 52,46 68,62 62,86 34,100 10,86',
        '70,4! 26,6! 20,48 44,42 72,50 78,74 60,96 28,100 8,86 14,78',
        '30,10 22,46! 50,40 72,58 66,86 40,100 14,88 | 40,6 90,8',
        '96,0 58,8 40,12 30,40 46,46 64,66 50,94 8,100',
        '40,2 26,40! 58,48 62,74 40,96 6,100 | 42,4 80,10',
        '28,0 20,38! 56,40 78,62 64,92 18,100 | 26,4 74,2',
    ),
    '6': (
        '66,0 40,18 20,54 20,84 46,100 76,88 78,64 54,52 28,64 20,80',
        '46,0 28,34 18,70 30,96 60,98 78,80 68,62 44,60 24,78',
        '74,4 50,6 26,34 16,70 30,96 60,98 80,78 72,56 46,54 24,70',
        '30,0 20,40 18,76 36,100 68,96 82,76 66,58 38,64 22,82',
        '62,0 38,34 26,70 34,96 54,98 64,82 54,68 38,74 30,88',
        '88,6 54,12 20,46 10,78 30,100 64,96 76,76 58,62 30,68 14,82',
        '40,0 24,28 14,62 20,94 48,100 70,82 62,60 40,62 26,86 34,96',
        '54,0 22,40 12,80 30,100 60,92 72,70 56,58 30,72 24,92',
        '30,2 18,44 20,84 52,100 86,84 84,58 54,50 28,70',
    ),
    '7': (
        '10,8 46,6 86,4! 62,46 42,100',
        '10,8 50,4 88,2! 64,40 46,100 | 30,52 84,48',
        '14,26 12,6! 50,6 86,4! 60,50 50,100',
        '10,20 18,4 40,10 64,12 86,2 66,40 44,100',
        '16,6 78,2! 74,40 70,100',
        '12,28 14,10 50,8 82,6! 58,52 36,100 | 26,56 78,50',
        '8,10 44,2 72,6 74,20 54,56 44,100',
        '20,24 26,8 50,4 76,10 74,30 60,64 56,100',
        '26,16 40,6 72,0! 60,50 48,100',
        '10,36 14,8 50,10 84,2 60,46 44,70 38,100',
        '10,6 48,8 80,2! 56,52 40,100 | 34,46 74,56',
    ),
    '8': (
        '76,10 48,0 22,16 34,40 64,56 80,80 52,100 22,86 30,60 64,40 82,18 66,4',
        '50,0 24,12 26,36 50,48 74,36 76,12 50,0'
        ' | 50,48 18,62 20,90 50,100 80,90 82,62 50,48',
        '84,8 56,2 28,18 40,44 64,62 66,88 40,100 22,82 40,56 70,34 90,6',
        '50,46 26,26 40,4 66,6 72,26 50,46 26,68 28,94 54,100 72,80 50,46',
        '80,16 58,0 34,14 38,40 58,62 58,90 38,100 28,80 46,54 72,30 82,14',
        '32,44 20,20 44,2 74,12 66,38 36,54 16,78 36,100 66,94 72,68 44,48 30,42',
        '92,0 60,8 28,22 40,46 58,66 46,92 22,98 20,76 52,48 94,4',
        '60,4 36,10 34,34 62,60 66,88 44,100 26,84 40,56 66,30 60,4',
        '50,56 14,36 20,6 60,0 86,18 74,44 44,58 34,80 46,98 62,90 60,70 50,56',
        '56,40 40,26 44,4 62,2 68,20 52,42 16,66 16,94 56,100 82,84 76,58 50,40',
        '70,14 40,4 20,20 32,40 70,60 78,84 50,100 18,88 22,62 64,38 86,10',
        '24,8 46,2 74,12 72,30 44,48 24,70 30,92 56,100 74,84 62,58 30,36 22,14',
        '84,14 62,2 36,20 42,44 60,72 48,98 32,90 42,60 68,36 96,10',
    ),
    '9': (
        '78,22 54,2 26,16 20,40 44,54 70,38 80,12! 76,60 72,100',
        '76,20 50,0 22,18 24,44 52,50 74,32 78,14 76,56 60,90 28,100 14,88',
        '80,10 50,2 22,22 24,46 50,48 76,14! 60,60 44,100',
        '70,24 52,2 28,14 28,42 54,44 72,20 70,60 68,100',
        '86,14 54,0 20,18 14,42 40,52 72,36 88,6 70,50 58,100',
        '72,16 46,4 30,26 40,46 64,34 74,10 78,44 68,84 44,100',
        '64,8 34,4 16,28 30,48 62,34 74,4 64,52 58,100',
        '74,8 40,10 16,36 30,50 60,38 78,8 66,50 36,100',
        '72,10 30,8 16,34 38,48 72,34! 68,70 62,100',
        '60,6 36,14 34,36 52,44 66,26 62,4! 64,60 60,100',
        '80,20 60,2 26,10 16,34 40,48 76,26 84,12 80,60 56,98 22,100 20,86',
    ),
    'A': (
        '8,100 30,50 50,0! 70,50 92,100 | 22,64 80,62',
        '10,100 14,40 50,0 86,40 90,100 | 14,58 88,58',
    ),
    'B': ('16,0 14,100 | 16,2 66,6 66,40 18,48! 80,56 80,94 14,98',),
    'E': (
        '80,4 40,0 18,18 44,46! 12,70 30,98 84,94',
        '78,2! 18,4! 16,98! 84,96 | 18,48 66,46',
    ),
    'G': ('82,16 50,0 14,30 18,82 54,100 84,80 84,56! 52,56 | 84,56 86,100',),
    'I': ('50,0 50,100', '50,0 50,100 | 22,0 80,0 | 20,100 80,100'),
    'J': ('70,0 70,76 46,100 16,80', '26,2 94,0 | 64,0 62,80 38,100 10,82'),
    'Q': ('50,0 14,20 12,70 50,94 86,70 84,20 50,0 | 56,68 96,100',),
    'Z': ('12,4 86,2! 12,98! 90,96', '12,4 86,2! 12,98! 90,96 | 26,50 76,48'),
    'a': (
        '76,14 44,0 12,40 20,86 50,92 74,50 80,4! 76,80 94,98',
        '20,16 56,0 74,24 74,100 | 72,44 24,54 16,88 48,98 74,76',
    ),
    'b': ('20,0 18,100 | 20,62 52,42 82,64 70,96 20,92',),
    'd': ('74,62 44,42 14,68 36,100 74,84 | 78,0 76,100',),
    'e': ('14,52 84,46 66,8 30,10 10,50 30,94 84,86',),
    'f': ('76,6 52,0 40,22 38,100 | 14,44 68,42',),
    'g': (
        '74,8 40,2 20,26 40,46 72,28 76,4! 74,76 46,100 16,84',
        '72,10 40,0 22,24 42,44 70,26 74,6! 66,80 34,100 20,84 90,50',
    ),
    'k': ('20,0 18,100 | 72,36 22,70! 78,100',),
    'l': (
        '50,0 50,100',
        '48,0 46,80 60,100 74,92',
        '30,66 62,18 48,0 42,60 56,98 76,84',
    ),
    'q': ('74,8 40,2 18,28 40,52 74,30 | 76,0 74,86 94,100 98,80',),
    'r': ('20,2 24,50 22,100 | 22,40 46,10 84,8',),
    't': ('50,0 48,80 64,100 84,88 | 18,30 86,28', '50,0 50,100 | 16,34 86,32'),
    'u': ('12,0 14,70 44,96 76,66 80,0! 80,70 94,98',),
    'y': (
        '16,0 22,36 50,46 76,30 | 80,0 76,76 46,100 20,86',
        '14,0 50,50 | 88,0 50,50 22,100',
    ),
}


@dataclasses.dataclass(frozen=True)
class Skeletons:
    """All forms of all characters, their strokes sampled at `POINTS` points each.

    Attributes:
      points: float32 [forms, POINTS, 2]: x and y (downwards), the longer side of
        the form's box from -0.5 to 0.5.
      smooth: The same with its corners rounded.
      stroke: The number of the stroke that each point is on, int64 [forms, POINTS].
      first: The index of that stroke's first point, int64 [forms, POINTS].
      last: The index of its last point.
      character: The index in `CHARACTERS` of each form, int64 [forms].
      by_hand: Whether the form is one of `HAND`, bool [forms].
    """

    points: np.ndarray
    smooth: np.ndarray
    stroke: np.ndarray
    first: np.ndarray
    last: np.ndarray
    character: np.ndarray
    by_hand: np.ndarray


def _curve(text: str) -> np.ndarray:
    """Returns the polyline of one stroke of `HAND`: Catmull-Rom between corners."""
    runs, run = [], []
    for word in text.split():
        run.append([float(part) for part in word.rstrip('!').split(',')])
        if word.endswith('!'):
            runs.append(run)
            run = run[-1:]
    if len(run) > 1:
        runs.append(run)
    pieces = []
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    for run in runs:
        p = np.array(run)
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
            pieces.append(
                b
                + t * (c - a) / 2
                + t**2 * (2 * a - 5 * b + 4 * c - d) / 2
                + t**3 * (3 * (b - c) + d - a) / 2
            )
    return np.concatenate([*pieces, [runs[-1][-1]]])


def _lengths(line: np.ndarray) -> np.ndarray:
    """Returns the length along a polyline up to each of its points."""
    steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
    return np.concatenate([[0], np.cumsum(steps)])


def _sample(strokes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Places `POINTS` points evenly; returns them and how many each stroke has."""
    lengths = np.array([_lengths(line)[-1] for line in strokes])
    share = lengths / lengths.sum() * (POINTS - 4 * len(strokes))
    counts = 4 + np.floor(share).astype(int)
    counts[np.argmax(lengths)] += POINTS - counts.sum()
    points = []
    for line, count in zip(strokes, counts, strict=True):
        along = _lengths(line)
        at = np.linspace(0, along[-1], count)
        points.append(np.stack([np.interp(at, along, line[:, i]) for i in (0, 1)], 1))
    points = np.concatenate(points)
    low, high = points.min(0), points.max(0)
    return (points - (low + high) / 2) / (high - low).max(), counts


def _rounded(points: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Returns the points averaged with their neighbours on the stroke, ends kept."""
    pieces = []
    for piece in np.split(points, np.cumsum(counts)[:-1]):
        for _ in range(12):
            inner = (piece[:-2] + 2 * piece[1:-1] + piece[2:]) / 4
            piece = np.concatenate([piece[:1], inner, piece[-1:]])
        pieces.append(piece)
    return np.concatenate(pieces)


@functools.cache
def skeletons() -> Skeletons:
    """Returns all forms of all characters, made once."""
    forms = [
        (CHARACTERS.index(character), True, [_curve(s) for s in form.split('|')])
        for character, variants in HAND.items()
        for form in variants
    ]
    for name in FONTS:
        font = HersheyFonts.HersheyFonts()
        font.load_default_font(name)
        for index, character in enumerate(CHARACTERS):
            strokes = [np.array(s, float) for s in font.strokes_for_text(character)]
            strokes = [s for s in strokes if len(s) > 1 and _lengths(s)[-1] > 0]
            forms.append((index, False, strokes))
    sampled = [_sample(strokes) for _, _, strokes in forms]
    stroke = np.stack([np.repeat(np.arange(len(c)), c) for _, c in sampled])
    ends = [np.cumsum(c) for _, c in sampled]
    return Skeletons(
        points=np.stack([p for p, _ in sampled]).astype(np.float32),
        smooth=np.stack([_rounded(*s) for s in sampled]).astype(np.float32),
        stroke=stroke,
        first=np.stack(
            [np.repeat(e - c, c) for e, (_, c) in zip(ends, sampled, strict=True)]
        ),
        last=np.stack(
            [np.repeat(e - 1, c) for e, (_, c) in zip(ends, sampled, strict=True)]
        ),
        character=np.array([index for index, _, _ in forms]),
        by_hand=np.array([by_hand for _, by_hand, _ in forms]),
    )
