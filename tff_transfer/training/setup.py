"""From a configuration to what a run needs: data, inputs, a model and a process."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import (
    backbones,
    batch_norm,
    features,
    finetuning,
    functional,
    models,
)
from tff_transfer.algorithms import aggregated_batch_norm, fed_bn
from tff_transfer.backbones import group_norm
from tff_transfer.data import (
    by_client,
    emnist,
    synthetic_alpha_beta,
    synthetic_writers,
)
from tff_transfer.data.augmentation import Augmentation
from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.errors import UserError
from tff_transfer.training import keras_file, optimizers
from tff_transfer.training.config import (
    BY_BATCHES,
    Config,
    DataConfig,
    TrainingConfig,
)


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
      tracked: TensorFlow objects that `from_images` uses.
      input_spec: One batch of raw inputs.
      first: What is trained in the first rounds instead, if anything: the head, whose
        weights this one then starts from.
      below: What stands under the head, where there is a backbone.
      augment: What is done to training images, rows of `data.x`, if anything is (see
        `cohorts.training_cohort`).
    """

    data: FederatedData
    seen: np.ndarray
    unseen: np.ndarray
    transform: Callable[[np.ndarray], np.ndarray]
    model: models.Model
    from_images: Callable[[tf.Tensor], tf.Tensor]
    tracked: object
    input_spec: tf.TensorSpec
    first: 'Setup | None' = None
    below: keras_file.Below | None = None
    augment: Augmentation | None = None


def load_data(config: DataConfig) -> FederatedData:
    """Loads the clients that a configuration names.

    Raises:
      UserError: If the source cannot be reached or read.
    """
    splits = {'test_fraction': config.test_fraction, 'split_seed': config.split_seed}
    if config.dataset == 'emnist':
        data = emnist.load(only_digits=config.only_digits, path=config.data_path)
    elif config.dataset == 'by_client':
        data = by_client.load(config.data_path, **splits)
    elif config.dataset == 'synthetic_writers':
        data = synthetic_writers.generate(
            config.num_writers,
            config.examples_per_writer,
            seed=config.data_seed,
            classes=10 if config.only_digits else 62,
            test_fraction=config.test_fraction,
        )
    else:
        data = synthetic_alpha_beta.generate(
            config.alpha,
            config.beta,
            num_clients=config.num_writers,
            seed=config.data_seed,
            **splits,
        )
    if config.max_clients is not None:
        data = data.select(range(min(config.max_clients, len(data))))
    return data


def load_backbone(config: Config) -> backbones.Backbone | None:
    """Loads the backbone that a configuration names, if it names one.

    Raises:
      UserError: If it cannot be had.
    """
    if config.model.model != 'backbone':
        return None
    backbone = backbones.load(
        config.model.backbone,
        image_size=config.model.image_size,
        weights=config.model.backbone_weights,
        seed=config.training.seed,
    )
    if config.model.batch_norm == 'group_norm':
        return group_norm.replaced(backbone)
    return backbone


def prepare(
    config: Config,
    data: FederatedData,
    backbone: backbones.Backbone | None,
    *,
    head: Callable[[int, int], tf.keras.Model] | None = None,
) -> Setup:
    """Makes all that a run needs before its first round.

    Args:
      config: The configuration, checked.
      data: The population, such as `load_data` gives.
      backbone: The backbone, such as `load_backbone` gives.
      head: A function of (feature size, classes) that makes a Keras network to use
        instead of the head that `config.model` describes.

    Returns:
      The setup.

    Raises:
      UserError: If something named cannot be had or does not fit.
    """
    seen, unseen = split_clients(
        len(data), config.data.unseen_fraction, config.data.split_seed
    )
    if config.training.clients_per_round > len(seen):
        raise UserError(
            f'--clients_per_round={config.training.clients_per_round}, but {data.name}'
            f' has {len(seen)} clients to train on; give at most that'
        )
    images = data.x.ndim == 4
    if config.model.model != 'mlp' and not images:
        raise UserError(
            f'{data.name} has vectors, no images, but --model={config.model.model}'
            ' needs images; use --model=mlp'
        )
    spec = tf.TensorSpec([None, *data.x.shape[1:]], data.x.dtype)
    if backbone is None:
        if head is not None:
            raise UserError('a head of your own needs --model=backbone to stand on')
        model = _plain_model(config, data)
        augment = augmentation(config.training, data)
        return Setup(
            data, seen, unseen, _same, model, _same, None, spec, augment=augment
        )
    if head is not None and config.model.head != 'linear':
        raise UserError(
            f'a head of your own and head={config.model.head!r} are both given;'
            ' give one'
        )
    if head is not None:
        model = models.from_keras(head(backbone.feature_size, data.num_classes))
    else:
        model = models.mlp(
            (backbone.feature_size,),
            data.num_classes,
            config.model.hidden_units,
            config.model.dropout,
            config.training.seed,
            cosine=config.model.head == 'cosine',
        )
    if config.training.export_keras:
        keras_file.check(backbone, model.network, spec)
    in_training = None
    if config.model.batch_norm in BY_BATCHES:
        in_training = finetuning.traced(backbone, training=True)
    if config.model.finetune in ('head', 'head_then_all'):
        extracted = features.extract(backbone, data, dtype=config.model.cache_dtype)
        of_features = data.with_x(extracted)
    else:
        sampled = backbone
        if in_training is not None:
            # Random weights give features of quite another scale by batches.
            sampled = finetuning.as_in_training(backbone, in_training)
        of_features = features.of_sample(sampled, data, seen, config.training.seed)
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
        backbone.network,
        spec,
        below=keras_file.Below(backbone, standardise),
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
    network = finetuning.traced(backbone)
    frozen = None
    if model.finetune == 'top':
        frozen, network, place = finetuning.cut(
            backbone, network, layer=model.cut_layer, top_layers=model.top_layers
        )
        data = data.with_x(features.extract(frozen, data, dtype=model.cache_dtype))
        if in_training is not None:
            _, in_training = in_training.split(place)
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
    below = keras_file.Below(backbone, standardise, network, parameters, statistics)
    augment = augmentation(config.training, data)
    return Setup(
        data,
        seen,
        unseen,
        _same,
        trained,
        from_images,
        None,
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


def _same(x):
    return x


def _plain_model(config: Config, data: FederatedData) -> models.Model:
    arguments = {
        'dropout': config.model.dropout,
        'seed': config.training.seed,
        'dtype': data.x.dtype,
    }
    shape, classes = data.x.shape[1:], data.num_classes
    if config.model.model == 'cnn':
        return models.cnn(shape, classes, **arguments)
    return models.mlp(shape, classes, config.model.hidden_units, **arguments)


def build_process(
    config: TrainingConfig, model: models.Model
) -> tff.templates.IterativeProcess:
    """Builds federated averaging (McMahan et al. 2017; with a server optimizer,
    Reddi et al. 2021) as `tff.learning.algorithms.build_weighted_fed_avg`, or as
    `algorithms` does for a model whose BatchNorm is trained.
    """
    client = optimizers.build(
        config.client_optimizer,
        config.client_learning_rate,
        momentum=config.client_momentum,
        epsilon=config.client_epsilon,
    )
    server = optimizers.build(
        config.server_optimizer,
        config.server_learning_rate,
        momentum=config.server_momentum,
        epsilon=config.server_epsilon,
    )
    if model.statistics is None:
        return tff.learning.algorithms.build_weighted_fed_avg(
            model.functional, client, server
        )
    if model.statistics.local:
        return fed_bn.build(model, client, server)
    return aggregated_batch_norm.build(model, client, server)
