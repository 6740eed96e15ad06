"""From a configuration to its method, and to what that is made for."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow_federated as tff

from tff_transfer.algorithms import schedules
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.noisy_gradients import GradientNoise
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.models import Model
from tff_transfer.privacy.accounting import Mechanism, Plan
from tff_transfer.simulation.timing.synchronous import Synchronous
from tff_transfer.training import optimizers
from tff_transfer.training.config import Config
from tff_transfer.training.training_config import TrainingConfig

SIDES = ('client', 'server')


def method_of(
    config: Config,
    model: Model,
    population: int,
    public: PublicExamples | None = None,
) -> tuple[Method, Context]:
    """Makes the method of a configuration, and what it is made for.

    Args:
      config: The configuration.
      model: The model.
      population: How many clients may take part.
      public: The server's own examples, which rounds need where it has some.

    Raises:
      UserError: The method does not suit the model or the optimizers.
    """
    parts = getattr(config.algorithm, 'parts', ())
    context = context_of(config.training, model, population, parts)
    context = dataclasses.replace(context, public=public)
    if isinstance(config.distill_from, Pretrained) and model.trains_representation:
        context = dataclasses.replace(context, teacher=config.distill_from)
    if config.private:
        mechanism = mechanism_of(config, context)
        if mechanism.gradient_clip is not None:
            noise = GradientNoise(mechanism.gradient_clip, mechanism.noise_multiplier)
            context = dataclasses.replace(context, gradient_noise=noise)
    if not isinstance(config.timing, Synchronous) and config.timing.of_weights:
        as_it_is = tff.learning.optimizers.build_sgdm(1.0)
        context = dataclasses.replace(context, server_optimizer=as_it_is)
    return config.algorithm.build(context), context


def mechanism_of(config: Config, context: Context) -> Mechanism:
    """Returns the mechanism of a private configuration's rounds.

    Raises:
      UserError: No noise is enough.
    """
    training, sent = config.training, context.initial
    if parts := getattr(config.algorithm, 'sent_parts', ()):
        sent = [sent[number] for number in context.numbers(parts)]
    plan = Plan(
        context.population,
        training.clients_per_round,
        training.rounds,
        sum(np.size(weight) for weight in sent),
        training.client_epochs,
    )
    return config.privacy.mechanism(plan)


def context_of(
    config: TrainingConfig, model: Model, population: int, parts: Sequence[str] = ()
) -> Context:
    """Returns what a configuration makes methods for.

    Args:
      config: Optimizers, their schedules, and how clients are weighted.
      model: The model.
      population: How many clients may take part.
      parts: The parts of the model that stay with each client.
    """
    rates = {
        f'{side}_schedule': schedules.build(
            getattr(config, f'{side}_schedule'),
            config.rounds,
            warmup=getattr(config, f'{side}_warmup'),
        )
        for side in SIDES
    }
    return Context(
        model,
        *(optimizers.of_side(config, side) for side in SIDES),
        population=population,
        weighting=config.weighting,
        parts=parts,
        epochs=config.client_epochs,
        seed=config.seed,
        **rates,
    )
