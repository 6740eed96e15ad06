"""What was done with clients in each round of a private run: `audit.jsonl`.

A line a round, each with the SHA-256 of the one before and itself, so that a line that
was changed, dropped or put in is found. Clients stand there under pseudonyms, the
HMAC-SHA256 of their names with a key that is kept apart (`audit_key`).
"""

import hashlib
import hmac
import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tff_transfer import files
from tff_transfer.errors import UserError
from tff_transfer.records import metrics, run_directory

FILE = 'audit.jsonl'
_CHAIN = 'sha256'


class Verified(NamedTuple):
    """What a whole log comes to.

    Attributes:
      rounds: How many rounds it tells of.
      sha256: That of its last line: who keeps it elsewhere knows a log that was
        written anew; empty of a log without lines.
    """

    rounds: int
    sha256: str


def pseudonyms(names: Iterable[str], key: str) -> list[str]:
    """Returns what clients are called in a log, in an order that tells nothing.

    Args:
      names: The clients' names.
      key: What `run_directory.audit_key` gives.
    """
    keyed = bytes.fromhex(key)
    return sorted(
        hmac.new(keyed, name.encode('utf-8', 'surrogateescape'), 'sha256').hexdigest()
        for name in names
    )


def verify(run_dir: pathlib.Path) -> Verified:
    """Checks that a run's log is what was written, a line for each of its rounds.

    Raises:
      UserError: There is no log, or a line was changed, dropped or put in; the first
        such is named.
    """
    path = run_dir / FILE
    if not path.exists():
        raise UserError(f'{path} is not there; only runs with --privacy write one')
    lines = metrics.lines(path)
    sha256 = _checked(lines, path)
    rounds = [row['round'] for row in metrics.read(run_dir / 'metrics.csv')]
    if len(lines) < max(rounds, default=0):
        raise UserError(
            f'{path}: round {len(lines) + 1} and what follows is missing: metrics.csv'
            f' tells of {rounds[-1]} rounds'
        )
    return Verified(len(lines), sha256)


class AuditLog:
    """The log of a run, on disk.

    Args:
      run_dir: The run directory.
      up_to_round: Lines of later rounds are dropped: they will be made again, equal.

    Raises:
      UserError: The lines up to there are not what was written, or the key of their
        pseudonyms is lost.
    """

    def __init__(self, run_dir: pathlib.Path, up_to_round: int):
        self._run_dir, self._path = run_dir, run_dir / FILE
        kept = metrics.lines(self._path)[:up_to_round]
        self.sha256 = _checked(kept, self._path)
        if len(kept) < up_to_round:
            raise UserError(
                f'{self._path} ends before round {up_to_round}, from which this run'
                ' goes on; put a whole copy back or choose another --run_dir'
            )
        if kept and not (run_dir / run_directory.AUDIT_KEY).exists():
            raise UserError(
                f'{run_dir / run_directory.AUDIT_KEY} is lost, without which clients'
                ' would get other pseudonyms; put it back or choose another --run_dir'
            )
        self._key = run_directory.audit_key(run_dir)
        with run_directory.writing(run_dir), files.replacing(self._path) as new:
            new.write_bytes(b''.join(kept))

    def append(self, entry: Mapping[str, Any]) -> None:
        """Adds a round's line; it is on disk when this returns.

        Args:
          entry: What `Stage.audited` gives; clients get their pseudonyms here.
        """
        entry = {**entry, 'clients': pseudonyms(entry['clients'], self._key)}
        line, self.sha256 = _line(entry, self.sha256)
        with run_directory.writing(self._run_dir), open(self._path, 'ab') as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _line(entry: Mapping[str, Any], before: str) -> tuple[bytes, str]:
    """Returns a line and its link, of what it tells and the link before it."""
    text = json.dumps(entry, separators=(',', ':'))
    sha256 = hashlib.sha256((before + text).encode()).hexdigest()
    linked = json.dumps({**entry, _CHAIN: sha256}, separators=(',', ':'))
    return linked.encode() + b'\n', sha256


def _checked(lines: Iterable[bytes], path: pathlib.Path) -> str:
    """Returns the last link of lines from round 1 on, that are all as written.

    Raises:
      UserError: One is not.
    """
    before = ''
    for expected, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            entry.pop(_CHAIN)
            found = entry['round']
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(
                f'{path}: line {expected} is none that a run writes; the log was'
                ' changed there'
            ) from error
        if found != expected:
            raise UserError(
                f'{path}: line {expected} is of round {found}; a line was dropped, put'
                ' in or changed there'
            )
        again, sha256 = _line(entry, before)
        if again != line:
            raise UserError(
                f'{path}: the line of round {expected} is not what was written; it was'
                ' changed or put in, or one before it'
            )
        before = sha256
    return before
