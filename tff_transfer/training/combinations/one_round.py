"""What goes with a head that one round computes."""

import dataclasses

from tff_transfer.errors import UserError

# What a head that one round computes must stand on, and the options of training that
# have an effect with it.
WITHOUT_ROUNDS = (
    *('seed', 'runtime', 'tflite', 'export_keras', 'on_divergence'),
    *('baselines', 'export_client', 'attackers'),
)
_LINEAR = {
    'finetune': ('head',),
    'head': ('linear',),
    'hidden_units': ((),),
    'model': ('backbone', 'mlp'),
}


def check(config, name: str) -> None:
    """Checks that a `Config` goes with a head that one round computes.

    Args:
      config: The configuration, whose method is of one round.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    model, training = config.model, config.training
    for field, allowed in _LINEAR.items():
        value = getattr(model, field)
        if value not in allowed:
            raise UserError(
                f'--algorithm={name} computes a linear head on frozen features, but'
                f' --{field} is {_shown(value)}; leave it out'
            )
    for field in dataclasses.fields(training):
        value = getattr(training, field.name)
        if field.name not in WITHOUT_ROUNDS and value != field.default:
            raise UserError(
                f'--{field.name} is for methods that train, but --algorithm={name}'
                ' computes a head in one round; leave it out'
            )


def _shown(value) -> str:
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)
