"""The rules of selection by name."""

from tff_transfer.options import Variants
from tff_transfer.simulation.selection.adaptive import Adaptive
from tff_transfer.simulation.selection.by_examples import ByExamples
from tff_transfer.simulation.selection.by_loss import ByLoss
from tff_transfer.simulation.selection.class_balance import ClassBalance
from tff_transfer.simulation.selection.oort import Oort
from tff_transfer.simulation.selection.poisson import Poisson
from tff_transfer.simulation.selection.poisson_in_turn import PoissonInTurn
from tff_transfer.simulation.selection.power_of_choice import PowerOfChoice
from tff_transfer.simulation.selection.round_robin import RoundRobin
from tff_transfer.simulation.selection.rule import Rule
from tff_transfer.simulation.selection.uniform import Uniform

RULES = Variants(
    __package__,
    {
        'uniform': Uniform,
        'poisson': Poisson,
        'byexamples': ByExamples,
        'roundrobin': RoundRobin,
        'powerofchoice': PowerOfChoice,
        'byloss': ByLoss,
        'adaptive': Adaptive,
        'oort': Oort,
        'classbalance': ClassBalance,
    },
)

_OF_MECHANISM = {'fixed': Uniform(), 'poisson': Poisson(), 'in turn': RoundRobin()}


def of_mechanism(mechanism) -> Rule:
    """Returns the rule by which a private run's mechanism has clients drawn.

    Args:
      mechanism: A `privacy.accounting.Mechanism`.
    """
    if mechanism.sampling == 'poisson in turn':
        return PoissonInTurn(mechanism.groups)
    return _OF_MECHANISM[mechanism.sampling]
