"""What goes with whom clients learn from."""

from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.errors import UserError


def check(config) -> None:
    """Checks that something is held to the pretrained model's features, if they teach.

    Args:
      config: The configuration, whose model tells classes.

    Raises:
      UserError: In one line that names the flag.
    """
    if not isinstance(config.distill_from, Pretrained):
        return
    model, said = config.model, '--distill_from=pretrained'
    if model.model != 'backbone' or model.finetune == 'head':
        raise UserError(
            f'{said} holds features that are trained to those of the pretrained model,'
            ' but nothing of a backbone is trained; give another --finetune'
        )
    if model.backbone_weights == 'random':
        raise UserError(
            f'{said} holds features to those of the pretrained model, but'
            ' --backbone_weights=random has none; leave one of both out'
        )
    if model.hidden_units or model.head != 'linear':
        raise UserError(
            f'{said} holds what the last layer takes, which with --hidden_units or'
            ' another --head is not what the pretrained model gives; use a linear head'
        )
    default = Pretrained().temperature
    teacher = config.distill_from
    if teacher.distance != 'softmax' and teacher.temperature != default:
        raise UserError(
            '--pretrained.temperature is for --pretrained.distance=softmax, but that'
            f' is {teacher.distance}; leave it out'
        )
