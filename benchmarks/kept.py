"""What many clients keep: memory, and what a round and a checkpoint cost.

  python -m benchmarks.kept

has 5,000 of 100,000 clients take part in SCAFFOLD, 50 a round, on a linear model of
100,006 weights, which is how many numbers each of them keeps then; after that 500 of
them again. What they keep is stored as a run does (`training/client_states.py`), with
a checkpoint in every tenth round, of which the last two stay. Takes 2.5 GB of disk, in
a temporary folder, and writes `benchmarks/results/kept.md`.
"""

import pathlib
import statistics
import time

import numpy as np
import tensorflow as tf

from benchmarks import machine, speed
from benchmarks.peers import runner, tff_models
from benchmarks.peers import tff as peer
from tff_transfer import algorithms, models, progress, randomness, runtime
from tff_transfer.records import checkpoints
from tff_transfer.training.client_states import ClientStates, took_part

CLIENTS, TAKE_PART, OF_ROUND, EVERY, KEEP = 100_000, 5000, 50, 10, 2
FEATURES, CLASSES = 1612, 62
FIRST, AGAIN = TAKE_PART // OF_ROUND, 10


def memory() -> dict[str, int]:
    """Returns the bytes that are resident, and the most that were."""
    found = {}
    for line in pathlib.Path('/proc/self/status').read_text('ascii').splitlines():
        name, _, value = line.partition(':')
        if name in ('VmRSS', 'VmHWM'):
            found[name] = int(value.split()[0]) * 1024
    return found


def clients_of_round() -> runner.Work:
    """Returns the examples of a round's clients, one batch each."""
    draw = randomness.generator(0, 'benchmark of what clients keep')
    rows = OF_ROUND * 20
    return runner.Work(
        'linear',
        draw.standard_normal((rows, FEATURES), np.float32),
        draw.integers(CLASSES, size=rows).astype(np.int32),
        np.arange(0, rows + 1, 20),
        [np.zeros((FEATURES, CLASSES), np.float32), np.zeros(CLASSES, np.float32)],
        20,
        0.01,
    )


def measure(folder: pathlib.Path) -> dict:
    """Runs all rounds; returns what was seen.

    Args:
      folder: An empty folder.
    """
    work, rows = clients_of_round(), folder / 'clients_1'
    made = algorithms.process(
        algorithms.Scaffold(),
        models.from_keras(tff_models.keras_network(work)),
        population=CLIENTS,
    )
    cohort = peer.clients(work, stock=False)
    order = randomness.generator(0, 'who takes part').permutation(CLIENTS)[:TAKE_PART]
    chosen = [*order.reshape(FIRST, OF_ROUND), *order.reshape(FIRST, OF_ROUND)[:AGAIN]]
    seconds = {'read': [], 'round': [], 'write': [], 'checkpoint': []}
    seen = {'file': [], 'checkpoint': [], 'before': memory()['VmRSS']}
    clock = time.perf_counter
    with runtime.use_compiled():
        server = made.process.initialize()
        states = ClientStates(made.kept, rows)
        index, held = states.empty_index(CLIENTS), {}
        for number, mine in enumerate(progress.bar(chosen, desc='kept'), 1):
            times = [clock()]
            kept = states.take(index, mine)
            times.append(clock())
            server, _, kept = made.process.next(server, cohort, kept)
            times.append(clock())
            index = states.put(index, mine, kept)
            times.append(clock())
            if number % EVERY == 0:
                held[number] = index
                states.need(held.values())
                state = {'server': server, 'kept': index}
                checkpoints.save(folder / 'checkpoints', number, state, '', KEEP)
                held = {n: i for n, i in held.items() if n > number - KEEP * EVERY}
                times.append(clock())
                path = checkpoints.path_of(folder / 'checkpoints', number)
                seen['checkpoint'].append(path.stat().st_size)
                # What is written of it: it grows ahead.
                seen['file'].append(rows.stat().st_blocks * 512)
            for name, spent in zip(seconds, np.diff(times), strict=False):
                seconds[name].append(float(spent))
    return {
        **seen,
        'seconds': seconds,
        'row': sum(leaf.nbytes for leaf in tf.nest.flatten(made.kept)),
        'took_part': int(took_part(index).sum()),
        'most': memory()['VmHWM'],
    }


def page(found: dict, described: dict) -> str:
    """Returns the measurement as a page in Markdown."""
    mb, seconds, file = 1e-6, found['seconds'], found['file']
    median = {name: statistics.median(values) for name, values in seconds.items()}
    rows, first = EVERY * OF_ROUND, FIRST // EVERY
    again = (file[-1] - file[first - 1]) * mb
    rounds = seconds['round']
    lines = [
        '# kept',
        '',
        f'{CLIENTS:,} clients, of whom {found["took_part"]:,} took part, {OF_ROUND} a'
        f' round, in SCAFFOLD; each keeps {found["row"] // 4:,} float32. A checkpoint'
        f' in every {EVERY}th round, of which {KEEP} stay.',
        '',
        '| | |',
        '|---|--:|',
        f'| resident before the first round | {found["before"] * mb:,.0f} MB |',
        f'| resident at most | {found["most"] * mb:,.0f} MB |',
        f'| what all {CLIENTS:,} would keep | {found["row"] * CLIENTS * mb:,.0f} MB |',
        f'| what those who took part keep |'
        f' {found["row"] * found["took_part"] * mb:,.0f} MB |',
        f'| the file of it after {FIRST} rounds | {file[first - 1] * mb:,.0f} MB |',
        f'| it grew in the {EVERY} rounds before |'
        f' {(file[first - 1] - file[first - 2]) * mb:,.0f} MB |',
        f'| so many rows | {rows * found["row"] * mb:,.0f} MB |',
        f'| it grew in {AGAIN} rounds of clients who took part again |'
        f' {again:,.0f} MB |',
        f'| a checkpoint: the index and the server |'
        f' {found["checkpoint"][-1] * mb:,.1f} MB |',
        f'| seconds of a checkpoint, what was written since flushed |'
        f' {median["checkpoint"]:.2f} ({min(seconds["checkpoint"]):.2f},'
        f' {max(seconds["checkpoint"]):.2f}) |',
        f'| seconds of a round, {OF_ROUND} clients | {median["round"]:.3f}'
        f' ({min(rounds):.3f}, {max(rounds):.3f}) |',
        f'| reading what they keep, the last {AGAIN} rounds |'
        f' {statistics.median(seconds["read"][FIRST:]):.3f} |',
        f'| writing it | {median["write"]:.3f} |',
        '',
        machine.sentence(described),
        '',
    ]
    return '\n'.join(lines)


def main() -> None:
    """Measures and writes."""
    machine.report(speed.RESULTS / 'kept.md', measure, page)


if __name__ == '__main__':
    main()
