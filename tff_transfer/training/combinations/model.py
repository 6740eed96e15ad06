"""Which options of the model go together, with the data, and with the method."""

from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.training.model_config import BY_BATCHES

# Methods whose clients do not train a head together, and why.
_WITHOUT_HEAD = {
    'local': 'each is alone',
    'fedproto': 'each is alone',
    'fedamp': 'each has its own',
    'feddistill': 'each is alone',
    'fedmd': 'each is alone',
    'fedgkt': 'each is alone',
    'dsfl': 'each is alone',
    'fedbabu': 'it stays as it began',
    'fedrecon': 'parts of the model are forgotten',
}


def check(config, name: str) -> None:
    """Checks that the options of the model go together, and with the rest.

    Args:
      config: The configuration.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    data, model = config.data, config.model
    if name in registry.IN_ONE_PLACE and model.batch_norm == 'local':
        raise UserError(
            f'--algorithm={name} has no clients for layers to stay with; use'
            ' --batch_norm=aggregate'
        )
    if data.dataset == 'synthetic_alpha_beta' and model.model not in ('mlp', 'several'):
        raise UserError(
            '--dataset=synthetic_alpha_beta has vectors, no images; use --model=mlp'
        )
    _check_finetuning(model, config.training.rounds)
    if model.dropout and not model.hidden_units and model.model != 'cnn':
        raise UserError('--dropout is for hidden layers; give --hidden_units too')
    if model.finetune == 'head_then_all':
        _check_first_stage(config, name)


def _check_finetuning(model, rounds: int) -> None:
    head_rounds = model.head_rounds or 1
    if model.finetune == 'head_then_all' and head_rounds >= rounds:
        raise UserError(
            f'--head_rounds={head_rounds} leaves none of --rounds={rounds} for the rest'
        )
    if model.cut_layer is not None and model.top_layers is not None:
        raise UserError(
            '--cut_layer and --top_layers are two ways to say one; give one'
        )
    if model.batch_norm in BY_BATCHES and model.finetune == 'head':
        raise UserError(
            f'--batch_norm={model.batch_norm} is for layers that are trained, but'
            ' --finetune=head trains none of the backbone; use another --finetune'
        )


def _check_first_stage(config, name: str) -> None:
    """Checks that clients train together the head that the second stage begins with."""
    if name in _WITHOUT_HEAD:
        raise UserError(
            '--finetune=head_then_all goes on from a head that clients train together,'
            f' but with --algorithm={name} {_WITHOUT_HEAD[name]}; use another'
            ' --finetune'
        )
    parts = getattr(config.algorithm, 'parts', ())
    if parts:
        raise UserError(
            '--finetune=head_then_all goes on from a head that clients train together,'
            f' but with --{name}.parts={",".join(parts)} these stay with each client;'
            ' use another --finetune'
        )
