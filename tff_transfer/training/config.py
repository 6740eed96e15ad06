"""What a run is: its whole configuration, with defaults that suit a laptop."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from tff_transfer.aggregation import registry as aggregation_registry
from tff_transfer.aggregation.plain import Plain
from tff_transfer.algorithms import registry, schedules, teachers
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.algorithms.teachers import Nobody
from tff_transfer.attacks import registry as attack_registry
from tff_transfer.attacks.nothing import NoAttack
from tff_transfer.compression import registry as compression_registry
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.errors import UserError
from tff_transfer.models.generative.gan import LOSSES
from tff_transfer.models.generative.noise_schedules import SCHEDULES
from tff_transfer.options import (
    GIVEN,
    check,
    check_effects,
    option,
    repr_of_changed,
    variant,
)
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.simulation.fleet import registry as fleet_registry
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.selection import registry as selection_registry
from tff_transfer.simulation.selection.uniform import Uniform
from tff_transfer.simulation.timing import registry as timing_registry
from tff_transfer.simulation.timing.synchronous import Synchronous
from tff_transfer.training import combinations

OPTIMIZERS = ('sgd', 'adagrad', 'adam', 'adamw', 'adafactor', 'rmsprop', 'yogi')
DATASETS = (
    *('emnist', 'by_client', 'synthetic_writers', 'synthetic_alpha_beta'),
    'lung_phantoms',
)
FINETUNE = ('head', 'top', 'all', 'head_then_all', 'bias_norm', 'adapters')
MODELS = ('backbone', 'cnn', 'mlp', 'several', *combinations.GENERATIVE)
BATCH_NORM = ('frozen', 'local', 'aggregate', 'group_norm')
HEADS = ('linear', 'cosine')

# What --finetune=top trains where no cut is given: see docs/finetuning.md.
TOP_LAYERS = 6


def _except(option: str, choices: Sequence[str], left_out: Sequence[str]) -> dict:
    return {option: tuple(choice for choice in choices if choice not in left_out)}


# What options are for (see `options.option`).
_OWN_FILES = {'dataset': ('by_client',)}
_FILES = {'dataset': ('by_client', 'emnist')}
_CHARACTERS = {'dataset': ('emnist', 'synthetic_writers')}
_WRITERS = {'dataset': ('synthetic_writers', 'lung_phantoms')}
_ALPHA_BETA = {'dataset': ('synthetic_alpha_beta',)}
_SYNTHETIC = {'dataset': ('synthetic_writers', 'synthetic_alpha_beta', 'lung_phantoms')}
_WITHOUT_SPLIT = _except('dataset', DATASETS, ('emnist',))
_IMAGES = _except('dataset', DATASETS, ('synthetic_alpha_beta',))
_BACKBONE = {'model': ('backbone',)}
_DIFFUSION = {'model': ('diffusion',)}
_GAN = {'model': ('gan',)}
# FedAsync's server mixes weights.
_STEPS = _except('timing', timing_registry.KINDS.NAMES, ('fedasync',))
_SERVER = {'algorithm': registry.BY_SERVER_OPTIMIZER, **_STEPS}
# Of clients that train apart from each other.
_APART = _except('algorithm', registry.NAMES, registry.IN_ONE_PLACE)
_GIVEN_PASSES = _except(
    'algorithm', registry.NAMES, (*registry.IN_ONE_PLACE, *registry.BY_OWN_PASSES)
)
_UNEQUAL_EPOCHS = {'min_client_epochs': GIVEN}
# What has time, and devices that may be late.
_DEVICES = _except('fleet', fleet_registry.KINDS.NAMES, ('ideal',))
# Rounds that end before all who were asked have reported.
_LATE_ROUNDS = {**_DEVICES, 'timing': ('synchronous',)}
_WITH_EPSILON = ('adagrad', 'adam', 'adamw', 'rmsprop', 'yogi')


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where the clients come from and who of them is trained on."""

    dataset: str = option('emnist', 'The source of the client data.', choices=DATASETS)
    data_path: str | None = option(
        None,
        'A by-client file or folder (npz, csv, parquet, sqlite, images); for emnist, a'
        ' local copy of its SQLite database.',
        only_for=_FILES,
    )
    image_key: str | None = option(
        None,
        'The key or column of the images in --data_path, if it is not found out.',
        only_for=_OWN_FILES,
    )
    label_key: str | None = option(None, 'That of the labels.', only_for=_OWN_FILES)
    client_key: str | None = option(
        None, 'That of the client ids.', only_for=_OWN_FILES
    )
    only_digits: bool = option(
        True,
        'Ten digits; false: all 62 characters (emnist, synthetic_writers).',
        only_for=_CHARACTERS,
    )
    num_writers: int = option(
        200,
        'Clients of a synthetic dataset: writers, or hospitals of lung_phantoms.',
        at_least=1,
        only_for=_SYNTHETIC,
    )
    examples_per_writer: int = option(
        100,
        'Examples of each synthetic writer or hospital.',
        at_least=1,
        only_for=_WRITERS,
    )
    alpha: float = option(
        1.0,
        'How much local models differ in synthetic(alpha, beta).',
        at_least=0,
        only_for=_ALPHA_BETA,
    )
    beta: float = option(
        1.0,
        'How much local data differ in synthetic(alpha, beta).',
        at_least=0,
        only_for=_ALPHA_BETA,
    )
    data_seed: int = option(
        0, 'The seed of synthetic data.', at_least=0, only_for=_SYNTHETIC
    )
    max_clients: int | None = option(
        None, 'Keep only so many clients, the first by name.', at_least=1
    )
    test_fraction: float = option(
        0.1,
        "Share of each client's examples kept for testing, where the source has no"
        ' split of its own.',
        at_least=0,
        below=1,
        only_for=_WITHOUT_SPLIT,
    )
    unseen_fraction: float = option(
        0.1, 'Share of the clients that are never trained on.', at_least=0, below=1
    )
    split_seed: int = option(0, 'The seed of both splits.', at_least=0)

    __repr__ = repr_of_changed


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What is trained."""

    model: str = option(
        'backbone',
        'backbone: a pretrained feature extractor and a head; cnn: two 5x5'
        ' convolutions and a dense layer of 128; mlp: hidden layers alone; several:'
        ' clients have different --architectures; or, to generate images of each class,'
        ' docs/generative.md, cvae: a conditional variational autoencoder,'
        ' diffusion: a small diffusion model, or gan: a generator and a discriminator,'
        ' for --algorithm=fedgan.',
        choices=MODELS,
    )
    backbone: str = option(
        'embedded',
        'embedded, a TF-Hub URL, a SavedModel folder or archive, a .keras or .h5 file,'
        ' ResNet18, ResNet18GroupNorm, or a keras.applications name, for MobileNets'
        ' also with a width: MobileNetV2_035.',
        only_for=_BACKBONE,
    )
    backbone_weights: str | None = option(
        None,
        'For a network by name: random, a file of its weights without the top'
        ' layers, or the folder of a SavedModel of the same network.',
        only_for=_BACKBONE,
    )
    image_size: int | None = option(
        None,
        "Pixels of the side of the backbone's input; its own size if not given. Image"
        ' files of mixed size are brought to it, also without a backbone.',
        at_least=1,
    )
    cache_dtype: str = option(
        'float32',
        'How features are kept on disk: float32, or in fewer bytes float16 or uint8'
        ' with a scale for each feature.',
        choices=('float32', 'float16', 'uint8'),
        only_for={**_BACKBONE, 'finetune': ('head', 'top', 'head_then_all')},
    )
    finetune: str = option(
        'head',
        'What of a backbone is trained, and travels, besides the head: head, nothing;'
        ' top, what is above a cut, whose activations are cached;'
        ' all; head_then_all, all after --head_rounds of the head (LP-FT); bias_norm,'
        ' biases and the scales and shifts of normalisation; adapters,'
        ' low-rank updates of dense and 1x1 convolution kernels (LoRA).',
        choices=FINETUNE,
        only_for=_BACKBONE,
    )
    head_rounds: int | None = option(
        None,
        'For --finetune=head_then_all: how many rounds train the head alone; a third'
        ' of them if not given.',
        at_least=1,
        only_for={'finetune': ('head_then_all',)},
    )
    cut_layer: str | None = option(
        None,
        'For --finetune=top: the last layer below the cut, by its name; a wrong one'
        ' gives the list.',
        only_for={'finetune': ('top',)},
    )
    top_layers: int | None = option(
        None,
        'For --finetune=top, instead of --cut_layer: how many convolution and dense'
        f' layers of the backbone are trained, at least; {TOP_LAYERS} if neither is'
        ' given.',
        at_least=1,
        only_for={'finetune': ('top',)},
    )
    adapter_rank: int = option(
        4,
        'The rank of --finetune=adapters.',
        at_least=1,
        only_for={'finetune': ('adapters',)},
    )
    batch_norm: str = option(
        'frozen',
        'How the BatchNorm layers that are trained normalise: frozen, by the'
        ' statistics that the backbone came with; aggregate, clients by each batch,'
        ' evaluation by averaged statistics; local, the same with statistics and scales'
        ' that stay with each client (FedBN); group_norm, replaced by group'
        ' normalization.',
        choices=BATCH_NORM,
        only_for=_BACKBONE,
    )
    unseen_statistics: str = option(
        'own',
        'For --batch_norm=local: the statistics that unseen clients are evaluated with:'
        ' own, measured on their training examples, without labels; or pretrained.',
        choices=('own', 'pretrained'),
        only_for={'batch_norm': ('local',)},
    )
    head: str = option(
        'linear',
        'The last layer on a backbone: linear; or cosine, with a learned scale.',
        choices=HEADS,
        now={name: f'--algorithm={name}' for name in ('prototype', 'ridge')},
        only_for=_BACKBONE,
    )
    hidden_units: tuple[int, ...] = option(
        (),
        "Sizes of the head's (or mlp's) hidden layers, such as 512,256.",
        at_least=1,
        only_for={'model': ('backbone', 'mlp')},
    )
    architectures: tuple[str, ...] = option(
        (),
        'For --model=several: networks that are dealt to the clients in turn, of cnn,'
        ' mlp:64-32 (hidden layers) and BACKBONE[@CUT][:UNITS-UNITS], a head on what'
        ' a backbone gives, such as embedded:64, or on the means over places of what'
        ' it gives up to a layer or, of a number, without so many top layers, as'
        ' embedded@6.',
        only_for={'model': ('several',), 'algorithm': registry.BY_ANSWERS},
    )
    dropout: float = option(
        0.0,
        "Dropout rate after each of the head's hidden layers.",
        at_least=0,
        below=1,
        only_for=_except('model', MODELS, combinations.GENERATIVE),
    )
    latent_size: int = option(
        16,
        'Numbers of the latent code of a cvae or a gan.',
        at_least=1,
        only_for={'model': ('cvae', 'gan')},
    )
    conditional: bool = option(
        True, 'Whether a gan is told the class of an image.', only_for=_GAN
    )
    gan_loss: str = option(
        'nonsaturating',
        'The losses of a gan: nonsaturating, of Goodfellow et al. 2014; or wasserstein,'
        ' with a penalty of gradients, which costs twice as much.',
        choices=LOSSES,
        only_for=_GAN,
    )
    label_smoothing: float = option(
        0.0,
        'By how much the label of real images is below 1 for the discriminator.',
        at_least=0,
        below=1,
        only_for={**_GAN, 'gan_loss': ('nonsaturating',)},
    )
    noise_schedule: str = option(
        'cosine',
        'How noise grows that a diffusion model takes away: cosine, or linear.',
        choices=tuple(SCHEDULES),
        only_for=_DIFFUSION,
    )
    noise_steps: int = option(
        1000, 'In how many steps it grows.', at_least=2, only_for=_DIFFUSION
    )
    sampling_steps: int = option(
        20,
        'How many of them a diffusion model takes to draw an image.',
        at_least=1,
        only_for=_DIFFUSION,
    )
    start_from: str | None = option(
        None,
        'The run directory of a finished run of the same generative model, or the'
        ' weights.npz in it, whose weights are started from.',
        only_for={'model': combinations.GENERATIVE},
    )
    frozen_parts: tuple[str, ...] = option(
        (),
        'The parts of a generative model that stay as --start_from has them, neither'
        ' trained nor sent; a wrong name gives the list.',
        only_for={'start_from': GIVEN},
    )

    __repr__ = repr_of_changed


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How it is trained."""

    rounds: int = option(150, 'Rounds of training.', at_least=0)
    clients_per_round: int = option(
        20,
        'Clients of a cohort; where they report at different times, as with'
        ' --timing=fedbuff, how many train at once.',
        at_least=1,
        only_for=_APART,
    )
    client_epochs: int = option(
        1,
        'Passes of a client over its examples in a round; with jointft the most.',
        at_least=1,
    )
    min_client_epochs: int | None = option(
        None,
        'Let the passes of clients differ: those of each straggler are drawn from it to'
        ' --client_epochs, anew in each round.',
        at_least=1,
        only_for=_GIVEN_PASSES,
    )
    straggler_fraction: float = option(
        1.0,
        "For --min_client_epochs: the share of a round's clients that are stragglers;"
        ' the others make --client_epochs.',
        at_least=0,
        at_most=1,
        only_for=_UNEQUAL_EPOCHS,
    )
    drop_stragglers: bool = option(
        False,
        "Leave the stragglers' work out, as a server does that does not wait.",
        only_for=_UNEQUAL_EPOCHS,
    )
    over_selection: float = option(
        1.0,
        'How many times as many clients are asked as --clients_per_round, of whom the'
        ' first that report are used.',
        at_least=1,
        only_for=_LATE_ROUNDS,
    )
    deadline: float | None = option(
        None,
        'After how many simulated seconds a round ends, whoever has not reported.',
        above=0,
        only_for=_LATE_ROUNDS,
    )
    client_settings: str | None = option(
        None,
        'A CSV file with how single clients train, by their names: the columns client'
        ' and, of which an empty cell is what all others have, epochs, batch_size and'
        ' learning_rate.',
        only_for=_except('algorithm', registry.NAMES, registry.OF_ALL),
    )
    batch_size: int = option(20, "Examples of a client's batch.", at_least=1)
    max_examples: int | None = option(
        None,
        'The most examples of a client in an epoch.',
        at_least=1,
        only_for=_APART,
    )
    weighting: str = option(
        'examples',
        "A client's weight in the mean: the number of its examples, or uniform.",
        choices=('examples', 'uniform'),
        only_for={**_APART, **_STEPS},
    )
    client_optimizer: str = option(
        'sgd',
        'The optimizer on the clients.',
        choices=OPTIMIZERS,
        only_for=_except('algorithm', registry.NAMES, registry.BY_CLIENT_SGD),
    )
    client_learning_rate: float = option(0.01, 'Learning rate on the clients.', above=0)
    client_schedule: str = option(
        'constant',
        'How the learning rate on the clients changes with the round.',
        choices=schedules.NAMES,
    )
    client_warmup: int = option(
        0, 'Rounds in which the rate on the clients grows to its value.', at_least=0
    )
    client_momentum: float = option(
        0.0,
        'Momentum of sgd on the clients.',
        at_least=0,
        below=1,
        only_for={
            'client_optimizer': ('sgd',),
            **_except('algorithm', registry.NAMES, ('scaffold',)),
        },
    )
    client_epsilon: float = option(
        1e-7,
        'Epsilon of adaptive optimizers on the clients.',
        above=0,
        only_for={'client_optimizer': _WITH_EPSILON},
    )
    server_optimizer: str = option(
        'adam',
        'The optimizer on the server.',
        choices=OPTIMIZERS,
        only_for=_SERVER,
    )
    server_learning_rate: float = option(
        0.02, 'Learning rate on the server.', above=0, only_for=_SERVER
    )
    server_schedule: str = option(
        'constant',
        'How the learning rate on the server changes with the round.',
        choices=schedules.NAMES,
        only_for=_SERVER,
    )
    server_warmup: int = option(
        0,
        'Rounds in which the rate on the server grows to its value.',
        at_least=0,
        only_for=_SERVER,
    )
    server_momentum: float = option(
        0.0,
        'Momentum of sgd on the server.',
        at_least=0,
        below=1,
        only_for={'server_optimizer': ('sgd',), **_SERVER},
    )
    server_epsilon: float = option(
        1e-4,
        'Epsilon of adaptive optimizers on the server: the larger, the less adaptive.',
        above=0,
        only_for={'server_optimizer': _WITH_EPSILON, **_SERVER},
    )
    adaptation_epochs: tuple[int, ...] = option(
        (5,),
        'Where clients have models of their own: passes over its training examples by'
        ' which a client makes one, before its test examples judge it; of several,'
        ' such as 1,5,20, the best on held-out training examples.',
        at_least=1,
        only_for=_except('algorithm', registry.BY_OWN_MODELS, registry.IN_ONE_PASS),
    )
    baselines: bool = option(
        True,
        'Where clients have models of their own: also train, at the end, what they'
        ' could have had instead: the model of federated averaging, that of each client'
        ' alone, and that of all examples in one place.',
        only_for={'algorithm': registry.BY_OWN_MODELS},
    )
    augment_shift: float = option(
        0.0,
        'Move training images at random by up to this share of a side.',
        at_least=0,
        below=1,
        only_for=_IMAGES,
    )
    augment_rotation: float = option(
        0.0,
        'Turn training images at random by up to so many degrees.',
        at_least=0,
        only_for=_IMAGES,
    )
    augment_brightness: float = option(
        0.0,
        'Make training images lighter or darker at random by up to this share of the'
        ' range from black to white.',
        at_least=0,
        only_for=_IMAGES,
    )
    augment_flip: bool = option(
        False, 'Mirror half of the training images, at random.', only_for=_IMAGES
    )
    seed: int = option(
        0,
        'The seed of weights, cohorts and batches, and of noise; 0 with --privacy draws'
        ' one and keeps it in the run directory, in secret_seed.',
        at_least=0,
    )
    attackers: float = option(
        0.2,
        'The share of the seen clients that are hostile.',
        at_least=0,
        below=1,
        only_for={'attack': attack_registry.ATTACKS},
    )
    evaluate_every: int = option(10, 'Rounds between evaluations.', at_least=1)
    early_stop_patience: int | None = option(
        None,
        'Stop after so many evaluations without a better accuracy on the test'
        ' examples of seen clients; with jointft after so many rounds without a lower'
        ' loss on their validation parts.',
        at_least=1,
    )
    on_divergence: str = option(
        'stop',
        'What follows a round whose loss is not finite, or of which no update could be'
        ' used: stop, or continue with a warning.',
        choices=('stop', 'continue'),
    )
    checkpoint_every: int = option(10, 'Rounds between checkpoints.', at_least=1)
    keep_checkpoints: int = option(3, 'How many checkpoints stay.', at_least=1)
    export: str = option(
        'last',
        'Which round is exported: the last; or the best, the first of the highest'
        ' accuracy on the test examples of seen clients.',
        choices=('last', 'best'),
    )
    tflite: bool = option(
        False, 'Also write the trained model as model.tflite, for TensorFlow Lite.'
    )
    export_keras: bool = option(
        False, 'Also write the trained model as model.keras, for Keras.'
    )
    export_client: tuple[str, ...] = option(
        (),
        'Where clients have models of their own: also write those of the clients of'
        ' these names, as clients/NAME/model.',
        only_for=_except('algorithm', registry.BY_OWN_MODELS, registry.BEYOND_WEIGHTS),
    )
    runtime: str = option(
        'compiled',
        'How rounds run: compiled, in this process; cluster, likewise with the clients'
        " on a Ray cluster, docs/cluster.md; or stock, by TFF's own worker.",
        choices=('compiled', 'cluster', 'stock'),
    )
    cluster_address: str | None = option(
        None,
        'For --runtime=cluster: HOST:PORT of its head. A run may go on with another.',
        only_for={'runtime': ('cluster',)},
    )
    compute_dtype: str = option(
        'float32',
        'For --runtime=compiled or cluster: what matrix products and convolutions on'
        ' the clients are computed in; weights stay in float32. float16 is for GPUs.',
        choices=('float32', 'bfloat16', 'float16'),
        only_for={'runtime': ('compiled', 'cluster')},
    )

    __repr__ = repr_of_changed


