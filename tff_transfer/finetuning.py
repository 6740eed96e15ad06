"""Which weights of a backbone are trained, and how: fine-tuning strategies."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import functional, models, randomness
from tff_transfer.backbones import Backbone
from tff_transfer.errors import UserError
from tff_transfer.features import Standardisation


@dataclasses.dataclass(frozen=True)
class Parameters:
    """What is trained of a network.

    Attributes:
      initial: The trained arrays.
      compose: Makes all weights of the network, in its order, of tensors like
        `initial`.
    """

    initial: tuple[np.ndarray, ...]
    compose: Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]


def whole(network: functional.FunctionalNetwork) -> Parameters:
    """Trains all weights that are meant to be trained."""
    return _chosen(network, lambda weight: True)


def bias_norm(network: functional.FunctionalNetwork) -> Parameters:
    """Trains the vectors: biases, and the scales and shifts of normalisation.

    Cai et al. 2020, "TinyTL"; Frankle et al. 2021, "Training BatchNorm and only
    BatchNorm".
    """
    return _chosen(network, lambda weight: weight.value.ndim <= 1)


def _chosen(network, wanted: Callable[[functional.Weight], bool]) -> Parameters:
    chosen = [w.trainable and wanted(w) for w in network.weights]
    initial = tuple(
        w.value for w, yes in zip(network.weights, chosen, strict=True) if yes
    )

    def compose(trained):
        rest = iter(trained)
        return [
            next(rest) if yes else tf.constant(w.value)
            for w, yes in zip(network.weights, chosen, strict=True)
        ]

    return Parameters(initial, compose)


def adapters(
    network: functional.FunctionalNetwork, rank: int, seed: int = 0
) -> Parameters:
    """Trains low-rank updates of the kernels of dense and 1x1 convolution layers.

    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models": a kernel W
    [..., inputs, outputs] becomes W + A B with A [inputs, rank], normal with variance
    1 / inputs, and B [rank, outputs], zero. Layers of no more inputs or outputs than
    `rank` are left as they are.

    Args:
      network: The network.
      rank: The rank of the updates.
      seed: The seed of A.
    """
    initial, places = [], []
    for number, weight in enumerate(network.weights):
        if not _is_adapted(weight, rank):
            continue
        inputs, outputs = weight.value.shape[-2:]
        draw = randomness.generator(seed, 'adapters', number)
        a = draw.normal(scale=inputs**-0.5, size=(inputs, rank))
        initial += [a.astype(np.float32), np.zeros((rank, outputs), np.float32)]
        places.append(number)

    def compose(trained):
        values = [tf.constant(w.value) for w in network.weights]
        pairs = zip(trained[::2], trained[1::2], strict=True)
        for place, (a, b) in zip(places, pairs, strict=True):
            values[place] += tf.reshape(a @ b, values[place].shape)
        return values

    return Parameters(tuple(initial), compose)


def _is_adapted(weight: functional.Weight, rank: int) -> bool:
    *window, inputs, outputs = (
        np.shape(weight.value) if weight.value.ndim > 1 else [0] * 2
    )
    return (
        weight.trainable
        and bool(weight.used_by & {'MatMul', 'Conv2D'})
        and all(side == 1 for side in window)
        and min(inputs, outputs) > rank
    )


def finetuned(
    backbone: Backbone,
    head: models.Model,
    standardise: Standardisation,
    images: tf.TensorSpec,
    choose: Callable[[functional.FunctionalNetwork], Parameters],
) -> models.Model:
    """Makes a model of raw images in which weights of the backbone are trained.

    BatchNorm uses the moving statistics that the backbone comes with, in training as
    in evaluation, and they stay as they are: clients see few examples of few classes,
    whose own statistics would be another network's (TFF's issue 910).

    Args:
      backbone: The backbone; what it holds is where training starts.
      head: The head.
      standardise: What is done to features before the head; it stays as it is.
      images: One batch of raw images.
      choose: The strategy, such as `whole`.

    Returns:
      The model. Its weights are the backbone's trained ones, then the head's.

    Raises:
      UserError: The strategy finds nothing to train in the backbone, or the backbone
        is no network whose weights can be trained.
    """
    size = tf.TensorSpec([None, *backbone.image_size, backbone.preprocess.channels])
    network = functional.trace(backbone.network, size, training=False)
    parameters = choose(network)
    if not parameters.initial:
        raise UserError(
            f'the backbone {backbone.name} has no weights of the kind that this'
            ' fine-tuning strategy trains; use another strategy, such as head'
        )
    count = len(parameters.initial)

    @tf.function(autograph=False)
    def predict(model_weights, x, training):
        trained = model_weights[0]
        raw = x['inputs'] if head.takes_keys else x
        # Nobody asks for gradients to the images, and what is cheap for uint8 alone
        # must not cost for floats.
        prepared = tf.stop_gradient(backbone.preprocess(raw))
        found = network.inline(parameters.compose(trained[:count]), prepared)
        inputs = standardise(found)
        if head.takes_keys:
            inputs = {**x, 'inputs': inputs}
        return head.functional.predict_on_batch(
            (trained[count:], ()), inputs, training=training
        )

    spec = images
    if head.takes_keys:
        spec = type(head.functional.input_spec['x'])(
            head.functional.input_spec['x'], inputs=images
        )
    initial = [*parameters.initial, *head.functional.initial_weights[0]]
    return models.Model(
        models.functional_model(initial, predict, spec), head.network, head.takes_keys
    )
