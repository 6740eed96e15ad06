"""What a run comes to."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.models import Task
from tff_transfer.records import report
from tff_transfer.records.personalization import Personalization
from tff_transfer.records.predictions import Predictions, per_client
from tff_transfer.training.setup import Setup


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a run comes to.

    Attributes:
      rows: One mapping for each round from 0, with the columns of `metrics.csv`.
      weights: The trained weights of the exported round, in the order of
        `setup.model`.
      network: The trained head, from features to logits; without a backbone the whole
        network.
      setup: What it was trained in.
      predictions: For `seen` and `unseen` clients, what is predicted in the exported
        round: for the test examples of the former, and all examples of the latter.
      run_dir: Where everything was written, if anywhere.
      exported_round: The round whose weights these are, by `--export`.
      chosen: What the run chose itself, and how it diverged if it did, by name, for
        the report.
      personalization: Where clients have models of their own and `--baselines` are
        trained: what these bring.
      own_weights: Where clients have models of their own: gives the weights of one by
        the client's number in the population (see `weights_of`).
      at_round: Gives the weights after a round (see `weights_at`).
      samples: Of a generative model, grids of what it makes by round, a row for each
        class, uint8 [height, width, channels].
    """

    rows: Sequence[Mapping[str, float | None]]
    weights: Sequence[np.ndarray]
    network: tf.keras.Model
    setup: Setup
    predictions: Mapping[str, Predictions]
    run_dir: pathlib.Path | None
    exported_round: int
    chosen: Mapping[str, str] = dataclasses.field(default_factory=dict)
    personalization: Personalization | None = None
    own_weights: Callable[[int], list[np.ndarray]] | None = None
    at_round: Callable[[int], list[np.ndarray]] | None = None
    samples: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the model was trained for."""
        return self.setup.model.task

    @functools.cached_property
    def per_client(self) -> dict[str, dict[str, float]]:
        """For `seen` and `unseen`, each client's accuracy by its name.

        Of another task than classification, the mean of the measure that decides.
        """
        found, data = {}, self.setup.data
        for part, those in self.predictions.items():
            values = those.measured[self.task.decides]
            clients, means = per_client(data, those.rows, values)
            names = (data.client_ids[client] for client in clients)
            found[part] = dict(zip(names, means.tolist(), strict=True))
        return found

    def weights_at(self, round_number: int) -> list[np.ndarray]:
        """Returns the weights after a round of which the run has a checkpoint.

        Args:
          round_number: The round; 0 is the start.

        Returns:
          All weights, in the order of `setup.model`; of a round of the head alone, its.

        Raises:
          UserError: The run has no checkpoint of it.
        """
        return self.at_round(round_number)

    def weights_of(self, client_id: str) -> list[np.ndarray]:
        """Returns the weights of a client's own model in the exported round.

        Args:
          client_id: The client's name. One that never took part, seen or unseen,
            adapts first.

        Returns:
          All weights, in the order of `setup.model`: what the client was judged by.

        Raises:
          UserError: There is no such client, or clients have no models of their own,
            or none that are weights alone.
        """
        if self.own_weights is None:
            raise UserError(
                'the clients of this run have no models of their own, or none that are'
                ' weights alone; `weights` are those of all'
            )
        return self.own_weights(self.setup.data.number_of(client_id))

    def __repr__(self) -> str:
        where = 'in memory alone' if self.run_dir is None else f'in {self.run_dir}'
        table = report.text_table(report.table(self))
        if self.personalization is not None:
            table += f'\n{self.personalization!r}'
        return f'Result of a run on {self.setup.data.name}, {where}\n{table}'

    def _repr_html_(self) -> str:
        """What a notebook shows: the report's tables and pictures."""
        return report.summary(self)
