"""A run: rounds of a federated process, with everything that makes it trustworthy."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import heads, progress, runtime
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import checkpoints, export, report, run_directory
from tff_transfer.training.config import Config, ModelConfig, TrainingConfig
from tff_transfer.training.evaluation import (
    Evaluator,
    per_client,
    summary,
    trained_network,
)
from tff_transfer.training.records import Records
from tff_transfer.training.setup import Setup, prepare
from tff_transfer.training.sources import load_backbone, load_data
from tff_transfer.training.stages import Stage, stages

PARTS = ('seen', 'unseen')
COLUMNS = (
    'round',
    'train/loss',
    'train/accuracy',
    *(
        f'{part}/{metric}'
        for part in PARTS
        for metric in ('loss', 'accuracy', 'accuracy_per_client')
    ),
    'bytes/up',
    'bytes/down',
    'time/round_s',
    'time/total_s',
)


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run comes to.

    Attributes:
      rows: One mapping for each round from 0, with the columns of `metrics.csv`.
      weights: The trained weights, in the order of `setup.model`.
      network: The trained head, from features to logits; without a backbone the whole
        network.
      setup: What it was trained in.
      client_accuracy: For `seen` and `unseen`, each client's accuracy by its name.
      run_dir: Where everything was written, if anywhere.
      chosen: What the run chose itself, by name, for the report.
    """

    rows: Sequence[Mapping[str, float | None]]
    weights: Sequence[np.ndarray]
    network: tf.keras.Model
    setup: Setup
    client_accuracy: Mapping[str, Mapping[str, float]]
    run_dir: pathlib.Path | None
    chosen: Mapping[str, str] = dataclasses.field(default_factory=dict)


def train(
    config: Config,
    run_dir: str | os.PathLike[str] | None = None,
    *,
    data: FederatedData | None = None,
    head: Callable[[int, int], tf.keras.Model] | None = None,
) -> Result:
    """Trains, or goes on with, the run that a configuration describes.

    Args:
      config: The whole configuration.
      run_dir: The run directory; None writes nothing.
      data: Clients to use instead of those that `config.data` names.
      head: A function of (feature size, classes) that makes a Keras network to use
        instead of the head that `config.model` describes.

    Returns:
      The result.

    Raises:
      UserError: In one line, if a value, a source or the run directory is unfit.
    """
    config.check()
    with contextlib.ExitStack() as stack:
        # First, so that a setting that does not suit the machine leaves nothing.
        stack.enter_context(_use_runtime(config.training))
        if run_dir is not None:
            run_dir = stack.enter_context(run_directory.opened(run_dir, config))
        backbone = load_backbone(config)
        data = data or load_data(config.data)
        if run_dir is not None:
            run_directory.check_same_data(run_dir, data)
        setup = prepare(config, data, backbone, head=head)
        try:
            if config.model.head in heads.ONE_ROUND:
                result = _solve(config.model, setup, run_dir)
            else:
                result = _train(config, setup, run_dir)
            if run_dir is not None:
                export.save(setup, result.weights, run_dir / 'model')
                report.write(config, result)
                if config.training.tflite:
                    export.save_tflite(run_dir / 'model', run_dir / 'model.tflite')
                if config.training.export_keras:
                    export.save_keras(setup, result.weights, run_dir / 'model.keras')
        except OSError as error:
            if run_dir is None:
                raise
            raise UserError(
                f'writing to {run_dir} failed ({error.strerror}); what was written is'
                ' kept: mend it and give the same command to go on'
            ) from error
    return result


def _resumed(run: Sequence[Stage], run_dir: pathlib.Path | None):
    """Returns the newest checkpoint's stage, round and state, or the start."""
    for stage in reversed(run):
        state, done = stage.initialize(), 0
        if run_dir is not None:
            folder = run_dir / 'checkpoints'
            done, state = checkpoints.load_newest(folder, state, stage.rounds)
        if done:
            break
    return stage, done, state


def _train(config: Config, setup: Setup, run_dir: pathlib.Path | None) -> Result:
    run = stages(config, setup)
    config = config.training
    stage, done, state = _resumed(run, run_dir)
    records = Records(run_dir, COLUMNS, up_to_round=done if done else -1)
    rows_of = evaluated_rows(setup)
    start = time.perf_counter() - _last(records.rows, 'time/total_s')

    def evaluate():
        return _evaluated(
            setup.data, functools.partial(stage.per_example, state), rows_of
        )

    with contextlib.closing(records):
        if not records.rows:
            row = {'round': 0, **evaluate()}
            records.append({**row, 'time/total_s': time.perf_counter() - start})
        bar = progress.bar(
            total=config.rounds, initial=done, desc='training', unit='round'
        )
        with bar:
            while done < config.rounds and not stopped_early(config, records.rows):
                round_start = time.perf_counter()
                done += 1
                if done not in stage.rounds:
                    head = stage.weights(state)
                    stage = run[-1]
                    state = stage.after(head)
                state, metrics = stage.next(state, done)
                sent = stage.bytes_sent(state)
                row = {'round': done, **_train_metrics(metrics)}
                if done % config.evaluate_every == 0 or done == config.rounds:
                    row.update(evaluate())
                now = time.perf_counter()
                row.update(
                    {
                        'bytes/up': sent * config.clients_per_round,
                        'bytes/down': sent * config.clients_per_round,
                        'time/round_s': now - round_start,
                        'time/total_s': now - start,
                    }
                )
                records.append(row)
                last = done in (stage.rounds[-1], config.rounds)
                last = last or stopped_early(config, records.rows)
                if run_dir and (last or done % config.checkpoint_every == 0):
                    folder = run_dir / 'checkpoints'
                    checkpoints.save(folder, done, state, config.keep_checkpoints)
                accuracy = _last(records.rows, 'unseen/accuracy')
                bar.set_postfix(
                    loss=f'{row["train/loss"]:.3f}', unseen=f'{accuracy:.1%}'
                )
                bar.update()
        if stage is not run[-1]:  # Stopped early, with the backbone as it came.
            head, stage = stage.weights(state), run[-1]
            state = stage.after(head)
        per_example = functools.partial(stage.per_example, state)
        accuracies = _client_accuracies(setup.data, per_example, rows_of)
    weights = stage.weights(state)
    network = trained_network(setup.model, weights)
    return Result(records.rows, weights, network, setup, accuracies, run_dir)


