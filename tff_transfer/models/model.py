"""What is trained: a Keras network as the functional model that TFF trains."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import reprs
from tff_transfer.errors import UserError
from tff_transfer.models import metrics
from tff_transfer.models.task import CLASSIFICATION, Task
from tff_transfer.networks import tracing


@dataclasses.dataclass(frozen=True)
class BatchStatistics:
    """How a model whose BatchNorm is trained uses the statistics of batches.

    Attributes:
      step: A `tf.function` of ((trained weights, statistics), x) that gives the
        logits as in training and the batch's statistics (see `batch_norm`).
      scales: The numbers of the trained weights that are BatchNorm's own.
      local: Whether scales and statistics stay with each client, instead of being
        averaged.
      unseen: Then, which statistics clients that never took part use: `own`, measured
        on their examples, or `pretrained`.
    """

    step: Callable
    scales: frozenset[int]
    local: bool
    unseen: str

    __repr__ = reprs.of_fields


@dataclasses.dataclass(frozen=True)
class Model:
    """What is trained, for TFF.

    Attributes:
      functional: A `tff.learning.models.FunctionalModel` whose batches are `x` and
        `y`, with loss and metrics of the task. Its trainable weights are those
        that are trained, and no others; its non-trainable ones are BatchNorm's
        statistics where these are not frozen.
      network: The head, or the whole network where there is no backbone; None where
        it is one of several: a
        `tf.keras.Model` to logits float32 [batch, classes] with its initial weights.
        The last of the trained weights are its `trainable_variables`.
      takes_keys: Whether training draws random numbers; the batches' `x` then holds
        `inputs` and `key`, int32 [batch, 2] (see `cohorts.training_cohort`).
      takes_labels: Whether it is conditioned on labels too: `x` then also holds
        `label`, int32 [batch].
      fingerprint: SHA-256, in hexadecimal, of what `network` computes of its inputs
        and of its trained weights, whatever values these have.
      statistics: How BatchNorm is trained, if it is.
      representation: Where the last layer is a dense one: a `tf.function` of
        ((trained weights, statistics), x, training) that gives the logits, what that
        layer takes, float32 [batch, size], and BatchNorm's statistics of the batch
        where it is trained.
      trains_representation: Whether a weight that this hangs on is trained.
      task: What it is trained for.
      parts: The numbers of the trained weights by what they are: the `head`, or the
        last layer of a network without backbone; `body`, all else; and by the
        fine-tuning strategy what is trained of the backbone. Of a generative model
        the networks that it is made of.
      generate: Where the model is a generative one: a `tf.function` of (all weights in
        the order of `initial_weights`, labels int32 [n], key int32 [2]) that gives
        images float32 [n, height, width, channels] in [0, 1]; all that it draws hangs
        on the key.
      networks: The networks that a generative model is made of, by name.
      members: Where it is one of several networks, by its weights: each of them (see
        `models.several`).
      generator_loss: Of a GAN: a `tf.function` of (all weights, a number n, key int32
        [2]) that gives the generator's mean loss on n images, float32 [].
    """

    functional: tff.learning.models.FunctionalModel
    network: tf.keras.Model | None
    takes_keys: bool
    fingerprint: str
    statistics: BatchStatistics | None = None
    representation: Callable | None = None
    trains_representation: bool = False
    task: Task = CLASSIFICATION
    parts: Mapping[str, frozenset[int]] = dataclasses.field(default_factory=dict)
    takes_labels: bool = False
    generate: Callable | None = None
    networks: Mapping[str, tf.keras.Model] = dataclasses.field(default_factory=dict)
    members: tuple['Model', ...] = ()
    generator_loss: Callable | None = None

    __repr__ = reprs.of_fields

    @property
    def initial_weights(self) -> list[np.ndarray]:
        """The weights at the start: the trained ones, then the statistics."""
        trained, statistics = self.functional.initial_weights
        return [*trained, *statistics]

    @property
    def each_network(self) -> list[tf.keras.Model]:
        """The network, or each of several."""
        return [each.network for each in self.members] or [self.network]

    @property
    def output_spec(self) -> tf.TensorSpec:
        """What a batch's outputs are, such as logits float32 [batch, classes]."""
        return self._spec_of(
            lambda *of: self.functional.predict_on_batch(*of, training=False)
        )

    @property
    def representation_size(self) -> int:
        """The size of what the last layer takes, where `representation` is given."""
        spec = self._spec_of(lambda *of: self.representation(*of, training=False)[1])
        return spec.shape[-1]

    def _spec_of(self, function: Callable) -> tf.TensorSpec:
        """Returns the spec of a tensor made of (weights, x)."""
        weights = tf.nest.map_structure(
            lambda array: tf.TensorSpec(array.shape, array.dtype),
            self.functional.initial_weights,
        )
        traced = tf.function(function, autograph=False).get_concrete_function(
            weights, self.functional.input_spec['x']
        )
        return tf.TensorSpec.from_tensor(traced.structured_outputs)

    def split(self, weights: Sequence) -> tuple[tuple, tuple]:
        """Returns the trained ones of the weights, and the statistics."""
        count = len(self.functional.initial_weights[0])
        return tuple(weights[:count]), tuple(weights[count:])

    def logits(
        self,
        weights: Sequence[tf.Tensor],
        inputs: tf.Tensor,
        labels: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the logits, or a task's other outputs, as in evaluation.

        That is without dropout; what is drawn all the same is so by keys of zeros.

        Args:
          weights: All weights, in the order of `initial_weights`.
          inputs: What the model takes, [batch, ...].
          labels: int32 [batch], where the model takes labels.

        Returns:
          float32 [batch, classes].
        """
        x = self._with_keys(inputs)
        if self.takes_labels:
            x['label'] = labels
        return self.functional.predict_on_batch(self.split(weights), x, training=False)

    def represented(
        self, weights: Sequence[tf.Tensor], inputs: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns `logits` and what the last layer takes for them, [batch, size]."""
        logits, found, _ = self.representation(
            self.split(weights), self._with_keys(inputs), training=False
        )
        return logits, found

    def measured(
        self, weights: Sequence[tf.Tensor], inputs: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Returns BatchNorm's statistics of a batch; the arguments are `logits`'s."""
        _, found = self.statistics.step(self.split(weights), self._with_keys(inputs))
        return found

    def _with_keys(self, inputs: tf.Tensor):
        if not self.takes_keys:
            return inputs
        key = tf.zeros([tf.shape(inputs)[0], 2], tf.int32)
        return collections.OrderedDict(inputs=inputs, key=key)


def from_keras(network: tf.keras.Model, task: Task = CLASSIFICATION) -> Model:
    """Makes a model of a Keras network, such as a head of one's own.

    Args:
      network: A `tf.keras.Model` without BatchNorm, from one input [batch, ...] to
        logits [batch, classes]; or, for what draws random numbers in training, from
        a dict of `inputs` and `key`, int32 [batch, 2], and for what is conditioned on
        labels also `label`, int32 [batch]. What it does not mean to be trained stays
        as it is.
      task: What it is trained for, of which its outputs are.

    Returns:
      The model.

    Raises:
      UserError: The network has BatchNorm, or no weights to train.
    """
    batch_norm = tf.keras.layers.BatchNormalization
    if any(isinstance(part, batch_norm) for part in network.submodules):
        raise UserError(
            f'the network {network.name} has BatchNorm, whose statistics federated'
            ' averaging does not train; use GroupNormalization or LayerNormalization'
        )
    takes_keys = isinstance(network.input, dict)
    takes_labels = takes_keys and 'label' in network.input
    inputs = network.input['inputs'] if takes_keys else network.input
    x = tf.TensorSpec(inputs.shape, inputs.dtype)
    if takes_keys:
        key = tf.TensorSpec([None, 2], tf.int32)
        x = collections.OrderedDict(inputs=x, key=key)
        if takes_labels:
            x['label'] = tf.TensorSpec([None], tf.int32)
    modes = {mode: tracing.trace(network, x, training=mode) for mode in (False, True)}
    weights = modes[True].weights

    def values_of(model_weights):
        trained = iter(model_weights[0])
        return [next(trained) if w.trainable else w.value for w in weights]

    @tf.function(autograph=False)
    def predict(model_weights, x, training):
        return modes[training].inline(values_of(model_weights), x)

    @tf.function(autograph=False)
    def represent(model_weights, x, training):
        values = values_of(model_weights)
        return *modes[training].representation(values, x), ()

    initial = [w.value for w in weights if w.trainable]
    if not initial:
        raise UserError(
            f'all weights of the network {network.name} are frozen; nothing is left to'
            ' train'
        )
    below = modes[True].below_last_dense
    last = len(network.layers[-1].trainable_variables)
    of_modes = ' '.join(modes[mode].frozen_fingerprint for mode in (False, True))
    return Model(
        functional_model(initial, predict, x, task=task),
        network,
        takes_keys,
        hashlib.sha256(of_modes.encode()).hexdigest(),
        representation=None if below is None else represent,
        trains_representation=any(weights[number].trainable for number in below or ()),
        task=task,
        parts=body_and_head(len(initial) - last, len(initial)),
        takes_labels=takes_labels,
    )


def body_and_head(body: int, count: int) -> dict[str, frozenset[int]]:
    """Returns `body`, the first of some weights, and `head`, the others."""
    numbers = range(count)
    return {'head': frozenset(numbers[body:]), 'body': frozenset(numbers[:body])}


def functional_model(
    initial: Sequence[np.ndarray],
    predict: Callable,
    x,
    statistics: Sequence[np.ndarray] = (),
    task: Task = CLASSIFICATION,
) -> tff.learning.models.FunctionalModel:
    """Makes a model for TFF of a function of weights.

    Args:
      initial: The weights that are trained.
      predict: A `tf.function` of ((trained weights, statistics), x, training) that
        gives the task's outputs, such as logits float32 [batch, classes].
      x: The specs of a batch's inputs.
      statistics: BatchNorm's statistics at the start.
      task: What it is trained for.

    Returns:
      The model, with loss and metrics of the task, and labels int32 [batch].
    """
    return tff.learning.models.FunctionalModel(
        initial_weights=(tuple(initial), tuple(statistics)),
        predict_on_batch_fn=predict,
        loss_fn=task.loss,
        metrics_fns=metrics.of_task(task),
        input_spec=collections.OrderedDict(x=x, y=tf.TensorSpec([None], tf.int32)),
    )


def assign_weights(network: tf.keras.Model, trainable: Sequence[np.ndarray]) -> None:
    """Puts trained weights into a network.

    Args:
      network: The network whose `trainable_variables` take them.
      trainable: Arrays in the same order, of the same shapes.

    Raises:
      UserError: If number or shapes differ, naming the first difference.
    """
    variables = network.trainable_variables
    if len(variables) != len(trainable):
        raise UserError(
            f'{len(trainable)} weights for a network of {len(variables)} trainable'
            ' variables'
        )
    for variable, value in zip(variables, trainable, strict=True):
        if tuple(variable.shape) != np.shape(value):
            raise UserError(
                f'a weight of shape {np.shape(value)} for the variable'
                f' {variable.name} of shape {tuple(variable.shape)}'
            )
    for variable, value in zip(variables, trainable, strict=True):
        variable.assign(value)


def trained_network(
    model: Model, weights: Sequence[np.ndarray]
) -> tf.keras.Model | None:
    """Returns a copy of a model's Keras network with trained weights, if it has one.

    Args:
      model: The model; its own network keeps its weights.
      weights: All weights; the network's are the last of the trained ones.
    """
    if model.network is None:
        return None
    network = tf.keras.models.clone_model(model.network)
    network.set_weights(model.network.get_weights())
    trainable, _ = model.split(weights)
    assign_weights(network, trainable[-len(network.trainable_variables) :])
    return network
