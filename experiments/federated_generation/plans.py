"""Which runs there are, and how each is trained."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tff_transfer.algorithms.central import Central as InOnePlace
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.algorithms.fed_gan import FedGAN
from tff_transfer.algorithms.teachers import Nobody, Pretrained
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

PRETRAINED = 'pretrained'
SCRATCH, TRANSFERRED = 'from scratch', 'transferred'
FROZEN, DISTILLED = 'frozen in part', 'distilled'
STARTS = (SCRATCH, TRANSFERRED, FROZEN, DISTILLED)

# What is released if nothing else is asked for.
RELEASED = f'DP-GAN, {TRANSFERRED}'

# Of all runs but those that are private: clients of a round, and figures of a run.
COHORT, FIGURES = 10, 4
# Of those that are private, of which a client counts with as few examples.
_PRIVATE_COHORT, _PRIVATE_EXAMPLES = 0.8, 40
# To what a private discriminator's update is clipped.
_CLIP = 0.1


class Kind(NamedTuple):
    """A kind of generative model, and how it is trained.

    Attributes:
      model: What `--model` calls it.
      algorithm: The method.
      rates: Values of `TrainingConfig` that suit it.
      before: Those of pretraining.
      distill_weight: What counts staying near the pretrained model, where a run does.
      adversarial: Whether it is a GAN, which is pretrained by rounds too.
      like: The kind whose pretrained model it starts from, if not of its own.
      frozen: The parts that stay as they were pretrained, where a run freezes any.
      clip: The norm to which updates are clipped, of a private one.
    """

    model: str
    algorithm: Any
    rates: Mapping[str, Any]
    before: Mapping[str, Any]
    distill_weight: float | None
    adversarial: bool = False
    like: str | None = None
    frozen: tuple[str, ...] = ()
    clip: float | None = None


class Plan(NamedTuple):
    """A run.

    Attributes:
      kind: The name of its kind.
      start: One of `STARTS`, or `PRETRAINED`.
    """

    kind: str
    start: str

    @property
    def name(self) -> str:
        """What tables and folders call it."""
        return f'{self.kind}, {self.start}'


def _kinds() -> dict[str, Kind]:
    adam = {'client_optimizer': 'adam', 'client_learning_rate': 3e-3}
    at_once = {**adam, 'client_learning_rate': 2e-3, 'batch_size': 64}
    mean = {'server_optimizer': 'sgd', 'server_learning_rate': 1.0}
    # By Adam the discriminator won, and the generator learned nothing more.
    of_one = {**mean, 'client_learning_rate': 0.05}
    at_server = FedGAN('server', generator_steps=20, generator_learning_rate=2e-3)
    of_mean = {**adam, **mean, 'client_epochs': 2}
    return {
        'CVAE': Kind('cvae', FedAvg(), of_mean, at_once, 1.0, frozen=('encoder',)),
        'diffusion': Kind(
            'diffusion', FedAvg(), of_mean, at_once, 1.0, frozen=('embedding', 'down')
        ),
        'server-GAN': Kind(
            'gan',
            at_server,
            of_one,
            of_one,
            distill_weight=0.01,
            adversarial=True,
            frozen=('stem',),
        ),
        # DP-FedAvg-GAN; what is pretrained tells of no client.
        'DP-GAN': Kind(
            'gan',
            at_server,
            of_one,
            of_one,
            distill_weight=None,
            adversarial=True,
            like='server-GAN',
            clip=_CLIP,
        ),
        'FedGAN': Kind(
            'gan',
            FedGAN(generator_rate=5.0),
            of_one,
            of_one,
            distill_weight=0.01,
            adversarial=True,
            like='server-GAN',
        ),
    }


KINDS = _kinds()


def origin(kind: str) -> Plan:
    """Returns the pretraining that runs of a kind start from."""
    return Plan(KINDS[kind].like or kind, PRETRAINED)


def plans(kinds: Sequence[str]) -> list[Plan]:
    """Returns all runs of some kinds, those that others start from first."""
    found = []
    for kind in kinds:
        of, starts = KINDS[kind], [SCRATCH, TRANSFERRED]
        if of.frozen:
            starts.append(FROZEN)
        if of.distill_weight is not None:
            starts.append(DISTILLED)
        found += [origin(kind), *(Plan(kind, start) for start in starts)]
    return list(dict.fromkeys(found))


def delta(clients: int) -> float:
    """Returns the delta of what private runs promise so many clients."""
    return clients**-1.1


def configured(
    plan: Plan,
    clients: int,
    rounds: int,
    epsilon: float,
    pretrained: pathlib.Path,
) -> Config:
    """Returns the configuration of a run.

    Args:
      plan: The run.
      clients: How many clients train.
      rounds: How many rounds; of pretraining a quarter, each a pass over all examples,
        or of a GAN, which no such pass trains, twice as many.
      epsilon: What a private one may spend.
      pretrained: The run directory of `origin`.
    """
    kind = KINDS[plan.kind]
    model, algorithm, privacy = ModelConfig(kind.model), kind.algorithm, NoPrivacy()
    values = {**kind.rates, 'clients_per_round': min(COHORT, clients)}
    if plan.start == PRETRAINED:
        values = dict(kind.before)
        if kind.adversarial:
            values['clients_per_round'], rounds = COHORT, 2 * rounds
        else:
            algorithm, rounds = InOnePlace(), max(1, rounds // 4)
    elif plan.start != SCRATCH:
        frozen = kind.frozen if plan.start == FROZEN else ()
        model = dataclasses.replace(
            model, start_from=str(pretrained), frozen_parts=frozen
        )
    distills = plan.start == DISTILLED
    teacher = Pretrained(kind.distill_weight) if distills else Nobody()
    if kind.clip is not None and plan.start != PRETRAINED:
        privacy = Central(target_epsilon=epsilon, delta=delta(clients), clip=kind.clip)
        values['clients_per_round'] = max(1, round(_PRIVATE_COHORT * clients))
        values['max_examples'] = _PRIVATE_EXAMPLES
        values['weighting'] = 'uniform'
    every = max(1, rounds // FIGURES)
    training = TrainingConfig(
        rounds=rounds,
        evaluate_every=every,
        checkpoint_every=every,
        keep_checkpoints=FIGURES + 2,
        **values,
    )
    return Config(
        model=model,
        training=training,
        algorithm=algorithm,
        privacy=privacy,
        distill_from=teacher,
    )
