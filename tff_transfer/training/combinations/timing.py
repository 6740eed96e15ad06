"""What goes with a server that steps as clients report."""

from tff_transfer.aggregation import registry as aggregation_registry
from tff_transfer.aggregation.plain import Plain
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.selection import registry as selection_registry
from tff_transfer.simulation.timing import registry as timing_registry
from tff_transfer.training.model_config import BY_BATCHES

# Rules of selection that do not divide, order or balance a cohort: they choose as well
# one client after another.
_ONE_BY_ONE = ('uniform', 'byexamples', 'byloss', 'powerofchoice')


def check(config, name: str) -> None:
    """Checks that a `Config` fits its `timing`, another than synchronous rounds.

    Args:
      config: The configuration.
      name: The method's name in `algorithms.registry`.

    Raises:
      UserError: In one line that names the flag.
    """
    kind = timing_registry.KINDS.name_of(config.timing)
    said = f'--timing={kind}'
    config.timing.check(kind)
    known = registry.ASYNCHRONOUS
    if config.timing.of_weights:
        known = registry.OF_MOVES
    if name not in known:
        raise UserError(
            f'{said} is not defined for --algorithm={name}; use one of'
            f' {", ".join(known)}'
        )
    aggregation = aggregation_registry.KINDS.name_of(config.aggregation)
    rule = selection_registry.RULES.name_of(config.selection)
    batch_norm = config.model.batch_norm
    refused = {
        f'{said} asks how long clients take, of which --fleet=ideal tells nothing; give'
        ' --fleet=drawn, or another': isinstance(config.fleet, Ideal),
        f'{said} takes updates of different ages, of which no epsilon is known here;'
        ' leave --privacy out': config.private,
        f'{said} takes updates of clients that were asked at different times, but with'
        ' --aggregation=secure those of a sum agree on masks before they train; leave'
        ' it out': isinstance(config.aggregation, Secure),
        f'{said} takes the mean of updates to different models, which'
        f' --aggregation={aggregation} would compare; leave it out': (
            not isinstance(config.aggregation, Plain | Secure)
        ),
        f'{said} has clients train the head still when --finetune=head_then_all begins'
        ' its second stage; use another --finetune': (
            config.model.finetune == 'head_then_all'
        ),
        f'{said} asks one client after another, but --selection={rule} chooses whole'
        f' cohorts; use one of {", ".join(_ONE_BY_ONE)}': rule not in _ONE_BY_ONE,
        f'{said} weighs all clients alike, those that it remembers too; give'
        ' --weighting=uniform': (
            config.timing.remembers and config.training.weighting != 'uniform'
        ),
        f'--batch_norm={batch_norm} has clients measure statistics about the'
        " server's, which move on while they train; use another": (
            batch_norm in BY_BATCHES
        ),
    }
    for reason, holds in refused.items():
        if holds:
            raise UserError(reason)
