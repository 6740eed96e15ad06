"""Which attacks go with which methods, promises and sums."""

from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.attacks import registry as attacks
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.simulation.timing import registry as timing_registry
from tff_transfer.simulation.timing.synchronous import Synchronous

# Methods whose clients send nothing.
_SILENT = ('local', 'central')


def check(config, algorithm: str) -> None:
    """Checks that an attack suits the rest of a `Config`.

    Raises:
      UserError: In one line that names the flag.
    """
    name = attacks.KINDS.name_of(config.attack)
    if name not in attacks.ATTACKS:
        return
    said = f'--attack={name}'
    if algorithm in _SILENT:
        raise UserError(
            f'{said} is on what clients learn together, but with --algorithm='
            f'{algorithm} nothing travels; use another algorithm'
        )
    own_models = algorithm in registry.BY_OWN_MODELS
    if own_models and config.training.baselines:
        raise UserError(
            f'{said} would be on the baselines too, of which each client alone and all'
            ' examples in one place know no attack; give --nobaselines'
        )
    if name == 'backdoor' and own_models:
        raise UserError(
            f'{said} is judged on one model for all, but with --algorithm={algorithm}'
            ' clients have models of their own; use another of both'
        )
    by_others = name in attacks.BY_HONEST_UPDATES
    if by_others or name in attacks.BY_OWN_UPDATE:
        _check_updates(config, algorithm, said)
    if by_others and not isinstance(config.timing, Synchronous):
        timing = timing_registry.KINDS.name_of(config.timing)
        raise UserError(
            f'{said} is made of the honest updates of a round, but with'
            f' --timing={timing} there are no rounds; use an attack by data or by own'
            ' updates'
        )
    if by_others and config.private:
        raise UserError(
            f'{said} makes updates of those of others, so that what a client says'
            f' counts more than --privacy={privacy_registry.name_of(config.privacy)}'
            ' bounds; use an attack by data or by own updates'
        )
    if by_others and isinstance(config.aggregation, Secure):
        raise UserError(
            f'{said} is of attackers who know the updates that --aggregation=secure'
            ' hides; use an attack by data or by own updates'
        )


def _check_updates(config, algorithm: str, said: str) -> None:
    if algorithm in registry.BESIDE_THE_MEAN:
        raise UserError(
            f'{said} falsifies the update that the server averages, but --algorithm='
            f'{algorithm} sends more or something else; use another algorithm, or'
            ' --attack=labelflip'
        )
    kind = privacy_registry.name_of(config.privacy)
    if kind in privacy_registry.ON_CLIENTS:
        raise UserError(
            f'with --privacy={kind} clients change their updates once more before they'
            f' send them, which those of {said} would not do; use --attack=labelflip,'
            ' or another --privacy'
        )
