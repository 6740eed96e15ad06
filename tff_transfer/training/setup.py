"""From a configuration, clients and a backbone to inputs and a model."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_transfer import backbones, features, models, reprs
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.ridge import Ridge
from tff_transfer.data.augmentation import Augmentation
from tff_transfer.data.cohorts import num_held_out
from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.errors import UserError
from tff_transfer.models import finetuning, heads
from tff_transfer.models.below import Below
from tff_transfer.networks import batch_norm, functional
from tff_transfer.training import architectures, generative, public_clients, sizes
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import BY_BATCHES, GENERATIVE, ModelConfig
from tff_transfer.training.training_config import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that is made before the first round.

    Attributes:
      data: The population; its `x` are features if the backbone is frozen, else raw.
      seen: The numbers of the clients that train.
      unseen: The numbers of those that are only evaluated.
      transform: Makes the model's inputs of rows of `data.x`.
      model: The model that is trained.
      from_images: Makes the model's inputs, float32 [batch, ...], of raw inputs as
        the data's source has them, in TensorFlow: what `model/` is exported with.
      input_spec: One batch of raw inputs.
      first: What is trained in the first rounds instead, if anything: the head, whose
        weights this one then starts from.
      below: What stands under the head, where there is a backbone.
      augment: What is done to training images, rows of `data.x`, if anything is (see
        `cohorts.training_cohort`).
      triggered: Examples of unseen clients with the trigger of a backdoor, where there
        is one; their `x` are the model's inputs.
      public: Examples of a file that are the server's own, as those of one client,
        where it has such; their `x` are the model's inputs, and `y` tells nothing.
    """

    data: FederatedData
    seen: np.ndarray
    unseen: np.ndarray
    transform: Callable[[np.ndarray], np.ndarray]
    model: models.Model
    from_images: Callable[[tf.Tensor], tf.Tensor]
    input_spec: tf.TensorSpec
    first: 'Setup | None' = None
    below: Below | None = None
    augment: Augmentation | None = None
    triggered: FederatedData | None = None
    public: FederatedData | None = None

    __repr__ = reprs.of_fields


def head_or_network(
    config: Config,
    data: FederatedData,
    backbone: backbones.Backbone | None,
    head: Callable[[int, int], tf.keras.Model] | None = None,
) -> models.Model:
    """Makes the head on a backbone or, without one, the whole network.

    Args:
      config: The configuration, checked and resolved.
      data: The population, such as `load_data` gives.
      backbone: The backbone, such as `load_backbone` gives.
      head: A function of (feature size, classes) that makes a Keras network to use
        instead of the head that `config.model` describes.

    Returns:
      The model, with its initial weights.

    Raises:
      UserError: The head or the network does not fit the rest.
    """
    if config.model.model == 'several':
        return _architectures(config, data).model
    if config.model.model != 'mlp' and data.x.ndim != 4:
        raise UserError(
            f'{data.name} has vectors, no images, but --model={config.model.model}'
            ' needs images; use --model=mlp'
        )
    if backbone is None:
        if head is not None:
            raise UserError('a head of your own needs --model=backbone to stand on')
        return _plain_model(config, data)
    if head is None:
        return models.mlp(
            (backbone.feature_size,),
            data.num_classes,
            config.model.hidden_units,
            config.model.dropout,
            config.training.seed,
            cosine=config.model.head == 'cosine',
        )
    name = registry.name_of(config.algorithm)
    if name in registry.OF_ONE_ROUND:
        raise UserError(
            f'a head of your own is trained, but --algorithm={name} computes one; give'
            ' one of them'
        )
    for name in ('head', 'hidden_units', 'dropout'):
        value = getattr(config.model, name)
        if value != getattr(ModelConfig, name):
            raise UserError(
                f'a head of your own and {name}={value!r} are both given; give one'
            )
    return models.from_keras(heads.own(head, backbone.feature_size, data.num_classes))


