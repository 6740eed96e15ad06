"""Resident memory of a long run: after 500 rounds beside after 50.

  python -m benchmarks.memory --flagfile=experiments/presets/demo.txt --rounds=500

starts `experiments.emnist_fedavg` with the same flags and reads the resident memory
of it and of the processes it started, each time that a round is recorded.
"""

import pathlib
import subprocess
import sys
import tempfile
import time

import psutil

MARKS = (50, 100, 200, 300, 400, 500)


def resident(process: psutil.Process) -> int:
    """Returns the resident bytes of a process and of all that it started."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> None:
    """Runs, watches, and prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = pathlib.Path(folder) / 'run' / 'metrics.csv'
        command = [sys.executable, '-m', 'experiments.emnist_fedavg', *sys.argv[1:]]
        child = subprocess.Popen([*command, f'--run_dir={metrics.parent}'])
        process, seen = psutil.Process(child.pid), {}
        while child.poll() is None:
            rows = 0
            if metrics.exists():
                # The headings and round 0 are no rounds.
                rows = metrics.read_bytes().count(b'\n') - 2
            for mark in MARKS:
                if rows >= mark and mark not in seen:
                    seen[mark] = resident(process)
            time.sleep(0.002)
    if child.returncode:
        sys.exit(child.returncode)
    print('after round   resident MiB   to the first')
    for mark, size in seen.items():
        print(f'{mark:11d}   {size / 2**20:12.0f}   {size / seen[MARKS[0]]:12.3f}')


if __name__ == '__main__':
    main()
