"""The rounds of a run, from where it stands to its end, and what comes of them."""

import contextlib
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tff_transfer import progress
from tff_transfer.errors import UserError
from tff_transfer.models import Task, trained_network
from tff_transfer.records import audit_log, checkpoints, predictions
from tff_transfer.records.metrics import SIMULATED, Records
from tff_transfer.records.run_directory import writing
from tff_transfer.training import columns, divergence, resuming
from tff_transfer.training.config import Config
from tff_transfer.training.early_stopping import stopped_early
from tff_transfer.training.evaluation import summary
from tff_transfer.training.result import Result
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.setup import Setup
from tff_transfer.training.stages import Stage, stages


def train(
    config: Config,
    setup: Setup,
    run_dir: pathlib.Path | None,
    said: str = 'training',
) -> Result:
    """Trains, or goes on.

    Args:
      config: How it is trained, checked and resolved.
      setup: What is trained.
      run_dir: The run directory, if there is one.
      said: What the progress bar calls it.

    Returns:
      The result.

    Raises:
      UserError: The best round is to be exported, but nothing judges which that is; or
        the run directory holds what no run can go on from.
    """
    run = _Run(config, setup, run_dir)
    with contextlib.closing(run.records):
        run.begin()
        bar = progress.bar(total=run.rounds, initial=run.done, desc=said, unit='round')
        with bar:
            while not run.over:
                row = run.next()
                bar.set_postfix(_told(row, run.records.rows, run.task))
                bar.update()
    return run.result()


