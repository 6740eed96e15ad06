"""Which weights of a backbone are trained, and how: fine-tuning strategies."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import models, randomness, reprs
from tff_transfer.backbones import Backbone
from tff_transfer.errors import UserError
from tff_transfer.features.scaling import ByExample, Standardisation
from tff_transfer.models.model import body_and_head
from tff_transfer.networks import functional
from tff_transfer.networks.batch_norm import BatchNorm


@dataclasses.dataclass(frozen=True)
class Parameters:
    """What is trained of a network.

    Attributes:
      initial: The trained arrays.
      numbers: The number of the weight that each of them is itself; None where it is
        only a part of one.
      compose: Makes all weights of the network, in its order, of tensors like
        `initial`.
    """

    initial: tuple[np.ndarray, ...]
    numbers: tuple[int | None, ...]
    compose: Callable[[Sequence[tf.Tensor]], list[tf.Tensor]]

    __repr__ = reprs.of_fields


def whole(network: functional.FunctionalNetwork) -> Parameters:
    """Trains all weights that are meant to be trained."""
    return chosen(network, lambda weight: True)


def bias_norm(network: functional.FunctionalNetwork) -> Parameters:
    """Trains the vectors: biases, and the scales and shifts of normalisation.

    Cai et al. 2020, "TinyTL"; Frankle et al. 2021, "Training BatchNorm and only
    BatchNorm".
    """
    return chosen(network, lambda weight: weight.value.ndim <= 1)


def chosen(
    network: functional.FunctionalNetwork, wanted: Callable[[functional.Weight], bool]
) -> Parameters:
    """Trains those of the weights meant to be trained of which `wanted` is true."""
    numbers = tuple(
        i for i, w in enumerate(network.weights) if w.trainable and wanted(w)
    )

    def compose(trained):
        values = [tf.constant(w.value) for w in network.weights]
        for number, value in zip(numbers, trained, strict=True):
            values[number] = value
        return values

    return Parameters(
        tuple(network.weights[i].value for i in numbers), numbers, compose
    )


def adapters(
    network: functional.FunctionalNetwork, rank: int, seed: int = 0
) -> Parameters:
    """Trains low-rank updates of the kernels of dense and 1x1 convolution layers.

    Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models": a kernel W
    [..., inputs, outputs] becomes W + A B with A [inputs, rank], normal with variance
    1 / inputs, and B [rank, outputs], zero. Layers of no more inputs or outputs than
    `rank` are left as they are. The server averages A and B each by itself (FedIT,
    Zhang et al. 2023, "Towards building the federated GPT"), which is not the average
    of the updates A B (Sun et al. 2024, "Improving LoRA in privacy-preserving
    federated learning", whose FFA-LoRA therefore trains B alone).

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

    return Parameters(tuple(initial), (None,) * len(initial), compose)


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


def cut(
    backbone: Backbone,
    *,
    layer: str | None = None,
    top_layers: int | None = None,
) -> tuple[Backbone, functional.FunctionalNetwork, str]:
    """Cuts a network into what stays frozen and the top, which may be trained.

    Args:
      backbone: The backbone.
      layer: The last layer below the cut, by its name.
      top_layers: Instead: how many convolution and dense layers stand above the cut,
        at least: a residual block is not cut.

    Returns:
      What maps raw images to the activations at the cut, the top, and the place of
      the cut (see `FunctionalNetwork.split`).

    Raises:
      UserError: The network cannot be cut there; the message has the names of layers
        where it can.
    """
    network = backbone.functional
    cuts = network.cuts()
    if layer is not None:
        found = [name for name in cuts if layer in name.split('/')]
        if not found:
            layers = dict.fromkeys(name.split('/')[-2] for name in cuts if '/' in name)
            raise UserError(
                f'the backbone {backbone.name} cannot be cut after a layer {layer};'
                f' it can after {", ".join(layers)}'
            )
        place = found[-1]
    else:
        deep = (
            name for name in reversed(cuts) if _kernels(network, name) >= top_layers
        )
        place = next(deep, None)
        if place is None:
            raise UserError(
                f'the backbone {backbone.name} has fewer than {top_layers} layers above'
                ' any place where it can be cut; ask for fewer'
            )
    below, top = network.split(place)
    return dataclasses.replace(backbone, functional=below), top, place


def _kernels(network: functional.FunctionalNetwork, place: str) -> int:
    _, top = network.split(place)
    return sum(w.trainable and w.value.ndim > 1 for w in top.weights)


def finetuned(
    network: functional.FunctionalNetwork,
    parameters: Parameters,
    head: models.Model,
    standardise: Standardisation | ByExample,
    inputs: tf.TensorSpec,
    prepare: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    statistics: BatchNorm | None = None,
    *,
    local: bool = False,
    unseen: str = 'own',
) -> models.Model:
    """Makes a model that trains a network under a head.

    Args:
      network: A backbone's network, or the top of it.
      parameters: What is trained of it.
      head: The head.
      standardise: What is done to features before the head; it stays as it is.
      inputs: One batch of what the model takes.
      prepare: Makes the network's inputs of that, such as a backbone's `preprocess`.
      statistics: The network's BatchNorm, traced in training, if it is not frozen:
        training then uses each batch's statistics.
      local: Whether these, and the scales, stay with each client.
      unseen: As `models.BatchStatistics.unseen`.

    Returns:
      The model. Its weights are the network's trained ones, then the head's, then
      the statistics.

    Raises:
      UserError: Nothing of the network would be trained.
    """
    if not parameters.initial:
        raise UserError(
            'the backbone has no weights of the kind that this fine-tuning strategy'
            ' trains; use another strategy, such as head'
        )
    count = len(parameters.initial)

    def classify(call, of_head, model_weights, x, training):
        trained, moving = model_weights
        raw = x['inputs'] if head.takes_keys else x
        # Nobody asks for gradients to the inputs.
        prepared = tf.stop_gradient(prepare(raw))
        values = parameters.compose(trained[:count])
        if statistics is not None:
            values = statistics.with_statistics(values, moving)
        output, *measured = call(values, prepared)
        found = standardise(output)
        if head.takes_keys:
            found = {**x, 'inputs': found}
        return of_head((trained[count:], ()), found, training=training), *measured

    def as_in_evaluation(values, prepared):
        return (network.inline(values, prepared),)

    to_logits = head.functional.predict_on_batch

    @tf.function(autograph=False)
    def step(model_weights, x):
        return classify(statistics.inline_step, to_logits, model_weights, x, True)

    @tf.function(autograph=False)
    def predict(model_weights, x, training):
        if training and statistics is not None:
            return step(model_weights, x)[0]
        return classify(as_in_evaluation, to_logits, model_weights, x, training)[0]

    @tf.function(autograph=False)
    def represent(model_weights, x, training):
        by_batch = training and statistics is not None
        call = statistics.inline_step if by_batch else as_in_evaluation
        found, *measured = classify(
            call, head.representation, model_weights, x, training
        )
        return *found[:2], tuple(measured[0]) if by_batch else ()

    spec = inputs
    if head.takes_keys:
        of_head = head.functional.input_spec['x']
        spec = type(of_head)(of_head, inputs=inputs)
    initial = [*parameters.initial, *head.functional.initial_weights[0]]
    moving, trained_statistics = (), None
    if statistics is not None:
        moving = statistics.initial
        scales = frozenset(
            place
            for place, number in enumerate(parameters.numbers)
            if number in statistics.scales
        )
        trained_statistics = models.BatchStatistics(step, scales, local, unseen)
    return models.Model(
        models.functional_model(initial, predict, spec, moving, head.task),
        head.network,
        head.takes_keys,
        head.fingerprint,
        trained_statistics,
        represent if head.representation else None,
        head.representation is not None,
        task=head.task,
        parts=body_and_head(count, len(initial)),
    )
