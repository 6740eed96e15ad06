import json
import sys
import time

import psutil
import pytest

from benchmarks import all as everything
from benchmarks import movement, speed
from benchmarks.movement import Row


@pytest.mark.parametrize(
    ('before', 'now', 'moved'),
    [
        # Medians 2 and 2.5, each inside the other's spread.
        ([1.0, 2.0, 3.0], [1.5, 2.5, 3.5], ''),
        # 3.5 is outside [1, 3], but 2 is inside [1.9, 5]: now is spread too much.
        ([1.0, 2.0, 3.0], [1.9, 3.5, 5.0], ''),
        # 2.5 is inside [1, 3], though 2 is outside [2.4, 2.6].
        ([1.0, 2.0, 3.0], [2.4, 2.5, 2.6], ''),
        # The spreads overlap, the medians are outside.
        ([1.0, 2.0, 3.0], [2.5, 3.5, 4.5], 'slower'),
        ([2.5, 3.5, 4.5], [1.0, 2.0, 3.0], 'faster'),
        ([2.0, 2.0], [2.0, 2.0], ''),
        ([2.0, 2.0], 'exit 1', ''),
        ('exit 1', [2.0, 2.0], ''),
        (None, [2.0, 2.0], ''),
        ([2.0, 2.0], None, ''),
    ],
)
def test_moved_is_each_median_outside_the_others_spread(before, now, moved):
    assert Row('row', before, now).moved == moved


def test_broke_is_an_error_in_place_of_a_figure():
    assert Row('row', [1.0], 'exit 1').broke
    assert not Row('row', [1.0], 'not installed: run scripts/peers.sh').broke
    assert not Row('row', 'exit 1', 'exit 1').broke
    assert not Row('row', None, 'exit 1').broke
    assert not Row('row', [1.0], [1.0]).broke


def test_rows_of_each_kind_of_file():
    assert movement.seconds_by_row(
        {'records': {'ours': {'seconds': [9.0, 1.0, 2.0]}, 'other': {'error': 'no'}}}
    ) == {'ours': [1.0, 2.0], 'other': 'no'}
    growth = {'name': 'ours', 'clients': 1000, 'examples': 10, 'seconds': [9.0, 1.0]}
    assert movement.seconds_by_row({'records': [growth]}) == {
        '1,000 clients x 10, ours': [1.0]
    }
    head = {
        'name': 'ours',
        'population': 10,
        'seconds': [8.0, 9.0, 1.0],
        'whole_times': [18.0, 19.0],
    }
    top = {'name': 'cached', 'top_layers': 2, 'seconds': [9.0, 1.0]}
    assert movement.seconds_by_row({'head': [head], 'top': [top]}) == {
        'head of 10 clients, ours': [1.0],
        'head of 10 clients, ours, whole time': [18.0, 19.0],
        'top of 2 layers, cached': [1.0],
    }


def test_every_result_has_rows():
    names = {path.stem for path in speed.RESULTS.glob('*.json')}
    assert names <= set(everything.COMMANDS)
    for name in names:
        rows = movement.compare(None, everything.measured(name))
        assert rows and all(row.before is None and row.now for row in rows)


def test_report_names_what_moved_and_what_failed():
    before = {'records': {n: {'seconds': [9.0, 1.0, 2.0, 3.0]} for n in 'abcd'}}
    now = {
        'records': {
            'a': {'seconds': [9.0, 4.0, 5.0, 6.0]},
            'b': {'seconds': [9.0, 1.0, 2.0, 2.5]},
            'c': {'error': 'exit 1'},
            'e': {'seconds': [9.0, 0.5, 1.5]},
        }
    }
    rows = {'head': movement.compare(before, now)}
    failures, elsewhere = {'growth': 'exit code 3'}, {'head': 'abacus, 1 cores'}
    said = everything.report(failures, rows, elsewhere).splitlines()
    assert said[2:7] == [
        '| head | a | 2.0000 | 1.0000, 3.0000 | 5.0000 | 4.0000, 6.0000 | 2.50 |'
        ' slower |',
        '| head | b | 2.0000 | 1.0000, 3.0000 | 2.0000 | 1.0000, 2.5000 | 1.00 |  |',
        '| head | c | 2.0000 | 1.0000, 3.0000 | exit 1 |  |  |  |',
        '| head | e |  |  | 1.0000 | 0.5000, 1.5000 |  |  |',
        '| head | d | 2.0000 | 1.0000, 3.0000 |  |  |  |  |',
    ]
    assert said[8:] == [
        'growth: failed, exit code 3 (see above)',
        'head: measured before on another machine, abacus, 1 cores',
        'had a figure before: head: c',
        'head: moved by more than its spread: a slower',
    ]


def test_all_goes_on_after_a_failure(tmp_path, monkeypatch, capsys):
    old, new = (
        json.dumps(
            {
                'machine': {'processor': processor, 'cores': 2},
                'records': {'ours': {'seconds': [9.0, *rest]}},
            }
        )
        for processor, *rest in (('old one', 1.0, 2.0), ('new one', 3.0, 4.0))
    )
    monkeypatch.setattr(speed, 'RESULTS', tmp_path)
    (tmp_path / 'good.json').write_text(old)
    write = f'import pathlib; pathlib.Path({str(tmp_path)!r}, "good.json")'
    commands = {
        'peers': (sys.executable, '-c', 'exit(1)'),
        'bad': (sys.executable, '-c', 'exit(3)'),
        'good': (sys.executable, '-c', f'{write}.write_text({new!r})'),
    }
    monkeypatch.setattr(everything, 'COMMANDS', commands)
    monkeypatch.setattr(sys, 'argv', ['all'])
    assert everything.main() == 1
    said = capsys.readouterr().out
    assert 'bad: failed, exit code 3' in said
    assert 'good: moved by more than its spread: ours slower' in said
    assert 'another machine, old one, 2 cores' in said
    # Other frameworks may be absent.
    monkeypatch.setattr(sys, 'argv', ['all', 'peers', 'good'])
    assert everything.main() == 0
    said = capsys.readouterr().out
    assert 'peers: failed' in said and 'nothing moved' in said
    assert 'another machine' not in said


@pytest.mark.slow
def test_what_takes_too_long_is_ended_with_what_it_started(tmp_path):
    child = (
        'import subprocess, sys; subprocess.run([sys.executable, "-c", sys.argv[1]])'
    )
    # By which it is found among all processes.
    inner = f'import time; time.sleep(600)  # {tmp_path}'
    failure = everything.run((sys.executable, '-c', child, inner), 0.4)
    assert failure == 'not done after 0.4 s'

    def left() -> list[int]:
        found = psutil.process_iter(['cmdline', 'status'])
        return [
            process.pid
            for process in found
            if any(str(tmp_path) in word for word in process.info['cmdline'] or ())
            and process.info['status'] != psutil.STATUS_ZOMBIE
        ]

    until = time.monotonic() + 30
    while left() and time.monotonic() < until:
        time.sleep(0.1)
    assert not left()
