"""What goes with clients of different architectures."""

import dataclasses

from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.training import architectures

# What changes images of training.
_AUGMENT = tuple(
    f'augment_{how}' for how in ('shift', 'rotation', 'brightness', 'flip')
)


def check(config, name: str) -> None:
    """Checks that a `Config` goes with clients of different architectures.

    Args:
      config: The configuration, whose model is `several`.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    training = config.training
    if name not in registry.BY_ANSWERS:
        raise UserError(
            f'--model=several gives clients different networks, but --algorithm={name}'
            ' averages weights; use one of'
            f' --algorithm={", ".join(registry.BY_ANSWERS)}'
        )
    if not config.model.architectures:
        raise UserError(
            '--model=several needs --architectures, such as cnn,mlp:64,embedded'
        )
    for text in config.model.architectures:
        architectures.parsed(text)
    given = dataclasses.asdict(training)
    for flag in ('tflite', 'export_keras', *_AUGMENT):
        if given[flag]:
            raise UserError(
                f'--{flag} is for one network, but --model=several has rows of what'
                ' any of its networks takes; leave it out'
            )
