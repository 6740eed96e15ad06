"""Which rules of selection go with the rest of a configuration."""

from tff_transfer import options
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.selection.known import (
    ASKED,
    OF_LOSSES,
    OF_SINGLE_CLIENTS,
)
from tff_transfer.simulation.selection.oort import Oort
from tff_transfer.simulation.selection.poisson import Poisson
from tff_transfer.simulation.selection.registry import RULES
from tff_transfer.simulation.selection.uniform import Uniform

# Methods whose clients do not judge one model that all of them get by how well it
# does, and why.
_WITHOUT_ONE_MODEL = {
    'local': 'each is alone',
    'fedproto': 'each is alone',
    'feddistill': 'each is alone',
    'fedmd': 'each is alone',
    'fedgkt': 'each is alone',
    'dsfl': 'each is alone',
    'ifca': 'each takes one of several models',
    'fedrecon': 'parts of the model are forgotten',
    'fedgan': 'the loss is of two networks against each other',
}
# The options of Oort that are of durations.
_OF_DURATIONS = ('alpha', 'preferred')


def check(config, name: str) -> None:
    """Checks that a `Config`'s rule may choose its clients, and knows what it needs.

    Args:
      config: The configuration.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    rule = config.selection
    if isinstance(rule, Uniform):
        return
    secure = isinstance(config.aggregation, Secure)
    privacy = privacy_registry.name_of(config.privacy)
    of_single = [need for need in rule.needs if need in OF_SINGLE_CLIENTS]
    told = ' and '.join(need.replace('_', ' ') for need in of_single)
    refused = {
        f'all take part with --algorithm={name}': name in registry.OF_ALL,
        f'--privacy={privacy} accounts for how its own mechanism draws them': (
            config.private
        ),
        f'--aggregation=secure shows the server sums alone, no {told} of single'
        ' clients': secure and of_single,
        '--aggregation=secure needs to know how many there are': (
            secure and isinstance(rule, Poisson)
        ),
        **_without_losses(config, name),
    }
    chosen = f'--selection={RULES.name_of(rule)}'
    for why, found in refused.items():
        if found:
            raise UserError(f'{chosen} chooses clients, but {why}; leave it out')
    given = [option for option in options.changed(rule) if option in _OF_DURATIONS]
    if isinstance(rule, Oort) and isinstance(config.fleet, Ideal) and given:
        raise UserError(
            f'--oort.{given[0]} is for clients that take time, which they do not with'
            ' --fleet=ideal; leave it out, or give another --fleet'
        )


def _without_losses(config, name: str) -> dict[str, bool]:
    """Returns why clients of a method have no loss that a rule could go by."""
    by_loss = any(need in (*OF_LOSSES, ASKED) for need in config.selection.needs)
    said = 'it goes by the losses of one model that all get, but with'
    parts = getattr(config.algorithm, 'parts', ())
    return {
        f'{said} --algorithm={name} {_WITHOUT_ONE_MODEL.get(name)}': (
            by_loss and name in _WITHOUT_ONE_MODEL
        ),
        f'{said} --{name}.parts={",".join(parts)} these stay with each client': (
            by_loss and bool(parts)
        ),
        f'{said} --batch_norm=local layers stay with each client': (
            by_loss and config.model.batch_norm == 'local'
        ),
    }
