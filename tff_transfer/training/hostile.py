"""Runs some of whose clients are hostile: who, their data, and what comes of it."""

import dataclasses

import numpy as np

from tff_transfer.attacks import attackers, registry
from tff_transfer.attacks.backdoor import Backdoor
from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.training import public_clients
from tff_transfer.training.config import Config
from tff_transfer.training.evaluation import BATCH
from tff_transfer.training.setup import Setup


def clients(config: Config, count: int) -> np.ndarray:
    """Returns the numbers of the hostile ones of `count` clients; all of them train."""
    if registry.KINDS.name_of(config.attack) not in registry.ATTACKS:
        return np.zeros(0, np.int64)
    data, training = config.data, config.training
    seen, _ = split_clients(count, data.unseen_fraction, data.split_seed)
    trained, _ = public_clients.divided(config, seen)
    return attackers.hostile(trained, training.attackers, training.seed)


def poisons(config: Config) -> bool:
    """Returns whether hostile clients change their data."""
    return registry.KINDS.name_of(config.attack) in registry.ON_DATA


def poisoned(config: Config, data: FederatedData) -> FederatedData:
    """Returns the data as clients train on them.

    Raises:
      UserError: The attack does not suit the data.
    """
    if not poisons(config):
        return data
    who = clients(config, len(data))
    return config.attack.poisoned(data, who, config.training.seed)


def falsifies(config: Config) -> bool:
    """Returns whether hostile clients change what they send."""
    name = registry.KINDS.name_of(config.attack)
    return name in (*registry.BY_OWN_UPDATE, *registry.BY_HONEST_UPDATES)


def with_triggers(config: Config, setup: Setup, data: FederatedData) -> Setup:
    """Returns a setup with what judges a backdoor, if there is one.

    Args:
      config: The configuration.
      setup: What is trained.
      data: The population as it was loaded, with images.
    """
    if not isinstance(config.attack, Backdoor):
        return setup
    unseen = np.flatnonzero(np.isin(data.client_of_row, setup.unseen))
    rows = unseen[data.y[unseen] != config.attack.target]
    # One batch at least, for its shape.
    starts = range(0, max(len(rows), 1), BATCH)
    inputs = [
        setup.from_images(config.attack.stamped(data.x[rows[start : start + BATCH]]))
        for start in starts
    ]
    counts = np.bincount(data.client_of_row[rows], minlength=len(data))
    triggered = dataclasses.replace(
        data,
        x=np.concatenate(list(map(np.asarray, inputs))),
        y=data.y[rows],
        num_train=np.zeros_like(counts),
        num_test=counts,
    )
    first = setup.first and with_triggers(config, setup.first, data)
    return dataclasses.replace(setup, triggered=triggered, first=first)
