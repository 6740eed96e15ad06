"""The rules of selection by name."""

from tff_transfer.options import Variants
from tff_transfer.simulation.selection.uniform import Poisson, RoundRobin, Uniform

RULES = Variants(
    __package__, {'uniform': Uniform, 'poisson': Poisson, 'roundrobin': RoundRobin}
)
# By what a private run's mechanism calls how it draws (`privacy.accounting.Mechanism`).
OF_MECHANISM = {'fixed': Uniform(), 'poisson': Poisson(), 'in turn': RoundRobin()}
