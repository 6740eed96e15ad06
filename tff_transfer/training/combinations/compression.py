"""What goes with compression of what travels."""

from tff_transfer.algorithms import registry
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry

# What is not compressed of methods, and why.
_ALONE = dict.fromkeys(registry.OF_ONE_ROUND, 'exact sums travel, once') | {
    'local': 'nothing travels',
    'central': 'all examples are in one place',
}
_OPTIMIZER = (
    'the state of an optimizer travels, whose small numbers must not become zeros'
)
_MODELS = 'models travel and no updates, whose distances would change'
UNCOMPRESSED = {
    'compression': {
        **_ALONE,
        'fedproto': 'clients send means of representations and no update',
        'feddistill': 'clients send means of predictions and no update',
        'fedgkt': 'clients send features and answers and no update',
        'fedmd': 'clients send answers to public examples and no update',
        'dsfl': 'clients send answers to public examples and no update',
        'feddf': 'what clients answer is taken of their models before they are sent',
        'ifca': 'a client sends zeros for all models but the one that it took',
        'fedamp': _MODELS,
    },
    'compression_down': {
        **_ALONE,
        'fedgkt': 'clients get answers alone',
        'mime': _OPTIMIZER,
        'mimelite': _OPTIMIZER,
        'feddistill': 'each client takes what it sent off the sums that it gets',
        'fedamp': _MODELS,
    },
}


def check(config, name: str) -> None:
    """Checks that what a method sends may be compressed, where it is.

    Args:
      config: The configuration.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    for direction, why in UNCOMPRESSED.items():
        if name in why and not isinstance(getattr(config, direction), NoCompression):
            raise UserError(
                f'--{direction} is not for --algorithm={name}: {why[name]};'
                ' leave it out'
            )
    kind = privacy_registry.name_of(config.privacy)
    on_clients = kind in privacy_registry.ON_CLIENTS
    if on_clients and not isinstance(config.compression, NoCompression):
        raise UserError(
            f'with --privacy={kind} clients change their updates once more before they'
            ' send them, so that what travels would not be what --compression made;'
            ' leave it out'
        )
