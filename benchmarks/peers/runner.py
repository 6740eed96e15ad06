"""What every runner does: read the arrays, time the rounds, write what came out.

Needs NumPy alone, so that it is the same in every environment. A runner is called as
`python RUNNER.py WORK RESULT --rounds=6 [--its-own-options]`, writes
`RESULT.json` (seconds of each round, the first with all compilation; settings;
versions; peak resident bytes) and `RESULT.npz` (the weights after the last round).
"""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import time
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Work:
    """One workload: federated averaging by numbers of examples, in the given order.

    Attributes:
      model: `'linear'`, `'mlp'` (a hidden layer), `'cnn'`, `'mobilenet'` or
        `'backbone'`.
      x: Inputs of all clients, float32 (images for a backbone: uint8) [rows, ...],
        aligned to 64 bytes.
      y: Labels, int32 [rows].
      row_splits: Client i has the rows from `row_splits[i]` to `row_splits[i + 1]`.
      weights: Initial weights, in Keras's order and layout.
      batch_size: Rows of a batch; a client's last batch holds what is left.
      learning_rate: Of the clients' SGD; the server adds the mean of the changes.
    """

    model: str
    x: np.ndarray
    y: np.ndarray
    row_splits: np.ndarray
    weights: list[np.ndarray]
    batch_size: int
    learning_rate: float

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self.row_splits) - 1

    def rows(self, client: int) -> slice:
        """Returns the rows of a client."""
        return slice(int(self.row_splits[client]), int(self.row_splits[client + 1]))

    def save(self, folder: pathlib.Path) -> None:
        """Writes everything to a folder, the inputs to a file of their own."""
        folder.mkdir()
        arrays = {f'weight{i}': w for i, w in enumerate(self.weights)}
        named = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        del named['weights']
        np.save(folder / 'x.npy', named.pop('x'))
        np.savez(folder / 'rest.npz', **named, **arrays)


def load(folder: pathlib.Path) -> Work:
    """Reads what `Work.save` wrote."""
    with np.load(folder / 'rest.npz') as file:
        names = [f'weight{i}' for i in range(sum(n[:6] == 'weight' for n in file))]
        return Work(
            model=str(file['model']),
            x=_load_aligned(folder / 'x.npy'),
            y=file['y'],
            row_splits=file['row_splits'],
            weights=[file[name] for name in names],
            batch_size=int(file['batch_size']),
            learning_rate=float(file['learning_rate']),
        )


def _load_aligned(path: pathlib.Path) -> np.ndarray:
    """Reads an npy file into memory that no framework needs to copy again.

    TensorFlow and XLA take an array as it is only if it begins at a multiple of 64.
    """
    stored = np.load(path, mmap_mode='r')
    memory = np.empty(stored.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    memory = memory[start : start + stored.nbytes]
    with open(path, 'rb') as file:
        # Not through the map, whose pages would count as resident memory.
        file.seek(stored.offset)
        if file.readinto(memory) != len(memory):
            raise OSError(f'{path} is cut short')
    return memory.view(stored.dtype).reshape(stored.shape)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a runner hands back.

    Attributes:
      seconds: Of each round, the first one included.
      weights: After the last round, in Keras's order and layout.
      settings: What was chosen for this framework, in a few words.
    """

    seconds: list[float]
    weights: list[np.ndarray]
    settings: str


def time_rounds(
    step: Callable, state, rounds: int, before: Callable[[], object] = lambda: None
):
    """Calls `state = step(state)` again and again.

    Args:
      step: A whole round; returns only when its result is there.
      state: The first state.
      rounds: How often.
      before: Called before each round, whose time it is not counted in.

    Returns:
      The seconds of each call and the last state.
    """
    seconds = []
    for _ in range(rounds):
        before()
        start = time.perf_counter()
        state = step(state)
        seconds.append(time.perf_counter() - start)
    return seconds, state


def main(
    train: Callable[[Work, argparse.Namespace], Result],
    packages: list[str],
    add_options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
    is_main: Callable[[], bool] = lambda: True,
) -> None:
    """Runs `train` as the command line says.

    Args:
      train: Trains for `options.rounds` rounds.
      packages: The packages whose versions are recorded.
      add_options: Adds the runner's own options.
      is_main: Whether this process writes the result, asked after training.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('work', type=pathlib.Path)
    parser.add_argument('result')
    parser.add_argument('--rounds', type=int, default=6)
    add_options(parser)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    result = train(load(options.work), options)
    if not is_main():
        return
    np.savez(options.result + '.npz', *result.weights)
    record = {
        'seconds': result.seconds,
        'settings': result.settings,
        'versions': {p: importlib.metadata.version(p) for p in packages},
        'load_before': load_before,
        'peak_resident_bytes': _peak_resident_bytes(),
    }
    with open(options.result + '.json', 'w', encoding='utf-8') as file:
        json.dump(record, file, indent=1)


def _peak_resident_bytes() -> int:
    # Not getrusage's, which is the starting process's where that held more.
    with open('/proc/self/status', encoding='ascii') as file:
        peak = next(line for line in file if line.startswith('VmHWM:'))
    return int(peak.split()[1]) * 1024
