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

from tff_transfer import progress, runtime
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models import Task, trained_network
from tff_transfer.records import (
    audit_log,
    checkpoints,
    keras_file,
    personalization,
    predictions,
    report,
    run_directory,
)
from tff_transfer.records.metrics import SIMULATED, Records
from tff_transfer.records.run_directory import writing
from tff_transfer.training import (
    baselines,
    client_settings,
    columns,
    devices,
    divergence,
    exports,
    generative,
    hostile,
    public_data,
    resuming,
    sources,
)
from tff_transfer.training.config import Config
from tff_transfer.training.evaluation import summary
from tff_transfer.training.methods import method_of
from tff_transfer.training.result import Result
from tff_transfer.training.setup import Setup, head_or_network, prepare
from tff_transfer.training.sources import load_backbone, load_data
from tff_transfer.training.stages import Stage, stages
from tff_transfer.training.training_config import TrainingConfig

# What early stopping goes by where a method measures it.
VALIDATION = 'server/validation_loss'


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
      data: Clients to use instead of those that `config.data` names, whose split of
        clients alone then has an effect.
      head: A function of (feature size, classes) that makes a Keras network to use
        instead of the head that `config.model` describes.

    Returns:
      The result.

    Raises:
      UserError: In one line, if a value, a source or the run directory is unfit, or
        if training diverged.
    """
    if data is not None:
        sources.check_given(config.data, data)
    config.check()
    config = config.resolved()
    given = [name for name, it in (('data', data), ('head', head)) if it is not None]
    with contextlib.ExitStack() as stack:
        # First, so that a setting that does not suit the machine leaves nothing.
        stack.enter_context(use_runtime(config.training))
        if run_dir is not None:
            run_dir = stack.enter_context(run_directory.opened(run_dir, config))
        told = config
        if config.private and not config.training.seed:
            config = dataclasses.replace(
                config,
                training=dataclasses.replace(
                    config.training, seed=run_directory.secret_seed(run_dir)
                ),
            )
            stack.enter_context(use_runtime(config.training))
        backbone = load_backbone(config)
        if data is None:
            data = load_data(config, backbone)
        if run_dir is not None:
            run_directory.check_same_data(run_dir, data)
            run_directory.check_same_backbone(run_dir, backbone)
        exports.check_clients(config.training, data)
        devices.check(config, data)
        client_settings.of(config, data)
        public = public_data.read(config, data)
        if run_dir is not None:
            given_files = {
                **devices.files(config),
                **generative.files(config),
                **public_data.files(config),
            }
            for what, path in given_files.items():
                run_directory.check_same_file(run_dir, what, path)
        model = head_or_network(config, data, backbone, head)
        if config.training.export_keras:
            keras_file.check(data.x, backbone, model.network)
        if backbone is None or config.model.finetune == 'head':
            method_of(
                config, model, len(data)
            )  # To say before features what cannot be.
        setup = prepare(config, hostile.poisoned(config, data), backbone, model)
        setup = hostile.with_triggers(config, setup, data)
        setup = public_data.with_examples(setup, public)
        if baselines.wanted(config):
            baselines.check(config, setup)
        if run_dir is not None:
            run_directory.check_same_network(run_dir, setup.model)
        result = _train(config, setup, run_dir)
        diverged = divergence.stopped(config.training, result.rows)
        if said := divergence.described(config.training, result.rows):
            chosen = {**result.chosen, 'divergence': said}
            result = dataclasses.replace(result, chosen=chosen)
        if baselines.wanted(config) and not diverged:
            result = baselines.compare(config, result, _train)
        if run_dir is not None:
            with writing(run_dir):
                report.write(told, result, data, given)
                if result.personalization is not None:
                    path = run_dir / personalization.FILE
                    personalization.write(result.personalization, path)
                if not diverged:
                    exports.write(config.training, result)
    if diverged:
        raise UserError(f'{said}, or go on all the same with --on_divergence=continue')
    return result


def _train(
    config: Config,
    setup: Setup,
    run_dir: pathlib.Path | None,
    said: str = 'training',
) -> Result:
    """Trains, or goes on; `said` is what the progress bar calls it."""
    run = stages(config, setup, run_dir)
    private, config, task = config.private, config.training, setup.model.task
    rounds = run[-1].rounds.stop - 1
    rows_of = evaluated_rows(setup, adapted=run[-1].adapts, private=private)
    best = None
    if config.export == 'best':
        best = functools.partial(resuming.best_round, task)
    if best and not len(rows_of['seen']):
        raise UserError(
            '--export=best needs test examples of seen clients, but there are none;'
            ' raise --test_fraction or leave it out'
        )
    reached, exported = resuming.resume(run, run_dir, best=best)
    stage, done, state = reached.stage, reached.round, reached.state
    measured = (name for stage in run for name in stage.measured)
    names = columns.names(
        task,
        measured,
        private=private,
        coded=run[-1].coded,
        timed=run[-1].timed,
        backdoor=setup.triggered is not None,
    )
    records = Records(run_dir, names, up_to_round=done if done else -1)
    log = None
    if private and run_dir is not None:
        log = audit_log.AuditLog(run_dir, up_to_round=done)
    stage.stored.need(resuming.checkpointed(stage, run_dir))
    start = time.perf_counter() - (_last(records.rows, 'time/total_s') or 0)

    judged = (None, {})  # The state that was evaluated last, and what came out.

    def evaluate():
        nonlocal judged
        before = time.perf_counter()
        judged = (state, _judged(stage, state, rows_of))
        row = {
            f'{part}/{name}': value
            for part, found in judged[1].items()
            for name, value in summary(task, setup.data, rows_of[part], found).items()
        }
        row.update(stage.backdoor(state))
        shown = stage.samples(state)
        return {**row, 'time/evaluation_s': time.perf_counter() - before}, shown

    with contextlib.closing(records):
        if not records.rows:
            row, shown = evaluate()
            row['round'] = 0
            if stage.timed:
                row[SIMULATED] = 0.0
            row['time/total_s'] = time.perf_counter() - start
            records.append(row, shown)
            divergence.warn(config, records.rows)
        bar = progress.bar(total=rounds, initial=done, desc=said, unit='round')
        with bar:
            while done < rounds and not _stopped(config, task, records.rows):
                round_start = time.perf_counter()
                done += 1
                if done not in stage.rounds:
                    head = stage.weights(state)
                    stage = run[-1]
                    state = stage.after(head, state['observed'])
                if log is not None:
                    log.append(stage.audited(state, done))
                state, found = stage.next(state, done)
                trained = time.perf_counter() - round_start
                row = {'round': done, **found, 'time/round_s': trained}
                shown = None
                if done % config.evaluate_every == 0 or done == rounds:
                    evaluated, shown = evaluate()
                    row.update(evaluated)
                row['time/total_s'] = time.perf_counter() - start
                records.append(row, shown)
                divergence.warn(config, records.rows)
                last = done == stage.rounds[-1]
                last = last or _stopped(config, task, records.rows)
                kept = best(records.rows) if best else None
                if kept in (None, done):
                    exported = resuming.Reached(stage, done, state)
                    if kept and run_dir is None:  # No checkpoint will hold it.
                        stage.stored.forget([])
                        stage.stored.need({done: state})
                if run_dir and (
                    last or done == kept or done % config.checkpoint_every == 0
                ):
                    with writing(run_dir):
                        stage.stored.need({done: state})
                        checkpoints.save(
                            run_dir / 'checkpoints',
                            done,
                            state,
                            records.digest,
                            config.keep_checkpoints,
                            kept,
                        )
                        stage.stored.forget(checkpoints.rounds(run_dir / 'checkpoints'))
                bar.set_postfix(_told(row, records.rows, task))
                bar.update()
    chosen = exported.stage.chosen(exported.state)
    if log is not None:
        chosen['audit.jsonl'] = f'{done} rounds, SHA-256 {log.sha256}'
    if best:
        chosen['exported round'] = f'{exported.round}, the best'
    found = judged[1] if judged[0] is exported.state else None
    return _result(config, run, exported, records, rows_of, run_dir, chosen, found)


def _result(
    config: TrainingConfig,
    run: Sequence[Stage],
    exported: resuming.Reached,
    records: Records,
    rows_of: Mapping[str, np.ndarray],
    run_dir: pathlib.Path | None,
    chosen: Mapping[str, str],
    found: Mapping[str, Mapping[str, np.ndarray]] | None,
) -> Result:
    """Returns the result of a run.

    `found` is what the evaluation of the exported state gave, if there was one.
    """
    last, state = run[-1], exported.state
    setup = last.setup
    if exported.stage is not last:  # Of the head, with the backbone as it came.
        head = exported.stage.weights(state)
        state, found = last.after(head, state['observed']), None
    weights = last.weights(state)
    if found is None:
        found = _judged(last, state, rows_of)

    def own_weights(client: int) -> list[np.ndarray]:
        with use_runtime(config):
            return last.weights_of(state, client)

    def at_round(number: int) -> list[np.ndarray]:
        with use_runtime(config):
            return resuming.weights_at(run, run_dir, number)

    return Result(
        records.rows,
        weights,
        trained_network(setup.model, weights),
        setup,
        {
            part: predictions.of_examples(setup.data, rows_of[part], measured)
            for part, measured in found.items()
        },
        run_dir,
        exported.round,
        chosen,
        own_weights=own_weights if last.own_weights else None,
        at_round=at_round,
        samples=records.samples,
    )


def evaluated_rows(
    setup: Setup, *, adapted: bool = False, private: bool = False
) -> dict[str, np.ndarray]:
    """Returns the test rows of seen clients and all rows of unseen ones.

    Args:
      setup: What is trained.
      adapted: Whether unseen clients adapt on their training rows: then these are not
        among their rows.
      private: Whether nothing is told of seen clients: then they have none.
    """
    data = setup.data
    unseen = np.isin(data.client_of_row, setup.unseen)
    return {
        'seen': np.flatnonzero(~unseen & ~data.is_train & (not private)),
        'unseen': np.flatnonzero(unseen & ~(adapted & data.is_train)),
    }


def stopped_early(config: TrainingConfig, task: Task, rows: Sequence[Mapping]) -> bool:
    """Returns whether too long nothing better came out for seen clients.

    That is by their test examples or, where the method measures it, by the loss on
    their validation parts.
    """
    if config.early_stop_patience is None:
        return False
    column, every = f'seen/{task.decides}', config.evaluate_every
    if VALIDATION in rows[0]:
        column, every = VALIDATION, 1
        task = dataclasses.replace(task, highest=False)
    # A run that went on to more rounds has been evaluated at its former end too.
    values = [
        row[column]
        for row in rows
        if row['round'] % every == 0 and row[column] is not None
    ]
    if not values:
        return False
    since_best = len(values) - 1 - task.best(values)
    return since_best >= config.early_stop_patience


def use_runtime(config: TrainingConfig) -> contextlib.AbstractContextManager:
    """Makes the runtime of a configuration the default."""
    if config.runtime == 'stock':
        return runtime.use_stock()
    short = None if config.compute_dtype == 'float32' else config.compute_dtype
    if config.runtime == 'cluster':
        return runtime.use_cluster(
            config.cluster_address, compute_dtype=short, seed=config.seed
        )
    return runtime.use_compiled(compute_dtype=short, seed=config.seed)


def _stopped(config: TrainingConfig, task: Task, rows: Sequence[Mapping]) -> bool:
    return stopped_early(config, task, rows) or divergence.stopped(config, rows)


def _last(rows: Sequence[Mapping], column: str) -> float | None:
    """Returns the last value there is in a column, if there is any."""
    return next((r[column] for r in reversed(rows) if r[column] is not None), None)


def _told(row: Mapping, rows: Sequence[Mapping], task: Task) -> dict[str, str]:
    """Returns what the progress bar tells after a round."""
    if columns.EPSILON in row:  # The loss of clients that train is not told.
        found = {'epsilon': _shown(row[columns.EPSILON], '.2f')}
    else:
        found = {'loss': _shown(row.get('train/loss'), '.3f')}
    if SIMULATED in row:
        found['clock'] = progress.duration(row[SIMULATED])
    unseen = _last(rows, f'unseen/{task.decides}')
    return {**found, 'unseen': _shown(unseen, task.shown)}


def _shown(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)


def _judged(
    stage: Stage, state, rows_of: Mapping[str, np.ndarray]
) -> dict[str, Mapping[str, np.ndarray]]:
    """Returns what is measured of each example of seen and unseen clients."""
    return {part: stage.per_example(state, rows) for part, rows in rows_of.items()}
