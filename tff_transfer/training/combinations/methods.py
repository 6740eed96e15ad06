"""What methods need of the model, of optimizers and of public examples."""

from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.training.model_config import BY_BATCHES


def check(config, name: str) -> None:
    """Checks that a method has what it needs of the rest of a `Config`.

    Args:
      config: The configuration.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    model, training = config.model, config.training
    if name in ('mime', 'mimelite') and model.batch_norm == 'local':
        raise UserError(
            f"--algorithm={name} keeps its optimizer's state on the server, which has"
            ' none for layers that stay with the clients; use another --batch_norm'
        )
    _check_public_data(name, config.algorithm)
    if name in registry.BY_PUBLIC_EXAMPLES and model.batch_norm in BY_BATCHES:
        raise UserError(
            f'--algorithm={name} distils on public examples, for which BatchNorm layers'
            ' that are trained have no statistics; use another --batch_norm'
        )
    if name == 'ccvr' and model.batch_norm in BY_BATCHES:
        raise UserError(
            f'--algorithm={name} trains on the server, which has no statistics for'
            ' BatchNorm layers that are trained; use another --batch_norm'
        )
    plain_sgd = training.client_optimizer == 'sgd' and not training.client_momentum
    if getattr(config.algorithm, 'adaptive_alpha', False) and not plain_sgd:
        raise UserError(
            f'--{name}.adaptive_alpha is defined for SGD without momentum on the'
            ' clients; use --client_optimizer=sgd without --client_momentum'
        )


def _check_public_data(name: str, algorithm) -> None:
    """Checks that public examples are those of a file or of clients, not of both."""
    if getattr(algorithm, 'public_data', None) is None:
        return
    if algorithm.public_clients != type(algorithm)().public_clients:
        raise UserError(
            f'--{name}.public_data and --{name}.public_clients are two ways to have'
            ' public examples; give one'
        )


def check_layers(config, name: str) -> None:
    """Checks that the model has the layers that a method is about.

    Args:
      config: The configuration.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    model = config.model
    below = model.model == 'cnn' or model.hidden_units
    if model.model == 'backbone' and model.finetune not in ('head', 'head_then_all'):
        below = True
    if name in registry.BY_REPRESENTATION and not below:
        raise UserError(
            f'--algorithm={name} compares what the layers below the last one give, but'
            ' none of them is trained; give --hidden_units, or another --finetune'
        )
    if name in registry.BY_LAST_DENSE and model.head == 'cosine':
        raise UserError(
            f'--algorithm={name} is for a last layer that is a dense one, but --head is'
            ' cosine; use --head=linear'
        )
    if name in registry.OF_GANS and model.model != 'gan':
        raise UserError(
            f'--algorithm={name} trains a generator and a discriminator, but --model is'
            f' {model.model}; use --model=gan'
        )
