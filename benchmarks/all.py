"""All benchmarks, one after another, unattended; then which figures moved.

  python -m benchmarks.all

runs them, each in a process of its own, goes on where one fails, and prints at its
end what each row was before (in the JSON files of `benchmarks/results`) and is now.
Its exit code is 1 if a benchmark failed, or a row that had a figure.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys

import psutil

from benchmarks import movement, speed

PEERS = 'peers'
COMMANDS = {
    PEERS: ('scripts/peers.sh',),
    **{
        workload: (sys.executable, '-m', 'benchmarks.speed', workload)
        for workload in speed.RUNNERS
    },
    'methods': (sys.executable, '-m', 'benchmarks.methods'),
    'growth': (sys.executable, '-m', 'benchmarks.growth'),
    'growth_small': (sys.executable, *('-m', 'benchmarks.growth', '--workload=small')),
    'kept': (sys.executable, '-m', 'benchmarks.kept'),
    'own_models': (sys.executable, '-m', 'benchmarks.own_models'),
    'personal_heads': (sys.executable, '-m', 'benchmarks.personal_heads'),
    'secure_aggregation': (sys.executable, '-m', 'benchmarks.secure_aggregation'),
    'robust_aggregation': (sys.executable, '-m', 'benchmarks.robust_aggregation'),
    'gan': (sys.executable, '-m', 'benchmarks.gan'),
    'frozen': (sys.executable, '-m', 'benchmarks.frozen'),
    'cluster': (sys.executable, '-m', 'benchmarks.cluster'),
    'memory': (
        sys.executable,
        *('-m', 'benchmarks.memory'),
        '--flagfile=experiments/presets/demo.txt',
        '--rounds=500',
    ),
}


def run(command: tuple[str, ...], limit_s: float) -> str:
    """Runs a benchmark, whose output is shown.

    Args:
      command: What to run, in the root of the repository.
      limit_s: When to give up.

    Returns:
      What went wrong, or nothing.
    """
    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, cwd=speed.ROOT, start_new_session=True
    )
    try:
        code = child.wait(limit_s)
        return f'exit code {code}' if code else ''
    except subprocess.TimeoutExpired:
        return f'not done after {limit_s:g} s'
    finally:
        _end(child)


def _end(child: subprocess.Popen) -> None:
    """Ends what still runs: what it started may be in sessions of its own."""
    if child.poll() is not None:
        return
    started = psutil.Process(child.pid).children(recursive=True)
    child.send_signal(signal.SIGINT)
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    with contextlib.suppress(ProcessLookupError):  # What it started since.
        os.killpg(child.pid, signal.SIGKILL)


def measured(name: str) -> dict | None:
    """Returns what a benchmark has written, or None."""
    path = speed.RESULTS / f'{name}.json'
    return json.loads(path.read_text('utf-8')) if path.exists() else None


def _machine(measurement: dict) -> str:
    found = measurement['machine']
    return f'{found["processor"]}, {found["cores"]} cores'


def report(
    failures: dict[str, str],
    rows: dict[str, list[movement.Row]],
    elsewhere: dict[str, str],
) -> str:
    """Returns the table and what stands out in it.

    Args:
      failures: What went wrong, by benchmark.
      rows: The rows of those that were measured.
      elsewhere: The machine of those that were measured on another one before.
    """
    lines = [movement.table(rows), '']
    for name, why in failures.items():
        lines.append(f'{name}: failed, {why} (see above)')
    if PEERS in failures:
        lines.append('frameworks that could not be installed have no figures')
    for name, machine in elsewhere.items():
        lines.append(f'{name}: measured before on another machine, {machine}')
    broken = [f'{b}: {r.name}' for b, its in rows.items() for r in its if r.broke]
    if broken:
        lines.append(f'had a figure before: {"; ".join(broken)}')
    moved = {b: [r for r in its if r.moved] for b, its in rows.items()}
    for name, its_rows in moved.items():
        if its_rows:
            listed = '; '.join(f'{r.name} {r.moved}' for r in its_rows)
            lines.append(f'{name}: moved by more than its spread: {listed}')
    if not any(moved.values()):
        lines.append('nothing moved by more than its spread')
    return '\n'.join(lines)


def main() -> int:
    """Measures what the command line asks for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        'names', nargs='*', metavar='NAME', help=f'of {", ".join(COMMANDS)}; or all'
    )
    parser.add_argument('--limit', type=float, default=7200, help='seconds for each')
    options = parser.parse_args()
    for name in options.names:
        if name not in COMMANDS:
            parser.error(f'{name!r} is none of {", ".join(COMMANDS)}')
    failures, rows, elsewhere = {}, {}, {}
    for name in options.names or COMMANDS:
        print(f'== {name}', flush=True)
        before = measured(name)
        failure = run(COMMANDS[name], options.limit)
        if failure:
            failures[name] = failure
            print(f'== {name}: {failure}', flush=True)
        elif now := measured(name):
            rows[name] = movement.compare(before, now)
            if before and _machine(before) != _machine(now):
                elsewhere[name] = _machine(before)
    print(report(failures, rows, elsewhere))
    broken = any(row.broke for its_rows in rows.values() for row in its_rows)
    return int(broken or bool(failures.keys() - {PEERS}))


if __name__ == '__main__':
    sys.exit(main())
