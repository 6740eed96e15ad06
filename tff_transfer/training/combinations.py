"""Which values of a configuration fit together."""

import dataclasses

from tff_transfer.aggregation.robust import Robust
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.compression.federated_dropout import FederatedDropout
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.timing.synchronous import Synchronous
from tff_transfer.training import (
    architectures,
    combinations_of_attacks,
    combinations_of_devices,
    combinations_of_dropout,
    combinations_of_generative,
    combinations_of_robust,
    combinations_of_selection,
    combinations_of_timing,
)
from tff_transfer.training.model_config import BY_BATCHES, GENERATIVE

# What changes images of training.
_AUGMENT = tuple(
    f'augment_{how}' for how in ('shift', 'rotation', 'brightness', 'flip')
)

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

# What is not compressed of methods, and why.
_ALONE = dict.fromkeys(registry.OF_ONE_ROUND, 'exact sums travel, once') | {
    'local': 'nothing travels',
    'central': 'all examples are in one place',
}
_OPTIMIZER = (
    'the state of an optimizer travels, whose small numbers must not become zeros'
)
_MODELS = 'models travel and no updates, whose distances would change'
_UNCOMPRESSED = {
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


def _check_public_data(name: str, algorithm) -> None:
    """Checks that public examples are those of a file or of clients, not of both."""
    if getattr(algorithm, 'public_data', None) is None:
        return
    if algorithm.public_clients != type(algorithm)().public_clients:
        raise UserError(
            f'--{name}.public_data and --{name}.public_clients are two ways to have'
            ' public examples; give one'
        )


def check(config) -> None:
    """Checks that the parts of a `Config` fit together.

    Raises:
      UserError: In one line that names the flag.
    """
    data, model, training = config.data, config.model, config.training
    if data.dataset == 'by_client' and not data.data_path:
        raise UserError(
            '--dataset=by_client needs --data_path: your npz, csv, parquet or'
            ' sqlite file, or a folder of images'
        )
    without_backbone = model.image_size is not None and model.model != 'backbone'
    if without_backbone and data.dataset != 'by_client':
        raise UserError(
            '--image_size is for a backbone, or for image files of mixed size with'
            f' --dataset=by_client; leave it out of --dataset={data.dataset} with'
            f' --model={model.model}'
        )
    if training.runtime == 'cluster' and not training.cluster_address:
        raise UserError(
            '--runtime=cluster needs --cluster_address: HOST:PORT of the head'
            ' (docs/cluster.md)'
        )
    name = registry.name_of(config.algorithm)
    if model.model in GENERATIVE:
        combinations_of_generative.check(config, name)
    if model.model == 'several':
        _check_several(config, name)
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
    below = model.model == 'cnn' or model.hidden_units
    if model.model == 'backbone' and model.finetune not in ('head', 'head_then_all'):
        below = True
    if isinstance(config.distill_from, Pretrained) and model.model not in GENERATIVE:
        _check_teacher(config)
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
    if not isinstance(config.fleet, Ideal):
        combinations_of_devices.check(config, name)
    if config.private:
        _check_private(config, name)
    _check_compression(config, name)
    if isinstance(config.compression_down, FederatedDropout):
        combinations_of_dropout.check(config, name)
    combinations_of_selection.check(config, name)
    combinations_of_attacks.check(config, name)
    if isinstance(config.aggregation, Secure):
        _check_secure(config, name)
    if isinstance(config.aggregation, Robust):
        combinations_of_robust.check(config, name)
    secure = {
        '--aggregation=secure': isinstance(config.aggregation, Secure),
        '--privacy=distributed': isinstance(config.privacy, Distributed),
    }
    for flag, given in secure.items():
        if given and training.runtime == 'stock':
            raise UserError(
                f"{flag} sums securely, which TFF's own worker cannot; use"
                ' --runtime=compiled'
            )
    if not isinstance(config.timing, Synchronous):
        combinations_of_timing.check(config, name)
        if model.batch_norm in BY_BATCHES:
            raise UserError(
                f'--batch_norm={model.batch_norm} has clients measure statistics about'
                " the server's, which move on while they train; use another"
            )
    if name in registry.OF_ONE_ROUND:
        _check_one_round(name, model, training)
    if name in registry.IN_ONE_PLACE and model.batch_norm == 'local':
        raise UserError(
            f'--algorithm={name} has no clients for layers to stay with; use'
            ' --batch_norm=aggregate'
        )
    if data.dataset == 'synthetic_alpha_beta' and model.model not in ('mlp', 'several'):
        raise UserError(
            '--dataset=synthetic_alpha_beta has vectors, no images; use --model=mlp'
        )
    head_rounds = model.head_rounds or 1
    if model.finetune == 'head_then_all' and head_rounds >= training.rounds:
        raise UserError(
            f'--head_rounds={head_rounds} leaves none of --rounds={training.rounds}'
            ' for the rest'
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
    if model.dropout and not model.hidden_units and model.model != 'cnn':
        raise UserError('--dropout is for hidden layers; give --hidden_units too')
    if name in _WITHOUT_HEAD and model.finetune == 'head_then_all':
        raise UserError(
            '--finetune=head_then_all goes on from a head that clients train together,'
            f' but with --algorithm={name} {_WITHOUT_HEAD[name]}; use another'
            ' --finetune'
        )
    parts = getattr(config.algorithm, 'parts', ())
    if parts and model.finetune == 'head_then_all':
        raise UserError(
            '--finetune=head_then_all goes on from a head that clients train together,'
            f' but with --{name}.parts={",".join(parts)} these stay with each client;'
            ' use another --finetune'
        )
    if (training.min_client_epochs or 1) > training.client_epochs:
        raise UserError(
            f'--min_client_epochs={training.min_client_epochs} is more than'
            f' --client_epochs={training.client_epochs}; give fewer, or more of these'
        )
    for side in ('client', 'server'):
        changes = getattr(training, f'{side}_schedule') != 'constant'
        changes |= getattr(training, f'{side}_warmup') > 0
        if changes and getattr(training, f'{side}_optimizer') == 'adafactor':
            raise UserError(
                f'--{side}_schedule and --{side}_warmup change a learning rate from'
                f' round to round, which --{side}_optimizer=adafactor cannot; leave'
                ' them out, or use another optimizer'
            )
    clients = training.clients_per_round
    stragglers = round(training.straggler_fraction * clients)
    if training.drop_stragglers and stragglers == clients:
        raise UserError(
            f'--drop_stragglers leaves none of --clients_per_round={clients}, of whom'
            f' {stragglers} are stragglers; lower --straggler_fraction'
        )
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


def _check_teacher(config) -> None:
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


def _check_several(config, name: str) -> None:
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


def _check_private(config, name: str) -> None:
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


def _check_secure(config, name: str) -> None:
    said = '--aggregation=secure'
    config.aggregation.quantiser(
        config.training.clients_per_round, config.training.weighting
    )
    kind = privacy_registry.name_of(config.privacy)
    if config.private and kind not in privacy_registry.OF_EXAMPLES:
        raise UserError(
            f'{said} shows the server a sum, but --privacy={kind} has a sum of its own;'
            ' use --privacy=distributed alone, whose sums are secure'
        )
    if name in registry.BESIDE_THE_MEAN:
        raise UserError(
            f'{said} hides updates in their mean, but --algorithm={name} sends more or'
            ' nothing; use another algorithm'
        )
    if config.model.batch_norm == 'aggregate':
        raise UserError(
            f'{said} would clip BatchNorm statistics as it does weights; use another'
            ' --batch_norm'
        )
    if not isinstance(config.compression, NoCompression):
        raise UserError(
            f'{said} adds whole numbers of all clients, which --compression would not'
            ' leave; leave it out'
        )


def _check_compression(config, name: str) -> None:
    for direction, why in _UNCOMPRESSED.items():
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


def _check_one_round(name: str, model, training) -> None:
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