def _solve(config: ModelConfig, setup: Setup, run_dir: pathlib.Path | None) -> Result:
    """Computes a head in one round, in which all seen clients take part.

    No checkpoint is kept: a run that was killed computes the same again.
    """
    start = time.perf_counter()
    evaluator = Evaluator(setup.model, setup.data, setup.transform)
    rows_of = evaluated_rows(setup)

    def evaluate(weights):
        per_example = functools.partial(evaluator.per_example, weights)
        return _evaluated(setup.data, per_example, rows_of)

    def accuracy(weights):
        _, correct = evaluator.per_example(weights, rows_of['seen'])
        return np.mean(correct)

    with contextlib.closing(Records(run_dir, COLUMNS, up_to_round=-1)) as records:
        initial = setup.model.network.get_weights()
        row = {'round': 0, **evaluate(initial)}
        records.append({**row, 'time/total_s': time.perf_counter() - start})
        round_start = time.perf_counter()
        solution = heads.solve(
            config.head,
            setup.data,
            setup.seen,
            setup.transform,
            penalty=config.ridge_penalty,
            accuracy=accuracy if len(rows_of['seen']) else None,
        )
        now = time.perf_counter()
        records.append(
            {
                'round': 1,
                **evaluate(solution.weights),
                'bytes/up': solution.bytes_up * len(setup.seen),
                'bytes/down': 0,
                'time/round_s': now - round_start,
                'time/total_s': now - start,
            }
        )
        weights = solution.weights
        per_example = functools.partial(evaluator.per_example, weights)
        accuracies = _client_accuracies(setup.data, per_example, rows_of)
    network = trained_network(setup.model, weights)
    return Result(
        records.rows, weights, network, setup, accuracies, run_dir, solution.chosen
    )


def evaluated_rows(setup: Setup) -> dict[str, np.ndarray]:
    """Returns the test rows of seen clients and all rows of unseen ones."""
    data = setup.data
    unseen = np.isin(data.client_of_row, setup.unseen)
    return {
        'seen': np.flatnonzero(~unseen & ~data.is_train),
        'unseen': np.flatnonzero(unseen),
    }


def stopped_early(config: TrainingConfig, rows: Sequence[Mapping]) -> bool:
    """Returns whether the seen clients' accuracy has not risen for too long."""
    if config.early_stop_patience is None:
        return False
    accuracies = [
        row['seen/accuracy'] for row in rows if row['seen/accuracy'] is not None
    ]
    if not accuracies:
        return False
    since_best = len(accuracies) - 1 - int(np.argmax(accuracies))
    return since_best >= config.early_stop_patience


def _use_runtime(config: TrainingConfig) -> contextlib.AbstractContextManager:
    """Makes the runtime of a configuration the default."""
    if config.runtime == 'stock':
        return runtime.use_stock()
    short = None if config.compute_dtype == 'float32' else config.compute_dtype
    return runtime.use_compiled(compute_dtype=short, seed=config.seed)


def _train_metrics(metrics: Mapping) -> dict[str, float]:
    train_metrics = metrics['client_work']['train']
    return {f'train/{name}': float(value) for name, value in train_metrics.items()}


def _last(rows: Sequence[Mapping], column: str) -> float:
    """Returns the last value there is in a column, or 0."""
    return next((r[column] for r in reversed(rows) if r[column] is not None), 0.0)


def _evaluated(data, per_example, rows_of) -> dict[str, float]:
    """Returns the columns that an evaluation fills."""
    return {
        f'{part}/{metric}': value
        for part, rows in rows_of.items()
        for metric, value in summary(data, rows, *per_example(rows)).items()
    }


def _client_accuracies(data, per_example, rows_of) -> dict[str, dict[str, float]]:
    """Returns each client's accuracy by its name, for seen and unseen ones."""
    found = {}
    for part, rows in rows_of.items():
        _, correct = per_example(rows)
        clients, accuracies = per_client(data, rows, correct)
        names = (data.client_ids[client] for client in clients)
        found[part] = dict(zip(names, accuracies.tolist(), strict=True))
    return found
