"""What the rounds of a configuration are made of: method, process, participants."""

import dataclasses
from typing import Any

import numpy as np

from tff_transfer.aggregation.robust import Robust
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.compose import Composed, compose
from tff_transfer.algorithms.computations import NOTHING_TOLD, Kept, Settings
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.compression.federated_dropout import (
    FederatedDropout,
    Hidden,
    SubNetworks,
)
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.errors import UserError
from tff_transfer.models import several
from tff_transfer.models.hidden import hidden_layers
from tff_transfer.models.model import Model
from tff_transfer.privacy.accounting import Mechanism
from tff_transfer.simulation.selection.registry import of_mechanism
from tff_transfer.training import (
    architectures,
    client_settings,
    devices,
    hostile,
    public_clients,
)
from tff_transfer.training.config import Config
from tff_transfer.training.methods import mechanism_of, method_of
from tff_transfer.training.participants import Participants
from tff_transfer.training.setup import Setup


@dataclasses.dataclass(frozen=True)
class Assembled:
    """What the rounds of a configuration are made of.

    Attributes:
      method: The method.
      context: What it was made for.
      composed: The process made of it.
      participants: Who takes part.
      mechanism: What makes it private, if anything does.
      aggregation: How updates become one (`aggregation.registry`).
      firsts: What clients keep before their first round by their architectures, where
        these differ.
    """

    method: Method
    context: Context
    composed: Composed
    participants: Participants
    mechanism: Mechanism | None
    aggregation: Any
    firsts: tuple[Kept, ...] = ()

    def first_of(self, client: int) -> Kept:
        """Returns what a client keeps before its first round, by its architecture.

        Args:
          client: Its number in the population.
        """
        if not self.firsts:
            return self.composed.kept or Kept((), (), ())
        (number,) = architectures.dealt(self.context.model, [client])
        return self.firsts[number]

    def bytes(self, cohort: int) -> tuple[int, int]:
        """Returns what a client sends and gets in a round of so many clients."""
        up, down = self.composed.bytes_up, self.composed.bytes_down
        if self.mechanism is not None and self.mechanism.bytes_up is not None:
            up = self.mechanism.bytes_up
        if isinstance(self.aggregation, Secure):
            numbers = up // 4  # The update and the weight.
            up, more = self.aggregation.bytes(cohort, numbers)
            down += more
        if isinstance(self.aggregation, Robust):
            # Without the weight.
            more_up, more_down = self.aggregation.bytes(up // 4 - 1)
            up, down = up + more_up, down + more_down
        return up, down


def assemble(config: Config, setup: Setup) -> Assembled:
    """Makes what the rounds of a configuration are made of.

    Args:
      config: The configuration, resolved.
      setup: What is trained.

    Raises:
      UserError: Parts do not suit each other.
    """
    trained, apart = public_clients.divided(config, setup.seen)
    among = dataclasses.replace(setup, seen=trained)
    participants = _participants(config, among)
    public = _public(participants, apart)
    method, context = method_of(config, setup.model, len(trained), public)
    mechanism = mechanism_of(config, context) if config.private else None
    aggregator, cohort = _aggregator(config), None
    if mechanism is not None:
        by_noise = config.privacy.aggregator(mechanism)
        if by_noise is not None:
            aggregator, cohort = by_noise, mechanism.cohort
    down, sub_networks = _given(config.compression_down), None
    if isinstance(down, FederatedDropout):
        down, sub_networks = None, _sub_networks(setup.model, context, down.kept)
    composed = compose(
        method,
        context,
        aggregator,
        cohort=cohort,
        compression=_given(config.compression),
        compression_down=down,
        settings=_told(participants),
        attack=config.attack if hostile.falsifies(config) else None,
        public=public,
        sub_networks=sub_networks,
    )
    made = Assembled(
        method,
        context,
        composed,
        participants,
        mechanism,
        config.aggregation,
        _firsts(config, context, composed),
    )
    on = devices.of(config, among, *made.bytes(config.training.clients_per_round))
    rule = config.selection if mechanism is None else of_mechanism(mechanism)
    return dataclasses.replace(
        made, participants=dataclasses.replace(participants, rule=rule, devices=on)
    )


def _firsts(config: Config, context: Context, composed: Composed) -> tuple[Kept, ...]:
    if composed.kept is None:
        return ()
    found = []
    for number in range(len(context.model.members)):
        started = several.started_as(context.model, number)
        method = config.algorithm.build(dataclasses.replace(context, model=started))
        found.append(composed.kept._replace(method=method.kept()))
    return tuple(found)


def _participants(config: Config, among: Setup) -> Participants:
    """Returns who takes part, but for how a mechanism draws them and for devices."""
    falsifies = hostile.falsifies(config)
    return Participants(
        config.training,
        among,
        registry.name_of(config.algorithm),
        rule=config.selection,
        held_out=getattr(config.algorithm, 'validation_fraction', 0.0),
        settings=client_settings.of(config, among.data),
        hostile=hostile.clients(config, len(among.data)) if falsifies else None,
    )


def _aggregator(config: Config) -> Any | None:
    """Returns the factory of an aggregation; None for that of compose, the mean."""
    training = config.training
    if isinstance(config.aggregation, Robust):
        return config.aggregation.aggregator(training.clients_per_round, training.seed)
    if isinstance(config.aggregation, Secure):
        return config.aggregation.aggregator(
            training.clients_per_round, training.weighting
        )
    return None


def _told(participants: Participants) -> Settings:
    """Returns what each client is told of itself, of the shape."""
    settings, told = participants.settings, NOTHING_TOLD
    if settings is not None and settings.rate is not None:
        told = told._replace(rate=np.float32(1))
    if participants.hostile is not None:
        told = told._replace(hostile=np.bool_(False), key=np.zeros(2, np.int32))
    if participants.method in registry.BY_NUMBER:
        told = told._replace(number=np.int32(0))
    return told


def _public(participants: Participants, clients: np.ndarray) -> PublicExamples | None:
    """Returns the server's own examples: of a file, or some clients' training examples.

    None if it has none.
    """
    config, setup = participants.config, participants.setup
    if setup.public is not None:
        cohort = training_cohort(
            setup.public,
            [0],
            batch_size=config.batch_size,
            epochs=1,
            seed=config.seed,
            round_number=0,
            keys=setup.model.takes_keys,
        )
    elif len(clients):
        cohort = participants.gathered(setup.data, clients, 1, 0)
    else:
        return None
    return PublicExamples(
        cohort.examples, cohort.batch_size, config.client_epochs, config.seed
    )


def _sub_networks(model: Model, context: Context, share: float) -> SubNetworks:
    layers = [Hidden(*layer) for layer in hidden_layers(model)]
    if not layers:
        raise UserError(
            '--compression_down=federateddropout leaves out units of hidden layers, but'
            ' the network has no dense layer with ReLU before another; use another one'
        )
    shapes = [weight.shape for weight in context.initial]
    return SubNetworks(layers, shapes, share)


def _given(compression) -> Any | None:
    return None if isinstance(compression, NoCompression) else compression