def _split(config: Config, data: FederatedData) -> tuple[np.ndarray, np.ndarray]:
    """Returns the numbers of seen and unseen clients, who must be enough.

    Raises:
      UserError: They, or their examples, are not.
    """
    seen, unseen = split_clients(
        len(data), config.data.unseen_fraction, config.data.split_seed
    )
    if config.training.clients_per_round > len(seen) and not _of_all(config):
        raise UserError(
            f'--clients_per_round={config.training.clients_per_round}, but {data.name}'
            f' has {len(seen)} clients to train on; give at most that'
        )
    train = public_clients.count_training(config, data.name, len(seen))
    config.selection.check(config.training.clients_per_round, train)
    trained = data.y[data.is_train & np.isin(data.client_of_row, seen)]
    least, needs = 2, 'examples of two classes or more'
    if config.model.model in GENERATIVE:
        least, needs = 1, 'examples'
    if len(np.unique(trained)) < least:
        found = f'all {len(trained)} are of one class' if len(trained) else 'has none'
        raise UserError(
            f'{data.name}: training needs {needs}, but {found}; give others too'
        )
    if config.training.early_stop_patience is not None:
        _check_early_stop(config, data, seen)
    if config.algorithm == Ridge() and not data.num_test[seen].any():
        raise UserError(
            f'{data.name}: seen clients have no test examples to choose the penalty of'
            ' ridge regression on; give --ridge.penalty or a --test_fraction'
        )
    return seen, unseen


def _check_early_stop(config: Config, data: FederatedData, seen: np.ndarray) -> None:
    """Checks that there are examples to stop early by."""
    judges, count = 'test examples', data.num_test[seen]
    more = 'a --test_fraction'
    if registry.name_of(config.algorithm) in registry.BY_OWN_PASSES:
        judges, more = 'validation parts', 'a larger --jointft.validation_fraction'
        count = np.minimum(data.num_train[seen], config.training.max_examples or np.inf)
        count = num_held_out(count, config.algorithm.validation_fraction).numpy()
    if not count.any():
        raise UserError(
            f'--early_stop_patience is judged on the {judges} of seen clients, but'
            f' {data.name} has none; give {more}, or leave it out'
        )


def prepare(
    config: Config,
    data: FederatedData,
    backbone: backbones.Backbone | None,
    model: models.Model,
) -> Setup:
    """Makes all that a run needs before its first round.

    Args:
      config: The configuration, checked and resolved.
      data: The population, such as `load_data` gives.
      backbone: The backbone, such as `load_backbone` gives.
      model: What `head_or_network` gives.

    Returns:
      The setup.

    Raises:
      UserError: If something named cannot be had or does not fit.
    """
    seen, unseen = _split(config, data)
    spec = tf.TensorSpec([None, *data.x.shape[1:]], data.x.dtype)
    if config.model.model == 'several':
        found = _architectures(config, data)
        of_rows, from_images = found.rows(data, seen)
        _check_rounds(config, data, seen, of_rows.x[:1].nbytes, model)
        return Setup(of_rows, seen, unseen, _same, model, from_images, spec)
    if backbone is None:
        _check_rounds(config, data, seen, data.x[:1].nbytes, model)
        augment = augmentation(config.training, data)
        return Setup(data, seen, unseen, _same, model, _same, spec, augment=augment)
    in_training = None
    if config.model.batch_norm in BY_BATCHES:
        in_training = backbone.trace(training=True)
    if config.model.finetune in ('head', 'head_then_all'):
        _check_rounds(config, data, seen, 4 * backbone.feature_size, model)
        extracted = features.extract(backbone, data, dtype=config.model.cache_dtype)
        of_features = data.with_x(extracted)
    else:
        sampled = backbone
        if in_training is not None:
            # Random weights give features of quite another scale by batches.
            sampled = dataclasses.replace(backbone, functional=in_training)
        of_features = features.of_sample(sampled, data, seen, config.training.seed)
    if config.private:
        # Means over clients would tell of them, and no noise is added to these.
        standardise = features.ByExample()
    else:
        standardise = features.standardisation(of_features, seen)
    if config.model.finetune != 'head':
        standardise = standardise.of_one_scale()

    def from_images(images):
        return standardise(backbone(images))

    of_head = Setup(
        of_features,
        seen,
        unseen,
        standardise,
        model,
        from_images,
        spec,
        below=Below(backbone, standardise),
    )
    if config.model.finetune == 'head':
        return of_head
    return _finetuned(config, data, backbone, of_head, in_training)


