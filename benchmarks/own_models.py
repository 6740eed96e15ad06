"""Evaluates clients' own models: thousands of heads, each on its client's examples.

  python -m benchmarks.own_models

has 3,400 clients (as many as federated EMNIST) with a head of 1,280 features and 62
classes each, kept as Ditto does in a file, and ten test examples each; beside it a
plain NumPy loop over the same heads in memory. Writes
`benchmarks/results/own_models.md`. Takes 1.1 GB of disk and 3 GB of memory.
"""

import pathlib
import statistics
import time

import numpy as np

import tff_transfer as tt
from benchmarks import machine, speed
from tff_transfer import randomness, runtime
from tff_transfer.algorithms import compose
from tff_transfer.algorithms.compose import Composed
from tff_transfer.algorithms.computations import Kept
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.data.federated import FederatedData
from tff_transfer.training import methods, setup
from tff_transfer.training.client_states import ClientStates
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.own_models import OwnModels
from tff_transfer.training.setup import Setup
from tff_transfer.training.training_config import TrainingConfig

CLIENTS, EXAMPLES, FEATURES, CLASSES = 3400, 10, 1280, 62


def population(
    purpose: str, train: int, test: int, features: int, classes: int
) -> FederatedData:
    """Returns clients of drawn features.

    Args:
      purpose: What they are drawn for.
      train: Training examples of each.
      test: Test examples of each.
      features: Numbers of an example.
      classes: Classes.
    """
    draw = randomness.generator(0, purpose)
    rows = CLIENTS * (train + test)
    return FederatedData(
        'features',
        draw.standard_normal((rows, features), np.float32),
        draw.integers(classes, size=rows).astype(np.int32),
        tuple(map(str, range(CLIENTS))),
        np.full(CLIENTS, train),
        np.full(CLIENTS, test),
        classes,
    )


def prepared(data: FederatedData) -> tuple[Config, Setup, Method, Context, Composed]:
    """Returns a run of Ditto with a linear head, ready to train."""
    config = Config(
        data=DataConfig(unseen_fraction=0.0),
        model=ModelConfig('mlp'),
        training=TrainingConfig(server_optimizer='sgd'),
        algorithm=tt.algorithms.Ditto(),
    ).resolved()
    model = setup.head_or_network(config, data, None, None)
    made = setup.prepare(config, data, None, model)
    method, context = methods.method_of(config, made.model, CLIENTS)
    return config, made, method, context, compose.compose(method, context)


def own_heads() -> tuple[np.ndarray, np.ndarray]:
    """Returns each client's weights and biases."""
    draw = randomness.generator(1, 'benchmark of own models')
    weights = draw.standard_normal((CLIENTS, FEATURES, CLASSES), np.float32)
    return weights, draw.standard_normal((CLIENTS, CLASSES), np.float32)


def plain(data: FederatedData, heads, rows: np.ndarray) -> np.ndarray:
    """Returns the classes that a loop over clients predicts."""
    x = data.x[rows].reshape(CLIENTS, EXAMPLES, FEATURES)
    found = [
        np.argmax(x[i] @ w + b, 1) for i, (w, b) in enumerate(zip(*heads, strict=True))
    ]
    return np.concatenate(found)


def measure(folder: pathlib.Path, rounds: int = 6) -> dict[str, list[float]]:
    """Returns the seconds of each evaluation.

    Args:
      folder: Where what clients keep is stored.
      rounds: How often each is timed.

    Raises:
      RuntimeError: The two predict other classes.
    """
    data = population('benchmark of own models', 1, EXAMPLES, FEATURES, CLASSES)
    heads = own_heads()
    config, made, method, context, composed = prepared(data)
    states = ClientStates(composed.kept, folder / 'clients')
    index = states.empty_index(CLIENTS)
    for block in np.array_split(np.arange(CLIENTS), 17):
        mine = Kept(tuple(leaf[block] for leaf in heads), (), ())
        index = states.put(index, block, runtime.StackedClients(mine))
    rows = np.flatnonzero(~data.is_train)
    with runtime.use_compiled():
        own = OwnModels(
            method,
            context,
            composed,
            made,
            config.training,
            gathered=None,
            states=states,
            first_of=lambda client: composed.kept,
        )
        state = {'server': composed.process.initialize(), 'kept': index}
        seconds, found = {'own models': [], 'NumPy loop': []}, {}
        for _ in range(rounds):
            for name, run in (
                ('own models', lambda: own.per_example(state, rows)['predicted']),
                ('NumPy loop', lambda: plain(data, heads, rows)),
            ):
                start = time.perf_counter()
                found[name] = run()
                seconds[name].append(time.perf_counter() - start)
    if np.mean(found['own models'] == found['NumPy loop']) < 0.999:
        raise RuntimeError('own models and the loop predict other classes')
    return seconds


def table(seconds: dict[str, list[float]], digits: int) -> list[str]:
    """Returns the lines of a table of seconds, of so many digits after the point."""
    lines = [
        '| | seconds, median | fastest, slowest | the first |',
        '|---|--:|--:|--:|',
    ]
    for name, found in seconds.items():
        median, *ends = (f(found[1:]) for f in (statistics.median, min, max))
        fastest, slowest = (f'{end:.{digits}f}' for end in ends)
        lines.append(
            f'| {name} | {median:.{digits}f} | {fastest}, {slowest} | {found[0]:.2f} |'
        )
    return lines


def page(seconds: dict[str, list[float]], described: dict) -> str:
    """Returns the measurement as a page in Markdown."""
    lines = [
        '# own models',
        '',
        f'{CLIENTS:,} clients, each with a head of {FEATURES:,} features and {CLASSES}'
        f' classes of its own ({CLIENTS * (FEATURES + 1) * CLASSES * 4e-9:.1f} GB in'
        f' all) and {EXAMPLES} test examples.',
        '',
        *table(seconds, 2),
    ]
    note = (
        'Own models are read from the file in which a run keeps them, their checksums'
        ' checked; the loop has its heads in memory.'
    )
    return '\n'.join([*lines, '', note, '', machine.sentence(described), ''])


def main() -> None:
    """Measures and writes."""
    machine.report(speed.RESULTS / 'own_models.md', measure, page)


if __name__ == '__main__':
    main()
