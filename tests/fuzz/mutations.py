"""Damage to the bytes of a file, and what a reader makes of it."""

import collections
import contextlib
import logging
import pathlib
import signal
import traceback
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tff_transfer import randomness
from tff_transfer.errors import UserError

# What means something in text, so that damage gets beyond the first check.
_TELLING = b'0123456789.,;:-+eE_"\'{}[]()/\\ \n\r\t\0\xff'
_DEADLINE_S = 10


class _TooLongError(BaseException):
    """No `Exception`, nor an `OSError`, which a reader may take for a damaged file."""


def _range(content: bytes, draw: np.random.Generator) -> slice:
    start = int(draw.integers(len(content)))
    length = int(draw.integers(1, 1 + min(64, len(content) - start)))
    return slice(start, start + length)


def _flip(content: bytes, draw: np.random.Generator) -> bytes:
    """Changes one bit, or replaces one byte by another one of the file."""
    place = int(draw.integers(len(content)))
    other = content[int(draw.integers(len(content)))]
    if other == content[place] or draw.random() < 0.5:
        other = content[place] ^ 1 << int(draw.integers(8))
    return content[:place] + bytes([other]) + content[place + 1 :]


def _truncate(content: bytes, draw: np.random.Generator) -> bytes:
    return content[: int(draw.integers(len(content)))]


def _insert(content: bytes, draw: np.random.Generator) -> bytes:
    place = int(draw.integers(len(content) + 1))
    if draw.random() < 0.3:
        new = content[_range(content, draw)]
    else:
        new = bytes(draw.choice(list(_TELLING), int(draw.integers(1, 4))).tolist())
    return content[:place] + new + content[place:]


def _zero(content: bytes, draw: np.random.Generator) -> bytes:
    gone = _range(content, draw)
    return content[: gone.start] + bytes(gone.stop - gone.start) + content[gone.stop :]


def _swap(content: bytes, draw: np.random.Generator) -> bytes:
    cuts = np.sort(draw.integers(len(content) + 1, size=4))
    a, b, c, d, e = (
        content[start:end]
        for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)
    )
    return a + d + c + b + e


_DAMAGES = {
    'flip': _flip,
    'truncate': _truncate,
    'insert': _insert,
    'zero': _zero,
    'swap': _swap,
}


def mutate(content: bytes, draw: np.random.Generator) -> tuple[str, bytes]:
    """Returns a kind of damage, and the content with it, which is another one."""
    while True:
        kind = str(draw.choice(list(_DAMAGES), p=[0.5, 0.15, 0.15, 0.1, 0.1]))
        damaged = _DAMAGES[kind](content, draw)
        if damaged != content:
            return kind, damaged


@contextlib.contextmanager
def _deadline() -> Iterator[None]:
    """Ends a block that waits for ever, as one that opens a pipe does.

    Nothing is logged in it: warnings of thousands of files would bury a failure.
    """

    def give_up(number, frame):
        raise _TooLongError(f'not done after {_DEADLINE_S} s')

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_DEADLINE_S)
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


class Fuzz:
    """Damages files, has them read, and counts what came of it.

    Attributes:
      outcomes: How often each (family, kind of damage, outcome) occurred.
    """

    def __init__(self):
        self.outcomes = collections.Counter()
        self._failures = collections.defaultdict(list)

    def damage(
        self,
        family: str,
        path: pathlib.Path,
        read: Callable[[], object],
        judge: Callable[[object, bytes], str],
        count: int,
    ) -> None:
        """Damages a file again and again; the test fails unless all is well.

        Args:
          family: What the file is, for the counts; with it the damage is drawn.
          path: The file, whole; it is whole again afterwards.
          read: Reads it. It may raise a `UserError` of one line.
          judge: Says what the outcome is of what `read` returned and of the
            damaged content; an assertion in it fails for a wrong value.
          count: How many times.
        """
        whole = path.read_bytes()
        for number in range(count):
            draw = randomness.generator(0, f'fuzz {family} {path.name}', number)
            kind, damaged = mutate(whole, draw)
            path.write_bytes(damaged)
            said = f'{kind}, number {number}'
            self.attempt(family, kind, said, read, lambda f, d=damaged: judge(f, d))
        path.write_bytes(whole)
        self.check()

    def attempt(
        self,
        family: str,
        kind: str,
        said: str,
        read: Callable[[], object],
        judge: Callable[[object], str],
    ) -> None:
        """Reads once what is damaged; `check` tells of what went wrong."""
        try:
            with _deadline():
                outcome = judge(read())
        except UserError as error:
            text = str(error)
            outcome = 'one line'
            if not text or '\n' in text or '\r' in text:
                self._failures['no line'].append(f'{said}: {text!r}')
                outcome = 'FAILED'
        except (Exception, _TooLongError) as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = [f for f in frames if 'tff_transfer/' in f.filename] or frames
            path = '/'.join(pathlib.Path(where[-1].filename).parts[-2:])
            shown = ' '.join(str(error).split())[:160]
            frame = f'{path}:{where[-1].lineno} {where[-1].name}'
            what = f'{type(error).__name__} at {frame}'
            self._failures[what].append(f'{said}: {shown}')
            outcome = 'FAILED'
        self.outcomes[family, kind, outcome] += 1

    def check(self) -> None:
        """Fails with all that went wrong since the last call, if anything did."""
        lines = [
            f'{what}: {len(all_said)} times, such as {all_said[0]}'
            for what, all_said in self._failures.items()
        ]
        self._failures.clear()
        if lines:
            pytest.fail('\n'.join(lines), pytrace=False)

    def table(self) -> list[str]:
        """Returns the counts by family, by kind of damage and by outcome."""
        lines = []
        for family in dict.fromkeys(family for family, _, _ in self.outcomes):
            mine = {k[1:]: n for k, n in self.outcomes.items() if k[0] == family}
            by_kind, by_outcome = collections.Counter(), collections.Counter()
            for (kind, outcome), number in mine.items():
                by_kind[kind] += number
                by_outcome[outcome] += number
            told = [
                ', '.join(f'{number} {name}' for name, number in counts.most_common())
                for counts in (by_kind, by_outcome)
            ]
            lines.append(f'{family:22} {sum(mine.values()):5}: {told[0]} -> {told[1]}')
        return [*lines, f'{"all":22} {self.outcomes.total():5}']