@dataclasses.dataclass(frozen=True)
class Config:
    """A run's whole configuration, without the place it is written to."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    algorithm: Any = variant(
        FedAvg(),
        'The federated method; python -m experiments.methods lists them, with their'
        ' options --NAME.OPTION.',
        registry,
    )

    distill_from: Any = variant(
        Nobody(),
        'Whom clients learn from beside their examples: nobody; or pretrained, which'
        ' holds features that are fine-tuned to those of the pretrained model, and'
        ' what a generative model makes to what that of --start_from makes. Options as'
        ' of algorithms, such as --pretrained.weight.',
        teachers.KINDS,
    )

    privacy: Any = variant(
        NoPrivacy(),
        "What is promised of clients' data; docs/privacy.md. Options as of algorithms,"
        ' such as --central.target_epsilon.',
        privacy_registry,
    )

    aggregation: Any = variant(
        Plain(),
        'How updates become one: plain, their mean; secure, by secure aggregation,'
        ' docs/secure_aggregation.md; or by one of the rules of docs/robustness.md,'
        ' which bear attackers. Options as of algorithms, such as --secure.clip.',
        aggregation_registry.KINDS,
    )

    compression: Any = variant(
        NoCompression(),
        'How clients send what they learned; docs/compression.md. Options as of'
        ' algorithms, such as --topk.fraction.',
        compression_registry.UP,
    )

    compression_down: Any = variant(
        NoCompression(),
        'How the server sends what clients begin with: float16; uniform8, the nearest'
        ' of 256 levels of each tensor; or federateddropout, a part of the hidden'
        ' units, which clients send back. Options as of algorithms, such as'
        ' --federateddropout.kept.',
        compression_registry.DOWN,
    )

    selection: Any = variant(
        Uniform(),
        'How the clients of a round are chosen; docs/selection.md. Options as of'
        ' algorithms, such as --powerofchoice.d.',
        selection_registry.RULES,
    )

    fleet: Any = variant(
        Ideal(),
        'What clients run on: how fast, how often they are there, and how they fail;'
        ' docs/fleet.md. ideal, never late; drawn, from distributions; trace, of files;'
        ' daynight, there in their night alone, a trace of our own making for'
        ' demonstrations. Options as of algorithms, such as --drawn.speed.',
        fleet_registry.KINDS,
    )

    timing: Any = variant(
        Synchronous(),
        'When the server takes a step: synchronous, after a round; fedbuff, fedasync or'
        ' ca2fl, as clients report that train at the same time, so that --rounds are'
        ' such steps; docs/asynchronous.md. Options as of algorithms, such as'
        ' --fedbuff.buffer.',
        timing_registry.KINDS,
    )

    attack: Any = variant(
        NoAttack(),
        'What hostile clients, --attackers of all, do to training; docs/attacks.md.'
        ' Options as of algorithms, such as --backdoor.target.',
        attack_registry.KINDS,
    )

    __repr__ = repr_of_changed

    @property
    def private(self) -> bool:
        """Whether something is promised of clients' data."""
        return not isinstance(self.privacy, NoPrivacy)

    @property
    def by_rounds(self) -> list[str]:
        """The flags given whose effect hangs on how many rounds there are."""
        sides = ('client_schedule', 'server_schedule')
        found = [name for name in sides if getattr(self.training, name) != 'constant']
        if self.private:
            kind = privacy_registry.name_of(self.privacy)
            found += [f'{kind}.{name}' for name in self.privacy.by_rounds]
        return [f'--{name}' for name in found]

    def check(self) -> None:
        """Checks every value, and those that must fit together.

        Raises:
          UserError: In one line that names the flag.
        """
        chosen = {}
        for field in dataclasses.fields(self):
            part = getattr(self, field.name)
            known = field.metadata.get('registry')
            if known is None:
                if not isinstance(part, field.type):
                    raise UserError(
                        f'{field.name} of a Config is a {type(part).__name__}, but must'
                        f' be a {field.type.__name__}'
                    )
                check(part)
                continue
            name = chosen[field.name] = known.name_of(part)
            if name is None:
                raise UserError(
                    f'{field.name} of a Config is a {type(part).__name__}, but must be'
                    f' one of {known.__name__.rpartition(".")[0]}, such as'
                    f' {type(field.default).__name__}()'
                )
            check(part, f'{name}.')
            check_effects(part, prefix=f'{name}.')
        check_effects(self.data, self.model, self.training, **chosen)
        combinations.check(self)

    def resolved(self) -> 'Config':
        """Returns the same with the values that it leaves to others: what is run."""
        model = self.model
        if model.finetune == 'head_then_all' and model.head_rounds is None:
            rounds = max(self.training.rounds // 3, 1)
            model = dataclasses.replace(model, head_rounds=rounds)
        if model.finetune == 'top' and model.cut_layer is None:
            layers = model.top_layers or TOP_LAYERS
            model = dataclasses.replace(model, top_layers=layers)
        return dataclasses.replace(self, model=model)
