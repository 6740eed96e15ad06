"""The options of training that say who trains in a round, and for how long."""

import dataclasses

from tff_transfer.algorithms import registry
from tff_transfer.options import GIVEN, all_but, option, repr_of_changed
from tff_transfer.simulation.fleet import registry as fleet_registry
from tff_transfer.simulation.timing import registry as timing_registry

# What options are for (see `options.option`).
# Of servers that take steps: FedAsync's mixes weights.
STEPS = all_but('timing', timing_registry.KINDS.NAMES, ('fedasync',))
# Of clients that train apart from each other.
_APART = all_but('algorithm', registry.NAMES, registry.IN_ONE_PLACE)
_GIVEN_PASSES = all_but(
    'algorithm', registry.NAMES, (*registry.IN_ONE_PLACE, *registry.BY_OWN_PASSES)
)
_UNEQUAL_EPOCHS = {'min_client_epochs': GIVEN}
# What has time, and devices that may be late.
_DEVICES = all_but('fleet', fleet_registry.KINDS.NAMES, ('ideal',))
# Rounds that end before all who were asked have reported.
_LATE_ROUNDS = {**_DEVICES, 'timing': ('synchronous',)}


@dataclasses.dataclass(frozen=True)
class RoundsConfig:
    """Who trains in a round, and for how long: a part of `TrainingConfig`."""

    rounds: int = option(150, 'Rounds of training.', at_least=0)
    clients_per_round: int = option(
        20,
        'Clients of a cohort; where they report at different times, as with'
        ' --timing=fedbuff, how many train at once.',
        at_least=1,
        only_for=_APART,
    )
    client_epochs: int = option(
        1,
        'Passes of a client over its examples in a round; with jointft the most.',
        at_least=1,
    )
    min_client_epochs: int | None = option(
        None,
        'Let the passes of clients differ: those of each straggler are drawn from it to'
        ' --client_epochs, anew in each round.',
        at_least=1,
        only_for=_GIVEN_PASSES,
    )
    straggler_fraction: float = option(
        1.0,
        "For --min_client_epochs: the share of a round's clients that are stragglers;"
        ' the others make --client_epochs.',
        at_least=0,
        at_most=1,
        only_for=_UNEQUAL_EPOCHS,
    )
    drop_stragglers: bool = option(
        False,
        "Leave the stragglers' work out, as a server does that does not wait.",
        only_for=_UNEQUAL_EPOCHS,
    )
    over_selection: float = option(
        1.0,
        'How many times as many clients are asked as --clients_per_round, of whom the'
        ' first that report are used.',
        at_least=1,
        only_for=_LATE_ROUNDS,
    )
    deadline: float | None = option(
        None,
        'After how many simulated seconds a round ends, whoever has not reported.',
        above=0,
        only_for=_LATE_ROUNDS,
    )
    client_settings: str | None = option(
        None,
        'A CSV file with how single clients train, by their names: the columns client'
        ' and, of which an empty cell is what all others have, epochs, batch_size and'
        ' learning_rate.',
        only_for=all_but('algorithm', registry.NAMES, registry.OF_ALL),
    )
    batch_size: int = option(20, "Examples of a client's batch.", at_least=1)
    max_examples: int | None = option(
        None,
        'The most examples of a client in an epoch.',
        at_least=1,
        only_for=_APART,
    )
    weighting: str = option(
        'examples',
        "A client's weight in the mean: the number of its examples, or uniform.",
        choices=('examples', 'uniform'),
        only_for={**_APART, **STEPS},
    )

    __repr__ = repr_of_changed
