"""Which options of training go together, and with what is trained."""

import dataclasses

from tff_transfer.errors import UserError


def check(config) -> None:
    """Checks that the options of training go together, and with the model.

    Args:
      config: The configuration.

    Raises:
      UserError: In one line that names the flag.
    """
    _check_epochs(config.training)
    _check_schedules(config.training)
    _check_stragglers(config.training)
    _check_augmentation(config.training, config.model)


def _check_epochs(training) -> None:
    if (training.min_client_epochs or 1) > training.client_epochs:
        raise UserError(
            f'--min_client_epochs={training.min_client_epochs} is more than'
            f' --client_epochs={training.client_epochs}; give fewer, or more of these'
        )


def _check_schedules(training) -> None:
    for side in ('client', 'server'):
        changes = getattr(training, f'{side}_schedule') != 'constant'
        changes |= getattr(training, f'{side}_warmup') > 0
        if changes and getattr(training, f'{side}_optimizer') == 'adafactor':
            raise UserError(
                f'--{side}_schedule and --{side}_warmup change a learning rate from'
                f' round to round, which --{side}_optimizer=adafactor cannot; leave'
                ' them out, or use another optimizer'
            )


def _check_stragglers(training) -> None:
    clients = training.clients_per_round
    stragglers = round(training.straggler_fraction * clients)
    if training.drop_stragglers and stragglers == clients:
        raise UserError(
            f'--drop_stragglers leaves none of --clients_per_round={clients}, of whom'
            f' {stragglers} are stragglers; lower --straggler_fraction'
        )


def _check_augmentation(training, model) -> None:
    for flag, value in dataclasses.asdict(training).items():
        if not flag.startswith('augment_') or not value:
            continue
        if model.model == 'backbone' and model.finetune in ('head', 'top'):
            raise UserError(
                f'--{flag} changes the images of each round, but --finetune='
                f'{model.finetune} trains on features that are computed once; use'
                ' --finetune=all, head_then_all, bias_norm or adapters, or'
                ' --model=cnn'
            )
