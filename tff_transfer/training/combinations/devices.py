"""Which values of a configuration fit to devices that may be slow, absent or lost."""

from collections.abc import Mapping

from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.simulation.fleet import registry as fleet_registry
from tff_transfer.simulation.fleet.trace import Trace

# Fleets whose clients never go.
_ALWAYS_THERE = ('drawn',)


def check(config, name: str) -> None:
    """Checks what goes with devices that may be slow, absent or lost.

    Args:
      config: A `Config` whose fleet is not ideal.
      name: Its algorithm's.

    Raises:
      UserError: In one line that names the flag.
    """
    training, kind = config.training, fleet_registry.KINDS.name_of(config.fleet)
    said = f'--fleet={kind}'
    if isinstance(config.fleet, Trace) and not config.fleet.path:
        raise UserError(f'{said} needs --trace.path, the files to read')
    if name in registry.OF_ALL:
        raise UserError(
            f'{said} tells when clients of a round are done, but with --algorithm='
            f'{name} all take part at once; leave it out'
        )
    if name == 'fedgkt':
        raise UserError(
            f'{said} tells how long messages take by their size, which with'
            f' --algorithm={name} hangs on how many examples a client has; leave it out'
        )
    if training.drop_stragglers:
        raise UserError(
            f'--drop_stragglers leaves out who is drawn, but with {said} who is late by'
            ' its device; use --deadline'
        )
    _check_missing(config, kind)


def _check_missing(config, kind: str) -> None:
    """Checks that clients may be missing in a round, where some may be."""
    training = config.training
    may_fail = {
        '--over_selection': training.over_selection > 1,
        '--deadline': training.deadline is not None,
        f'--fleet={kind}': kind not in _ALWAYS_THERE,
    }
    dropout = {f'--{kind}.dropout': config.fleet.dropout > 0}
    if config.private:
        privacy = privacy_registry.name_of(config.privacy)
        private = f'--privacy={privacy}'
        if flags := _given(may_fail):
            raise UserError(
                f'with {flags} it hangs on how many examples a client has whether its'
                f' update is used, for which {private} does not account; leave it out'
            )
        on_clients = privacy in privacy_registry.ON_CLIENTS
        if on_clients and (flags := _given(dropout)):
            raise UserError(
                f'{private} has each client of a round add noise, which with {flags}'
                ' some would not send; leave it out'
            )
    if isinstance(config.aggregation, Secure) and (flags := _given(may_fail | dropout)):
        raise UserError(
            f'with {flags} clients may be missing whose secrets --aggregation=secure'
            ' needs, which rounds do not simulate; leave it out'
        )


def _given(flags: Mapping[str, bool]) -> str | None:
    """Returns the first flag that is given."""
    return next((flag for flag, given in flags.items() if given), None)
