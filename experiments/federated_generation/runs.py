"""Runs, what is measured of them by round, and what they generate."""

import dataclasses
import math
import pathlib
import time
from typing import Any

import numpy as np

from experiments import pieces
from experiments.federated_generation import plans
from experiments.federated_generation.judging import Judge
from experiments.federated_generation.people import Source
from experiments.federated_generation.plans import Plan
from tff_transfer.generation.sampling import Sampler
from tff_transfer.training import columns, loop
from tff_transfer.training.config import Config
from tff_transfer.training.result import Result


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
    """What runs are made of.

    Attributes:
      folder: Where they are recorded.
      source: The clients, and what models are pretrained on.
      judge: Judges what is generated.
      rounds: How many rounds a run has.
      epsilon: What private ones may spend.
    """

    folder: pathlib.Path
    source: Source
    judge: Judge
    rounds: int
    epsilon: float

    def place(self, plan: Plan) -> pathlib.Path:
        """Returns the run directory of a run."""
        return self.folder / 'runs' / plan.name.replace(', ', '-').replace(' ', '_')

    def configured(self, plan: Plan) -> Config:
        """Returns a run's configuration."""
        before = self.place(plans.origin(plan.kind))
        return plans.configured(
            plan, self.judge.clients, self.rounds, self.epsilon, before
        )

    def trained(self, plan: Plan) -> Result:
        """Returns a run's result: trained, gone on with, or read."""
        of_before = plan.start == plans.PRETRAINED
        data = self.source.before if of_before else self.source.data
        return loop.train(self.configured(plan), self.place(plan), data=data)

    def figures(self, plan: Plan) -> dict[str, Any]:
        """Returns what is measured of a run, from its file or anew.

        `round`, and of each `quality` (what `Judge` measures) and `bytes`, up and down
        of a client that takes part in all; `epsilon`, infinite without privacy, and
        `delta`; `weights`, how many numbers are trained; and `seconds`.
        """
        return pieces.piece(
            self.folder / 'figures', plan.name, lambda: self._measured(plan)
        )

    def _measured(self, plan: Plan) -> dict[str, Any]:
        start = time.perf_counter()
        result = self.trained(plan)
        seconds = time.perf_counter() - start
        rows, config = result.rows, self.configured(plan)
        rounds = [row['round'] for row in rows if row['unseen/loss'] is not None]
        sent, epsilon, delta = np.zeros(len(rows)), math.inf, 0.0
        if plan.start == plans.PRETRAINED:
            rounds = rounds[-1:]
        else:
            cohort = config.training.clients_per_round
            sent[1:] = [
                (row['bytes/up'] + row['bytes/down']) / cohort for row in rows[1:]
            ]
        if config.private:
            epsilon, delta = rows[-1][columns.EPSILON], config.privacy.delta
        model = result.setup.model
        return {
            'round': rounds,
            'quality': [
                self.judge.of_model(model, result.weights_at(number))
                for number in rounds
            ],
            'bytes': np.cumsum(sent)[rounds].tolist(),
            'epsilon': epsilon,
            'delta': delta,
            'weights': sum(int(np.size(weight)) for weight in result.weights),
            'seconds': seconds,
        }

    def images(self, plan: Plan, count: int, seed: int) -> tuple[np.ndarray, ...]:
        """Returns images that a run's last weights make, and their labels.

        Args:
          plan: The run.
          count: How many, of all classes alike.
          seed: Of what is drawn.

        Returns:
          float32 [count, height, width, channels] in [0, 1], and int32 [count].
        """
        result = self.trained(plan)
        labels = np.arange(count, dtype=np.int32) % self.source.data.num_classes
        sampler = Sampler(result.setup.model)
        return sampler.images(result.weights, labels, seed), labels
