"""What goes with a promise of clients' data."""

from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.training.model_config import BY_BATCHES


def check(config, name: str) -> None:
    """Checks that a `Config` goes with what it promises of clients' data.

    Args:
      config: The configuration, which is private.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    model, training = config.model, config.training
    kind = privacy_registry.name_of(config.privacy)
    config.privacy.check(kind)
    said = f'--privacy={kind}'
    if kind in privacy_registry.CORRELATED and model.finetune == 'head_then_all':
        raise UserError(
            f'{said} correlates the noise of all rounds, but --finetune=head_then_all'
            ' trains other weights in some; use another --finetune'
        )
    if kind in privacy_registry.OF_EXAMPLES:
        _check_of_examples(said, name, model)
        if training.client_settings is not None:
            raise UserError(
                f'{said} accounts for the same epochs and batches of all clients; leave'
                ' --client_settings out'
            )
    elif name in registry.BESIDE_THE_MEAN:
        raise UserError(
            f'{said} adds noise to the mean of what clients send, but --algorithm='
            f'{name} sends more or nothing; use another algorithm'
        )
    elif training.weighting != 'uniform':
        raise UserError(
            f'{said} bounds what each client adds to the mean, but by examples some add'
            ' more, and their numbers are told; give --weighting=uniform'
        )
    elif model.batch_norm == 'aggregate':
        raise UserError(
            f'{said} would clip BatchNorm statistics as it does weights; use another'
            ' --batch_norm'
        )
    on_seen = {
        '--early_stop_patience': training.early_stop_patience is not None,
        '--export=best': training.export == 'best',
    }
    for flag, given in on_seen.items():
        if given:
            raise UserError(
                f'{flag} chooses by the test examples of seen clients, of whom'
                f' {said} tells nothing; leave it out'
            )


def _check_of_examples(said: str, name: str, model) -> None:
    if name not in registry.BY_ONE_GRADIENT:
        raise UserError(
            f'{said} adds noise to one gradient of each batch, but clients of'
            f' --algorithm={name} do more with their examples; use another algorithm'
        )
    if model.batch_norm in BY_BATCHES:
        raise UserError(
            f'{said} clips the gradient of each example, which with --batch_norm='
            f'{model.batch_norm} hangs on others of its batch; use another'
            ' --batch_norm'
        )
