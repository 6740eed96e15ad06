"""Trains clients' own heads: thousands of small ones, together and one by one.

  python -m benchmarks.personal_heads

has 3,400 clients (as many as federated EMNIST) with a head of 64 features and 10
classes each and 100 training and ten test examples: a round of Ditto, which trains
each client's own head and the shared one for an epoch, and the evaluation of all by
their own heads, with clients in lockstep and one by one, by turns. Writes
`benchmarks/results/personal_heads.md`.
"""

import pathlib
import time

import numpy as np
import tensorflow as tf

from benchmarks import machine, speed
from benchmarks.own_models import CLIENTS, population, prepared, table
from tff_transfer import runtime
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.training.personal import PersonalEvaluator

TRAIN, TEST, FEATURES, CLASSES = 100, 10, 64, 10
HOW = {'in lockstep': None, 'one by one': False}


def measure(_: pathlib.Path, rounds: int = 6) -> dict[str, list[float]]:
    """Returns the seconds of each round and of each evaluation.

    Raises:
      RuntimeError: The two come to other heads.
    """
    data = population('benchmark of personal heads', TRAIN, TEST, FEATURES, CLASSES)
    _, made, method, context, composed = prepared(data)
    cohort = training_cohort(
        data, range(CLIENTS), batch_size=10, epochs=1, seed=0, round_number=1
    )
    first = tf.nest.map_structure(
        lambda leaf: np.repeat(np.asarray(leaf)[None], CLIENTS, axis=0), composed.kept
    )
    kept = runtime.StackedClients(first)
    rows = np.flatnonzero(~data.is_train)
    evaluator = PersonalEvaluator(method, context, made.transform)
    seconds, found = {}, {}
    for _ in range(rounds):
        for name, lockstep in HOW.items():
            with runtime.use_compiled(lockstep=lockstep):
                state = composed.process.initialize()
                start = time.perf_counter()
                state, _, found[name] = composed.process.next(state, cohort, kept)
                trained = time.perf_counter()
                own = found[name] = found[name].arrays
                evaluator.per_example(
                    data,
                    state,
                    lambda some, own=own: tf.nest.map_structure(
                        lambda leaf: leaf[some], own
                    ),
                    rows,
                )
            took = trained - start, time.perf_counter() - trained
            for what, each in zip(('trained', 'evaluated'), took, strict=True):
                seconds.setdefault(f'{what}, {name}', []).append(each)
    pairs = zip(*(tf.nest.flatten(found[name]) for name in HOW), strict=True)
    if not all(np.allclose(a, b, atol=1e-4) for a, b in pairs):
        raise RuntimeError('in lockstep heads become others than one by one')
    return seconds


def page(seconds: dict[str, list[float]], described: dict) -> str:
    """Returns the measurement as a page in Markdown."""
    lines = [
        '# personal heads',
        '',
        f'{CLIENTS:,} clients, each with a head of {FEATURES} features and {CLASSES}'
        f' classes of its own, {TRAIN} training examples (batches of 10, one epoch of'
        f' Ditto) and {TEST} test examples; the two by turns in one process.',
        '',
        *table(seconds, 3),
    ]
    note = 'Evaluation is the same computation of many heads either way.'
    return '\n'.join([*lines, '', note, '', machine.sentence(described), ''])


def main() -> None:
    """Measures and writes."""
    machine.report(speed.RESULTS / 'personal_heads.md', measure, page)


if __name__ == '__main__':
    main()
