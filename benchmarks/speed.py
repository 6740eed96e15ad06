"""Seconds a round, side by side: each framework on the same arrays, one after another.

  python -m benchmarks.speed head head_skewed cnn --rounds=11

makes the workloads, runs every framework on each in a process of its own, compares
the weights that come out, and writes `benchmarks/results/WORKLOAD.md` and `.json`.
The frameworks' environments are made by `scripts/peers.sh`.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import numpy as np

from benchmarks import machine, workloads
from benchmarks.speed_tables import median, table
from tff_transfer import files, progress

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'benchmarks' / 'results'
PEERS = ROOT / 'benchmarks' / 'peers'
TORCH = str(ROOT / '.peers' / 'torch' / 'bin' / 'python')
FEDJAX = str(ROOT / '.peers' / 'fedjax' / 'bin' / 'python')
TORCHRUN = [TORCH, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']


@dataclasses.dataclass(frozen=True)
class Runner:
    """A framework with its settings.

    Attributes:
      name: What it is called in the table.
      command: What to run; the workload, where to put the result and the number of
        rounds are added.
      options: Its own options.
    """

    name: str
    command: tuple[str, ...]
    options: tuple[str, ...] = ()


def _ours(name: str, module: str, *options: str) -> Runner:
    return Runner(name, (sys.executable, '-m', f'benchmarks.peers.{module}'), options)


def _peer(name: str, python: str, script: str, *options: str) -> Runner:
    return Runner(name, (python, str(PEERS / script)), options)


COMPILED = _ours('compiled (ours)', 'tff', '--runtime=compiled')
LISTS = [
    _ours('compiled (ours), lists', 'tff', '--runtime=compiled', '--data=datasets'),
    _ours(
        'compiled (ours), new lists', 'tff', '--runtime=compiled', '--data=new_datasets'
    ),
]
STOCK = _ours('stock TFF', 'tff', '--runtime=stock')
TENSORFLOW = _ours('TensorFlow loop', 'tensorflow_loop')
ALONE = _ours('compiled (ours), one by one', 'tff', '--runtime=alone')
NUMPY = [
    _ours('NumPy, client by client', 'numpy_loop'),
    _ours('NumPy in lockstep', 'numpy_loop', '--lockstep'),
]
OTHERS = [
    _peer('PyTorch loop, 1 thread', TORCH, 'torch_loop.py', '--threads=1'),
    _peer('PyTorch loop, 2 threads', TORCH, 'torch_loop.py', '--threads=2'),
    _peer('FedJAX, jit', FEDJAX, 'fedjax_runner.py', '--backend=jit'),
    _peer('FedJAX, pmap', FEDJAX, 'fedjax_runner.py', '--backend=pmap'),
    _peer('pfl, 1 process', TORCH, 'pfl_runner.py', '--threads=1'),
    Runner('pfl, 2 processes', (*TORCHRUN, str(PEERS / 'pfl_runner.py'))),
    _peer('Flower simulation', TORCH, 'flower_runner.py'),
    _peer('fluke', TORCH, 'fluke_runner.py'),
]
AGGREGATORS = ('dp', 'robust', 'compression', 'secure', 'ddp_secure')
RUNNERS = {
    'head': [COMPILED, *LISTS, STOCK, TENSORFLOW, *OTHERS],
    'head_skewed': [COMPILED, STOCK, TENSORFLOW, *OTHERS],
    'small': [COMPILED, *LISTS, ALONE, *NUMPY, STOCK, TENSORFLOW, *OTHERS],
    'small_skewed': [COMPILED, *LISTS, ALONE, *NUMPY, STOCK, TENSORFLOW, *OTHERS],
    # The layers of the others' networks are those of the other workloads.
    'small_mlp': [COMPILED, *LISTS, ALONE, *NUMPY, STOCK, TENSORFLOW, *OTHERS[:2]],
    'cnn': [COMPILED, STOCK, TENSORFLOW, *OTHERS],
    'finetune_all': [COMPILED, TENSORFLOW, STOCK],
    'tutorial': [
        _ours(f'{name}, {how}', 'tff_tutorial', f'--source={source}', *options)
        for name, source in (('in memory', 'memory'), ('in SQLite', 'sqlite'))
        for how, options in (
            ('compiled', ('--runtime=compiled', '--anew')),
            ('compiled, made once', ('--runtime=compiled',)),
            ('stock', ('--runtime=stock', '--anew')),
        )
    ],
    'evaluation': [
        _ours('compiled (ours)', 'tff_evaluation', '--runtime=compiled'),
        _ours('stock TFF', 'tff_evaluation', '--runtime=stock'),
        _peer('PyTorch loop, 1 thread', TORCH, 'torch_evaluation.py', '--threads=1'),
        _peer('PyTorch loop, 2 threads', TORCH, 'torch_evaluation.py', '--threads=2'),
    ],
    'aggregators': [
        _ours(
            f'{name}, {runtime}', 'tff', f'--runtime={runtime}', f'--aggregator={name}'
        )
        for name in AGGREGATORS
        for runtime in ('compiled', 'stock')
    ],
}


def run(
    runner: Runner,
    work: pathlib.Path,
    rounds: int,
    folder: pathlib.Path,
    limit_s: float,
) -> dict:
    """Runs a framework on a workload.

    Args:
      runner: The framework.
      work: Where the workload is.
      rounds: Rounds, the first one included.
      folder: An empty folder.
      limit_s: When to give up.

    Returns:
      What the runner wrote, with its `weights`; or an `error` in one line.
    """
    if not os.access(runner.command[0], os.X_OK):
        return {'error': 'not installed: run scripts/peers.sh'}
    result = folder / 'result'
    command = [*runner.command, str(work), str(result), f'--rounds={rounds}']
    with open(folder / 'output', 'w+', encoding='utf-8', errors='replace') as output:
        child = subprocess.Popen(
            [*command, *runner.options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '2'},
            start_new_session=True,
        )
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return {'error': f'not done after {limit_s:g} s'}
        finally:
            # The session's number is the child's, so this ends what it left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.returncode:
            output.seek(0)
            return {'error': _last_error(output.read()) or f'exit {child.returncode}'}
    record = json.loads(result.with_suffix('.json').read_text('utf-8'))
    with np.load(result.with_suffix('.npz')) as weights:
        return {**record, 'weights': list(weights.values())}


def _last_error(output: str) -> str:
    """Returns the last error that is named, on one line of at most 200 characters."""
    # What TFF's worker says comes through gRPC, which wraps it in lines of its own.
    found = re.findall(r'(?:grpc_message:|details = )"([^"\n]+)', output) or [
        line.strip() for line in output.splitlines() if 'Error' in line
    ]
    return found[-1][:200].replace('|', '/') if found else ''


def difference(weights, reference) -> float:
    """Returns the largest difference of two lists of weights, to the largest weight."""
    largest = max(float(np.abs(r).max()) for r in reference)
    pairs = zip(weights, reference, strict=True)
    return max(float(np.abs(w - r).max()) for w, r in pairs) / largest


def measure(workload: str, rounds: int, limit_s: float, chosen: str = '') -> dict:
    """Runs all frameworks on a workload.

    Args:
      workload: Its name.
      rounds: Rounds of each, the first one included.
      limit_s: When to give up on one.
      chosen: What a runner's name must contain.

    Returns:
      The `machine`, and for each name its record without weights, with the
      `difference` to the reference: plain NumPy for linear models, else the first
      runner that came through (with the same aggregator).
    """
    described = machine.describe()
    runners = [r for r in RUNNERS[workload] if chosen in r.name]
    records, references, exact = {}, {}, None
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        work = workloads.WORKLOADS[workload]()
        work.save(folder / 'work')
        if workload == 'evaluation':
            exact = workloads.evaluate_head(work)
        elif work.model == 'linear' and workload != 'aggregators':
            exact = workloads.train_head(work, rounds)
        del work
        for number, runner in enumerate(progress.bar(runners, desc=workload)):
            place = folder / str(number)
            place.mkdir()
            record = run(runner, folder / 'work', rounds, place, limit_s)
            weights = record.pop('weights', None)
            if weights is not None:
                aggregator = runner.name.partition(', ')[0]
                group = aggregator if workload == 'aggregators' else ''
                reference = exact or references.setdefault(group, weights)
                record['difference'] = difference(weights, reference)
            records[runner.name] = record
            print(f'{workload}: {runner.name}: {summary(record)}', flush=True)
    return {'workload': workload, 'machine': described, 'records': records}


def summary(record: dict) -> str:
    """Returns a record in a line."""
    if 'error' in record:
        return record['error']
    return f'{median(record):.4f} s a round, first {record["seconds"][0]:.2f} s'


def main() -> None:
    """Measures and writes what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workloads', nargs='+', choices=list(RUNNERS))
    parser.add_argument('--rounds', type=int, default=11, help='with the first')
    parser.add_argument('--limit', type=float, default=900, help='seconds for one')
    parser.add_argument('--only', default='', help='part of the names to run')
    options = parser.parse_args()
    for workload in options.workloads:
        measured = measure(workload, options.rounds, options.limit, options.only)
        page = table(measured)
        print(page)
        if not options.only:
            files.write_text(RESULTS / f'{workload}.md', page)
            text = json.dumps(measured, indent=1) + '\n'
            files.write_text(RESULTS / f'{workload}.json', text)


if __name__ == '__main__':
    main()
