"""The part of a configuration that says what is trained."""

import dataclasses

from tff_transfer.algorithms import registry
from tff_transfer.models.generative.gan import LOSSES
from tff_transfer.models.generative.noise_schedules import SCHEDULES
from tff_transfer.options import GIVEN, all_but, option, repr_of_changed

# Those that generate images of each class.
GENERATIVE = ('cvae', 'diffusion', 'gan')
MODELS = ('backbone', 'cnn', 'mlp', 'several', *GENERATIVE)
FINETUNE = ('head', 'top', 'all', 'head_then_all', 'bias_norm', 'adapters')
BATCH_NORM = ('frozen', 'local', 'aggregate', 'group_norm')
# The policies that train with the statistics of batches.
BY_BATCHES = ('local', 'aggregate')
HEADS = ('linear', 'cosine')

# What --finetune=top trains where no cut is given: see docs/finetuning.md.
TOP_LAYERS = 6

# What options are for (see `options.option`).
_BACKBONE = {'model': ('backbone',)}
_DIFFUSION = {'model': ('diffusion',)}
_GAN = {'model': ('gan',)}


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
        only_for=all_but('model', MODELS, GENERATIVE),
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
        only_for={'model': GENERATIVE},
    )
    frozen_parts: tuple[str, ...] = option(
        (),
        'The parts of a generative model that stay as --start_from has them, neither'
        ' trained nor sent; a wrong name gives the list.',
        only_for={'start_from': GIVEN},
    )

    __repr__ = repr_of_changed
