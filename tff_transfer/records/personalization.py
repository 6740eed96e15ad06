"""What personalisation brings, client by client, beside what they could have had."""

import csv
import dataclasses
import io
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np

from tff_transfer import files
from tff_transfer.data.federated import FederatedData
from tff_transfer.models import Task
from tff_transfer.records.predictions import Predictions, per_client
from tff_transfer.records.report import text_table

FILE = 'personalization.csv'

# The models that clients are judged by: the run's, and what they could have had.
GLOBAL, ALONE, CENTRAL, PERSONAL = 'global', 'alone', 'central', 'personal'
MODELS = (GLOBAL, ALONE, CENTRAL, PERSONAL)
PARTS = ('seen', 'unseen')


@dataclasses.dataclass(frozen=True, eq=False)
class Personalization:
    """What the models of a run are for each client, on the same examples.

    The arrays are of the clients that have such examples, in the population's order.

    Attributes:
      task: Says which measure `values` are of.
      trained: How each model was trained, in a few words.
      predictions: What each model predicts, by model and by `seen` and `unseen`.
      client_ids: The clients' names, [k].
      seen: Whether they train, bool [k].
      train_examples: How many training examples they have, int64 [k].
      test_examples: On how many examples they are judged, int64 [k].
      label_skew: How far each is from the others (see `label_skew`), float64 [k].
      values: By model, the mean over each client's examples of the measure that
        decides, such as its accuracy, float64 [k].
    """

    task: Task
    trained: Mapping[str, str]
    predictions: Mapping[str, Mapping[str, Predictions]]
    client_ids: tuple[str, ...]
    seen: np.ndarray
    train_examples: np.ndarray
    test_examples: np.ndarray
    label_skew: np.ndarray
    values: Mapping[str, np.ndarray]

    @property
    def gain(self) -> np.ndarray:
        """How much better the own model is than the better of global and alone, [k].

        In the measure that decides; less than 0 where personalisation hurts.
        """
        sign = 1 if self.task.highest else -1
        better = np.fmax(sign * self.values[GLOBAL], sign * self.values[ALONE])
        return sign * self.values[PERSONAL] - better

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Who is `seen` and who `unseen`, bool [k], where there are any."""
        parts = dict(zip(PARTS, (self.seen, ~self.seen), strict=True))
        return {part: those for part, those in parts.items() if those.any()}

    def table(self) -> list[list[str]]:
        """Returns what each model comes to, for seen and unseen clients.

        Returns:
          Rows of cells, the first one the headings: the means over clients and over
          examples, and over the worst tenth of clients by that model.
        """
        rows = [['model'], *([model] for model in MODELS)]
        for part, those in self.parts.items():
            rows[0] += [f'{part}, by client', 'by example', 'worst tenth']
            weights = self.test_examples[those]
            for row, model in zip(rows[1:], MODELS, strict=True):
                values = self.values[model][those]
                means = (
                    np.mean(values),
                    np.average(values, weights=weights),
                    worst_tenth(values, highest=self.task.highest),
                )
                row += [format(mean, self.task.shown) for mean in means]
        return rows

    def hurt(self) -> list[str]:
        """Returns how many clients it hurts, a line for seen and for unseen ones."""
        lines = []
        for part, those in self.parts.items():
            gain = self.gain[those]
            worse = ~(gain >= 0)
            line = f'{np.mean(worse):.1%} of {len(gain):,} {part} clients are hurt'
            if worse.any():
                line += f' (by {-np.mean(gain[worse]):{self.task.shown}} on average)'
            line += f', {np.mean(gain == 0):.1%} as well off, {np.mean(gain > 0):.1%}'
            lines.append(f'{line} better off than with the better of global and alone')
        return lines

    def __repr__(self) -> str:
        return '\n'.join([text_table(self.table()), *self.hurt()])


def compare(
    data: FederatedData,
    task: Task,
    predictions: Mapping[str, Mapping[str, Predictions]],
    trained: Mapping[str, str],
) -> Personalization:
    """Sums up what models predict by client.

    Args:
      data: The population.
      task: What the models are trained for.
      predictions: By model and by `seen` and `unseen`; of the same examples.
      trained: How each model was trained, in a few words.
    """
    parts = predictions[PERSONAL]
    rows = np.concatenate([parts[part].rows for part in PARTS])
    values = {}
    for model, found in predictions.items():
        measured = [found[part].measured[task.decides] for part in PARTS]
        clients, values[model] = per_client(data, rows, np.concatenate(measured))
    seen = np.unique(data.client_of_row[parts['seen'].rows])
    counts = np.zeros([len(data), data.num_classes], np.int64)
    np.add.at(counts, (data.client_of_row[data.is_train], data.y[data.is_train]), 1)
    return Personalization(
        task,
        trained,
        predictions,
        tuple(data.client_ids[client] for client in clients),
        np.isin(clients, seen),
        data.num_train[clients],
        np.bincount(data.client_of_row[rows], minlength=len(data))[clients],
        label_skew(counts)[clients],
        values,
    )


def label_skew(counts: np.ndarray) -> np.ndarray:
    """Returns how far each client's labels are from those of all clients.

    Args:
      counts: Training examples by client and class, int [clients, classes].

    Returns:
      The total variation distance of each client's distribution of labels from that of
      all examples together, float64 [clients], from 0 (the same) to less than 1; NaN
      of a client without examples.
    """
    every = counts.sum(axis=0) / max(counts.sum(), 1)
    sizes = counts.sum(axis=1, keepdims=True)
    shares = np.divide(
        counts, sizes, out=np.full(counts.shape, np.nan), where=sizes > 0
    )
    return np.abs(shares - every).sum(axis=1) / 2


def worst_tenth(values: np.ndarray, *, highest: bool) -> float:
    """Returns the mean over the worst tenth of clients, one at least.

    Args:
      values: What each client's model comes to, [k]; NaN is worse than all else.
      highest: Whether high values are good.
    """
    signed = values if highest else -values
    order = np.argsort(np.where(np.isnan(signed), -np.inf, signed), kind='stable')
    return float(np.mean(values[order[: math.ceil(len(values) / 10)]]))


def write(found: Personalization, path: str | os.PathLike[str]) -> None:
    """Writes a row for each client as CSV (docs/metrics.md), whole or not at all."""
    columns: dict[str, Sequence] = {
        'client': found.client_ids,
        'part': np.where(found.seen, *PARTS).tolist(),
        'train_examples': found.train_examples.tolist(),
        'test_examples': found.test_examples.tolist(),
        'label_skew': found.label_skew.tolist(),
    }
    for model in MODELS:
        columns[f'{model}/{found.task.decides}'] = found.values[model].tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow('' if cell != cell else cell for cell in row)
    files.write_text(path, text.getvalue())