def _finetuned(
    config: Config,
    data: FederatedData,
    backbone: backbones.Backbone,
    of_head: Setup,
    in_training: functional.FunctionalNetwork | None,
) -> Setup:
    """Returns the setup of a head with some of its backbone trained too.

    `in_training` is the backbone's network with the statistics of batches, where these
    are trained.
    """
    model, head, spec = config.model, of_head.model, of_head.input_spec
    seen, unseen, standardise = of_head.seen, of_head.unseen, of_head.transform
    network = backbone.functional
    frozen = None
    if model.finetune == 'top':
        frozen, network, place = finetuning.cut(
            backbone, layer=model.cut_layer, top_layers=model.top_layers
        )
        data = data.with_x(features.extract(frozen, data, dtype=model.cache_dtype))
        if in_training is not None:
            _, in_training = in_training.split(place)
    _check_rounds(config, data, seen, data.x[:1].nbytes, head)
    if model.finetune == 'adapters':
        seed = config.training.seed
        parameters = finetuning.adapters(network, model.adapter_rank, seed)
    elif model.finetune == 'bias_norm':
        parameters = finetuning.bias_norm(network)
    else:
        parameters = finetuning.whole(network)
    statistics = None if in_training is None else batch_norm.find(in_training)
    trained = finetuning.finetuned(
        network,
        parameters,
        head,
        standardise,
        spec if frozen is None else network.input_spec,
        backbone.preprocess if frozen is None else tf.identity,
        statistics,
        local=model.batch_norm == 'local',
        unseen=model.unseen_statistics,
    )
    from_images = _same if frozen is None else frozen
    first = of_head if model.finetune == 'head_then_all' else None
    below = Below(backbone, standardise, network, parameters, statistics)
    augment = augmentation(config.training, data)
    return Setup(
        data,
        seen,
        unseen,
        _same,
        trained,
        from_images,
        spec,
        first,
        below,
        augment,
    )


def augmentation(config: TrainingConfig, data: FederatedData) -> Augmentation | None:
    """Returns what a configuration does to training images, if it does anything.

    Raises:
      UserError: The data hold no images.
    """
    wanted = Augmentation(
        config.augment_shift,
        config.augment_rotation,
        config.augment_brightness,
        config.augment_flip,
    )
    if wanted == Augmentation():
        return None
    if data.x.ndim != 4:
        raise UserError(
            f'--augment_shift and its like change images, but {data.name} has vectors;'
            ' leave them out'
        )
    return wanted


def _check_rounds(config, data, seen, row: int, model: models.Model) -> None:
    examples, training = data.num_train[seen], config.training
    if registry.name_of(config.algorithm) in registry.BY_OWN_PASSES:
        training = dataclasses.replace(training, client_epochs=1)
    sizes.check_rounds(
        training, examples, row, model.each_network, of_all=_of_all(config)
    )


def _architectures(config: Config, data: FederatedData) -> architectures.Together:
    return architectures.together(
        config.model.architectures, data, config.training.seed
    )


def _of_all(config: Config) -> bool:
    return registry.name_of(config.algorithm) in registry.OF_ALL


def _same(x):
    return x


def _plain_model(config: Config, data: FederatedData) -> models.Model:
    if config.model.model in GENERATIVE:
        return generative.model_of(config, data)
    arguments = {
        'dropout': config.model.dropout,
        'seed': config.training.seed,
        'dtype': data.x.dtype,
    }
    shape, classes = data.x.shape[1:], data.num_classes
    if config.model.model == 'cnn':
        return models.cnn(shape, classes, **arguments)
    return models.mlp(shape, classes, config.model.hidden_units, **arguments)
