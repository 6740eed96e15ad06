"""The runs of the study: each party alone, or jointly, over seeds and rates."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

import tff_transfer as tt
from experiments.joint_finetuning import parties
from tff_transfer import runtime
from tff_transfer.algorithms.joint_ft import JointFT
from tff_transfer.data.federated import FederatedData
from tff_transfer.training import setup, stages
from tff_transfer.training.early_stopping import VALIDATION, stopped_early

# Learning rates that are tried with the first seed, for each way and size.
RATES = (0.01, 0.03, 0.1)
PATIENCE = 3
TRAINING = tt.TrainingConfig(
    client_epochs=10,
    batch_size=20,
    server_optimizer='sgd',
    server_learning_rate=1.0,
    early_stop_patience=5,
)
ALONE, COMMON, OWN = 'alone', 'joint, common head', 'joint, own heads'
UNLIKE, ALIKE = 'each its own task', 'all tasks dealt at random'


class Curve(NamedTuple):
    """A run.

    Attributes:
      correct: Whether each test example is right after each round, bool [rounds, m].
      losses: The loss on validation parts at the start of each round, [rounds].
    """

    correct: np.ndarray
    losses: np.ndarray

    @property
    def chosen(self) -> int:
        """The place of the round after which the validation loss was lowest."""
        # A round's loss is that of the weights which it began with.
        return int(np.argmin(self.losses[1:])) if len(self.losses) > 1 else 0

    @property
    def loss(self) -> float:
        """The lowest validation loss after a round."""
        return float(np.min(self.losses[1:], initial=np.inf))


def train(
    data: FederatedData,
    *,
    rate: float,
    seed: int,
    rounds: int,
    hidden_units: int,
    own_heads: bool = False,
) -> Curve:
    """Fine-tunes jointly, or alone where there is one party.

    Args:
      data: The parties, with standardised features as `x`.
      rate: The learning rate of the parties.
      seed: The seed of weights, batches and validation parts.
      rounds: The most rounds.
      hidden_units: The size of the hidden layer.
      own_heads: Whether the last layer stays with each party.
    """
    config = tt.Config(
        tt.DataConfig(unseen_fraction=0.0),
        tt.ModelConfig('mlp', hidden_units=(hidden_units,)),
        dataclasses.replace(
            TRAINING,
            clients_per_round=len(data),
            client_learning_rate=rate,
            rounds=rounds,
            seed=seed,
        ),
        JointFT(patience=PATIENCE, parts=('head',) if own_heads else ()),
    )
    config.check()
    model = setup.head_or_network(config, data, None)
    prepared = setup.prepare(config, data, None, model)
    stage = stages.Stage(config, prepared, range(1, rounds + 1))
    state, tests, correct = stage.initialize(), np.flatnonzero(~data.is_train), []
    rows = [{'round': 0, VALIDATION: None}]
    with runtime.use_compiled(seed=seed):
        for number in range(1, rounds + 1):
            state, row = stage.next(state, number)
            rows.append({'round': number, **row})
            correct.append(stage.per_example(state, tests)['accuracy'] > 0)
            if stopped_early(config.training, model.task, rows):
                break
    losses = [row[VALIDATION] for row in rows[1:]]
    return Curve(np.array(correct), np.array(losses))


class Way(NamedTuple):
    """One way to fine-tune a setting's parties.

    Attributes:
      populations: What is trained apart from each other.
      own_heads: Whether the last layer stays with each party.
    """

    populations: list[FederatedData]
    own_heads: bool


def ways(setting: str, found: list[FederatedData], seed: int) -> dict[str, Way]:
    """Returns the ways to fine-tune some parties.

    Args:
      setting: `UNLIKE`, or `ALIKE`.
      found: What `parties.drawn` gives.
      seed: The seed of how examples are dealt.
    """
    apart = parties.apart(found)
    if setting == ALIKE:
        apart = found = parties.dealt(apart, seed)
    common = {ALONE: Way(found, False), COMMON: Way([parties.together(apart)], False)}
    if setting == ALIKE:
        return common
    return common | {OWN: Way([parties.together(found)], True)}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a setting came to with so many training examples a party.

    Attributes:
      name: `UNLIKE` or `ALIKE`.
      examples: Training examples of a party.
      parties: The names of the parties.
      tests: How many test examples each has.
      runs: By way, for each seed the curves of its populations.
      rates: By way, the learning rate of each population.
    """

    name: str
    examples: int
    parties: tuple[str, ...]
    tests: tuple[int, ...]
    runs: dict[str, list[list[Curve]]]
    rates: dict[str, list[float]]

    def curves(self, way: str, party: int) -> list[tuple[np.ndarray, int]]:
        """Returns for each seed a party's `Curve.correct` and `Curve.chosen`."""
        found = []
        for curves in self.runs[way]:
            if len(curves) > 1:
                found.append((curves[party].correct, curves[party].chosen))
                continue
            (of_all,) = curves
            cuts = np.cumsum(self.tests)[:-1]
            mine = np.split(of_all.correct, cuts, axis=1)[party]
            found.append((mine, of_all.chosen))
        return found

    def right(self, way: str, party: int) -> np.ndarray:
        """Returns which test examples are right at the end, bool [seeds, m]."""
        return np.array([c[chosen] for c, chosen in self.curves(way, party)])

    def rounds(self, way: str) -> float:
        """Returns after how many rounds that is, the median over seeds and parties."""
        chosen = [curve.chosen + 1 for curves in self.runs[way] for curve in curves]
        return float(np.median(chosen))


def measure(
    name: str,
    sources: Sequence[FederatedData],
    examples: int,
    seeds: Sequence[int],
    **how,
) -> Setting:
    """Fine-tunes in each way with each seed; rates are chosen with the first.

    Args:
      name: `UNLIKE` or `ALIKE`.
      sources: What `parties.as_features` gives.
      examples: Training examples of a party.
      seeds: The seeds.
      **how: `rounds` and `hidden_units` of `train`.
    """
    by_seed = [ways(name, parties.drawn(sources, examples, s), s) for s in seeds]

    def run(way, seed: int, number: int, rate: float) -> Curve:
        found = by_seed[seeds.index(seed)][way]
        return train(
            found.populations[number],
            rate=rate,
            seed=seed,
            own_heads=found.own_heads,
            **how,
        )

    runs, rates = {}, {}
    for way, found in by_seed[0].items():
        columns, rates[way] = [], []
        for number in range(len(found.populations)):
            tried = {rate: run(way, seeds[0], number, rate) for rate in RATES}
            best = min(tried, key=lambda rate: tried[rate].loss)
            rates[way].append(best)
            others = [run(way, seed, number, best) for seed in seeds[1:]]
            columns.append([tried[best], *others])
        runs[way] = [list(curves) for curves in zip(*columns, strict=True)]
    alone = by_seed[0][ALONE].populations
    return Setting(
        name,
        examples,
        tuple(party.name for party in alone),
        tuple(int(party.num_test.sum()) for party in alone),
        runs,
        rates,
    )