class _Run:
    """A run as it stands after some of its rounds.

    Attributes:
      task: What is trained.
      rounds: How many rounds there are.
      done: How many of them are done.
      records: The rows of `metrics.csv`; to be closed.
    """

    def __init__(self, config: Config, setup: Setup, run_dir: pathlib.Path | None):
        """Finds where the run stands."""
        self._config, self._setup, self._run_dir = config.training, setup, run_dir
        self._stages, self.task = stages(config, setup, run_dir), setup.model.task
        last, private = self._stages[-1], config.private
        self.rounds = last.rounds.stop - 1
        self._rows_of = evaluated_rows(setup, adapted=last.adapts, private=private)
        self._best = self._best_round()
        reached, self._exported = resuming.resume(
            self._stages, run_dir, best=self._best
        )
        self._stage, self.done = reached.stage, reached.round
        self._state = reached.state
        measured = (name for stage in self._stages for name in stage.measured)
        names = columns.names(
            self.task,
            measured,
            private=private,
            coded=last.coded,
            timed=last.timed,
            backdoor=setup.triggered is not None,
        )
        done = self.done if self.done else -1
        self.records = Records(run_dir, names, up_to_round=done)
        self._log = None
        if private and run_dir is not None:
            self._log = audit_log.AuditLog(run_dir, up_to_round=self.done)
        self._stage.stored.need(resuming.checkpointed(self._stage, run_dir))
        spent = _last(self.records.rows, 'time/total_s') or 0
        self._start = time.perf_counter() - spent
        # The state that was evaluated last, and what came out.
        self._judged = (None, {})

    def _best_round(self) -> Callable[[Sequence[Mapping]], int] | None:
        """Returns what tells the best round of rows, if that one is exported."""
        if self._config.export != 'best':
            return None
        if not len(self._rows_of['seen']):
            raise UserError(
                '--export=best needs test examples of seen clients, but there are none;'
                ' raise --test_fraction or leave it out'
            )
        return functools.partial(resuming.best_round, self.task)

    @property
    def over(self) -> bool:
        """Whether no round follows."""
        return self.done >= self.rounds or self._stopped

    @property
    def _stopped(self) -> bool:
        rows = self.records.rows
        early = stopped_early(self._config, self.task, rows)
        return early or divergence.stopped(self._config, rows)

    def begin(self) -> None:
        """Evaluates and records the start, where that is not done yet."""
        if self.records.rows:
            return
        row, shown = self._evaluated()
        row['round'] = 0
        if self._stage.timed:
            row[SIMULATED] = 0.0
        self._record(row, shown)

    def next(self) -> dict[str, float]:
        """Does a round, and returns its row."""
        start = time.perf_counter()
        self.done += 1
        if self.done not in self._stage.rounds:
            head = self._stage.weights(self._state)
            self._stage = self._stages[-1]
            self._state = self._stage.after(head, self._state['observed'])
        if self._log is not None:
            self._log.append(self._stage.audited(self._state, self.done))
        self._state, found = self._stage.next(self._state, self.done)
        trained = time.perf_counter() - start
        row, shown = {'round': self.done, **found, 'time/round_s': trained}, None
        if self.done % self._config.evaluate_every == 0 or self.done == self.rounds:
            evaluated, shown = self._evaluated()
            row.update(evaluated)
        self._record(row, shown)
        self._keep()
        return row

    def _evaluated(self) -> tuple[dict[str, float], np.ndarray | None]:
        """Returns the columns of an evaluation, and samples where there are any."""
        before = time.perf_counter()
        stage, state, rows_of = self._stage, self._state, self._rows_of
        self._judged = (state, _judged(stage, state, rows_of))
        row = {
            f'{part}/{name}': value
            for part, found in self._judged[1].items()
            for name, value in summary(
                self.task, self._setup.data, rows_of[part], found
            ).items()
        }
        row.update(stage.backdoor(state))
        shown = stage.samples(state)
        return {**row, 'time/evaluation_s': time.perf_counter() - before}, shown

    def _record(self, row: dict[str, float], shown: np.ndarray | None) -> None:
        row['time/total_s'] = time.perf_counter() - self._start
        self.records.append(row, shown)
        divergence.warn(self._config, self.records.rows)

    def _keep(self) -> None:
        """Keeps what is exported, and what a run goes on from after a kill."""
        stage, done, state = self._stage, self.done, self._state
        last = done == stage.rounds[-1] or self._stopped
        kept = self._best(self.records.rows) if self._best else None
        if kept in (None, done):
            self._exported = resuming.Reached(stage, done, state)
            if kept and self._run_dir is None:  # No checkpoint will hold it.
                stage.stored.forget([])
                stage.stored.need({done: state})
        due = last or done == kept or done % self._config.checkpoint_every == 0
        if self._run_dir is None or not due:
            return
        folder = self._run_dir / 'checkpoints'
        with writing(self._run_dir):
            stage.stored.need({done: state})
            checkpoints.save(
                folder,
                done,
                state,
                self.records.digest,
                self._config.keep_checkpoints,
                kept,
            )
            stage.stored.forget(checkpoints.rounds(folder))

    def result(self) -> Result:
        """Returns the result of the run, which is over."""
        config, run, run_dir = self._config, self._stages, self._run_dir
        last, exported, state = run[-1], self._exported, self._exported.state
        found = self._judged[1] if self._judged[0] is state else None
        chosen = self._chosen()
        if exported.stage is not last:  # Of the head, with the backbone as it came.
            head = exported.stage.weights(state)
            state, found = last.after(head, state['observed']), None
        weights = last.weights(state)
        if found is None:
            found = _judged(last, state, self._rows_of)

        def own_weights(client: int) -> list[np.ndarray]:
            with use_runtime(config):
                return last.weights_of(state, client)

        def at_round(number: int) -> list[np.ndarray]:
            with use_runtime(config):
                return resuming.weights_at(run, run_dir, number)

        return Result(
            self.records.rows,
            weights,
            trained_network(last.setup.model, weights),
            last.setup,
            {
                part: predictions.of_examples(
                    last.setup.data, self._rows_of[part], measured
                )
                for part, measured in found.items()
            },
            run_dir,
            exported.round,
            chosen,
            own_weights=own_weights if last.own_weights else None,
            at_round=at_round,
            samples=self.records.samples,
        )

    def _chosen(self) -> dict[str, str]:
        """Returns what was chosen on the way, for the report."""
        exported = self._exported
        chosen = exported.stage.chosen(exported.state)
        if self._log is not None:
            chosen['audit.jsonl'] = f'{self.done} rounds, SHA-256 {self._log.sha256}'
        if self._best:
            chosen['exported round'] = f'{exported.round}, the best'
        return chosen


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
