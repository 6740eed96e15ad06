"""`audit.jsonl`: what it tells, that it is found out if it is not what was written."""

import hashlib
import hmac
import json
import stat

import pytest

from tff_transfer.errors import UserError
from tff_transfer.records import audit_log

KEY = '0123' * 16


def entry(number):
    return {
        'round': number,
        'clients': [f'writer {number}', 'Ü'],
        'sent': {'update': 80},
        'clip': 0.1,
        'noise_multiplier': 1.5,
    }


@pytest.fixture
def run_dir(tmp_path):
    log = audit_log.AuditLog(tmp_path, up_to_round=0)
    for number in range(1, 6):
        log.append(entry(number))
    rows = ''.join(f'{number}\n' for number in range(6))
    (tmp_path / 'metrics.csv').write_text(f'round\n{rows}')
    return tmp_path


def lines_of(run_dir):
    return (run_dir / audit_log.FILE).read_bytes().splitlines(keepends=True)


def test_a_line_tells_of_its_round_and_is_linked_to_the_one_before(run_dir):
    first, second, *_ = map(json.loads, lines_of(run_dir))
    key = bytes.fromhex((run_dir / 'audit_key').read_text().strip())
    named = [
        hmac.new(key, name.encode(), hashlib.sha256).hexdigest()
        for name in entry(2)['clients']
    ]
    link = second.pop('sha256')
    assert second == {**entry(2), 'clients': sorted(named)}
    text = first['sha256'] + json.dumps(second, separators=(',', ':'))
    assert hashlib.sha256(text.encode()).hexdigest() == link
    assert audit_log.verify(run_dir) == (5, json.loads(lines_of(run_dir)[-1])['sha256'])
    assert stat.S_IMODE((run_dir / 'audit_key').stat().st_mode) == 0o600


def changed(lines):
    return [*lines[:2], lines[2].replace(b'1.5', b'9.5'), *lines[3:]]


def linked_anew(lines):
    told, before = json.loads(lines[2]), json.loads(lines[1])['sha256']
    told.pop('sha256')
    line, _ = audit_log._line({**told, 'clip': 9.0}, before)
    return [*lines[:2], line, *lines[3:]]


def spaced(lines):
    return [*lines[:-1], lines[-1].replace(b',"sha', b', "sha')]


def put_in(lines):
    told = json.loads(lines[2])
    return [*lines[:3], audit_log._line(told, told.pop('sha256'))[0], *lines[3:]]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (changed, 'the line of round 3 is not what was written'),
        (linked_anew, 'the line of round 4 is not what was written'),
        (lambda lines: [*lines[:2], *lines[3:]], 'line 3 is of round 4'),
        (put_in, 'line 4 is of round 3'),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 'line 1 is of round 2'),
        (lambda lines: [*lines[:2], b'rubbish\n', *lines[3:]], 'line 3 is none that'),
        (lambda lines: [*lines[:2], b'[]\n', *lines[3:]], 'line 3 is none that'),
        (lambda lines: lines[:3], 'round 4 and what follows is missing'),
        (spaced, 'the line of round 5 is not what was written'),
    ],
)
def test_what_is_not_as_written_is_named(change, words, run_dir):
    (run_dir / audit_log.FILE).write_bytes(b''.join(change(lines_of(run_dir))))
    with pytest.raises(UserError, match=words):
        audit_log.verify(run_dir)


def test_lines_of_later_rounds_are_made_again_equal(run_dir):
    before = lines_of(run_dir)
    log = audit_log.AuditLog(run_dir, up_to_round=3)
    assert lines_of(run_dir) == before[:3]
    for number in (4, 5):
        log.append(entry(number))
    assert lines_of(run_dir) == before


def test_a_log_without_its_beginning_or_its_key_is_refused(run_dir):
    lines = lines_of(run_dir)
    (run_dir / audit_log.FILE).write_bytes(b''.join(lines[:2]))
    with pytest.raises(UserError, match='ends before round 4'):
        audit_log.AuditLog(run_dir, up_to_round=4)
    (run_dir / 'audit_key').write_text('rubbish')
    with pytest.raises(UserError, match='does not hold the key'):
        audit_log.AuditLog(run_dir, up_to_round=2)
    (run_dir / 'audit_key').unlink()
    with pytest.raises(UserError, match='audit_key is lost'):
        audit_log.AuditLog(run_dir, up_to_round=2)
    (run_dir / audit_log.FILE).unlink()
    with pytest.raises(UserError, match='only runs with --privacy'):
        audit_log.verify(run_dir)
