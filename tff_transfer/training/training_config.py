"""The part of a configuration that says how it is trained."""

import dataclasses

from tff_transfer.algorithms import registry
from tff_transfer.attacks import registry as attack_registry
from tff_transfer.options import all_but, option, repr_of_changed
from tff_transfer.training.data_config import DATASETS
from tff_transfer.training.optimizers_config import OptimizersConfig
from tff_transfer.training.rounds_config import RoundsConfig

# What options are for (see `options.option`).
_IMAGES = all_but('dataset', DATASETS, ('synthetic_alpha_beta',))


# Of several classes a dataclass has the options of the last one first.
@dataclasses.dataclass(frozen=True)
class TrainingConfig(OptimizersConfig, RoundsConfig):
    """How it is trained."""

    adaptation_epochs: tuple[int, ...] = option(
        (5,),
        'Where clients have models of their own: passes over its training examples by'
        ' which a client makes one, before its test examples judge it; of several,'
        ' such as 1,5,20, the best on held-out training examples.',
        at_least=1,
        only_for=all_but('algorithm', registry.BY_OWN_MODELS, registry.IN_ONE_PASS),
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
        only_for=all_but('algorithm', registry.BY_OWN_MODELS, registry.BEYOND_WEIGHTS),
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
