"""A method's rounds on the devices of a fleet: who can be asked, and who reports."""

import dataclasses
import math
import pathlib

import numpy as np

from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.errors import UserError
from tff_transfer.models import operations
from tff_transfer.simulation.fleet.course import Course, course
from tff_transfer.simulation.fleet.devices import seconds
from tff_transfer.simulation.fleet.fleet import Fleet
from tff_transfer.training.config import Config
from tff_transfer.training.setup import Setup


@dataclasses.dataclass(frozen=True)
class Devices:
    """What the clients of a method's rounds run on.

    Attributes:
      fleet: The devices of all clients of the population.
      examples: How many each client trains on in an epoch, int64 [clients].
      flops: Floating point operations of training on an example.
      bytes_up: What a client sends in a round.
      bytes_down: What it gets.
      over_selection: How many times as many clients are asked as are used.
      deadline: After how many seconds a round ends, if there is a limit.
    """

    fleet: Fleet
    examples: np.ndarray
    flops: float
    bytes_up: float
    bytes_down: float
    over_selection: float
    deadline: float | None

    def starts(self, clock: float, clients: np.ndarray) -> float:
        """Returns when a round can start: once one of the clients is there."""
        return self.fleet.availability.first(clock, clients)

    def seconds(self, clients: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Returns how long clients take for a round of so many epochs, float64."""
        return seconds(
            self.fleet.devices,
            clients,
            self.examples[clients] * epochs,
            self.flops,
            self.bytes_up,
            self.bytes_down,
        )

    def course(
        self,
        clients: np.ndarray,
        durations: np.ndarray,
        wanted: int,
        starts: float,
        round_number: int,
    ) -> Course:
        """Returns what becomes of a round (see `course`).

        Where no more clients are asked than are wanted, all that report are used, such
        as more than that of Poisson sampling.
        """
        return course(
            self.fleet,
            clients,
            durations,
            min(wanted, len(clients)) if self.over_selection > 1 else len(clients),
            deadline=self.deadline,
            starts=starts,
            round_number=round_number,
        )


def asked(over_selection: float, wanted: int) -> int:
    """Returns how many clients are asked for so many reports, rounded up."""
    # Less what rounding adds: 1.1 times 10 are 11 clients, and no 12.
    return math.ceil(over_selection * wanted - 1e-9)


def of(
    config: Config, setup: Setup, bytes_up: float, bytes_down: float
) -> Devices | None:
    """Returns the devices of a configuration's rounds, or None if they are ideal."""
    training, data = config.training, setup.data
    fleet = config.fleet.fleet(data.client_ids, training.seed)
    if fleet is None:
        return None
    return Devices(
        fleet,
        np.minimum(data.num_train, training.max_examples or np.inf),
        operations.of_training(setup.model),
        bytes_up,
        bytes_down,
        training.over_selection,
        training.deadline,
    )


def check(config: Config, data: FederatedData) -> None:
    """Checks that rounds can take place, before anything long is done.

    Args:
      config: The configuration.
      data: The clients.

    Raises:
      UserError: A file is no trace, more clients are asked than there are, or none of
        them is ever there.
    """
    training = config.training
    fleet = config.fleet.fleet(data.client_ids, training.seed)
    if fleet is None:
        return
    seen, _ = split_clients(
        len(data), config.data.unseen_fraction, config.data.split_seed
    )
    wanted = asked(training.over_selection, training.clients_per_round)
    if wanted > len(seen):
        raise UserError(
            f'--over_selection={training.over_selection:g} asks {wanted} clients in a'
            f' round, but {data.name} has {len(seen)} to train on; give less, or fewer'
            ' --clients_per_round'
        )
    if fleet.availability.first(0.0, seen) == np.inf:
        raise UserError(
            'none of the clients that train is ever there by --trace.path; give another'
        )


def files(config: Config) -> dict[str, pathlib.Path]:
    """Returns the files that tell of clients, which a run must find the same again."""
    traces = getattr(config.fleet, 'path', ())
    found = {f'trace_{number}': path for number, path in enumerate(traces)}
    if config.training.client_settings is not None:
        found['client_settings'] = config.training.client_settings
    return {what: pathlib.Path(path) for what, path in found.items()}
