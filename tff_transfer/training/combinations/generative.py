"""What does not go with models that generate."""

from tff_transfer.algorithms import registry
from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.attacks import registry as attacks
from tff_transfer.errors import UserError


def check(config, name: str) -> None:
    """Checks that a generative model suits the rest of a `Config`.

    Args:
      config: The configuration.
      name: The name of its algorithm.

    Raises:
      UserError: In one line that names the flag.
    """
    said = f'--model={config.model.model}'
    if name in registry.BY_CLASSES:
        raise UserError(
            f'--algorithm={name} is for models that tell classes, but {said} generates'
            ' images of them; use another algorithm'
        )
    _check_teacher(config, said)
    for flag in ('tflite', 'export_keras'):
        if getattr(config.training, flag):
            raise UserError(
                f'--{flag} writes what maps images to classes, but {said} generates'
                ' them; leave it out: model/ holds what generates'
            )
    if attacks.KINDS.name_of(config.attack) == 'backdoor':
        raise UserError(
            f'--attack=backdoor is judged by predicted classes, which {said} has not;'
            ' use another attack'
        )
    if config.model.model == 'gan':
        _check_gan(config, said, name)


def _check_teacher(config, said: str) -> None:
    if not isinstance(config.distill_from, Pretrained):
        return
    if config.model.start_from is None:
        raise UserError(
            '--distill_from=pretrained is for --start_from; give both or leave it out'
        )
    if config.distill_from != Pretrained(weight=config.distill_from.weight):
        raise UserError(
            f'of --distill_from=pretrained, {said} has --pretrained.weight alone: the'
            ' distance is its own; leave the others out'
        )


def _check_gan(config, said: str, name: str) -> None:
    if name not in registry.OF_GANS:
        raise UserError(
            f'{said} is a generator and a discriminator, each with a loss of its own,'
            f' but --algorithm={name} makes one loss small; use --algorithm=fedgan'
        )
    on_losses = {
        '--early_stop_patience': config.training.early_stop_patience is not None,
        '--export=best': config.training.export == 'best',
    }
    for flag, given in on_losses.items():
        if given:
            raise UserError(
                f'{flag} chooses by the loss, of which with {said} no value tells that'
                ' images are good; leave it out'
            )
