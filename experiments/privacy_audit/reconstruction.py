"""Images recovered from the update of one client with one image.

The client takes one step of SGD, so that its update is a multiple of the gradient. Of
a dense layer on pixels the image is computed; of the small CNN it is searched for.
What protects it is the run's own aggregator: in a round of which all other updates are
known, zeros here, so that one clipped update and the noise are left of the sum. With
--privacy=local each update is seen, and there are no others.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import models, progress, runtime
from tff_transfer.audit import inversion
from tff_transfer.data.federated import FederatedData
from tff_transfer.privacy.local import Local
from tff_transfer.training import methods
from tff_transfer.training.config import Config
from tff_transfer.training.runtimes import use_runtime

# How long, and how smooth an image, the CNN's images are searched for.
STEPS, VARIATION = 400, 1e-2
# What is done to an update.
PROTECTIONS = ('nothing', 'clip', 'clip and noise')

Update = list[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Recovered:
    """An image and what came out of its update.

    Attributes:
      model: What was trained: `dense` or `CNN`.
      image: float32 [height, width, channels], in [0, 1].
      found: What was recovered, by what was done to the update.
    """

    model: str
    image: np.ndarray
    found: dict[str, np.ndarray]

    def psnr(self, protection: str) -> float:
        """Returns how near the image is, in dB."""
        return inversion.psnr(self.image, self.found[protection])


def recovered(
    config: Config, data: FederatedData, seen: np.ndarray, count: int
) -> list[Recovered]:
    """Recovers images of some clients, the first training image of each.

    Args:
      config: Says what protects, how many clients there are in a round, and the rate.
      data: The clients, with images.
      seen: The numbers of the clients that train.
      count: How many images.
    """
    rows = [data.train_rows(client).start for client in seen if data.num_train[client]]
    images = np.asarray(data.x[rows[:count]], np.float32)
    images /= 255 if data.x.dtype == np.uint8 else 1
    labels = data.y[rows[:count]]
    seed, rate = config.training.seed, config.training.client_learning_rate
    found = []
    made = {'dense': models.mlp, 'CNN': models.cnn}
    bar = progress.bar(total=len(made) * len(images), desc='images', unit='image')
    for name, make in made.items():
        model = make(images.shape[1:], data.num_classes, seed=seed)
        gradient_of = _gradient_function(model)
        noised = _aggregated_alone(config, len(seen), model)
        recover = _of_dense if name == 'dense' else _by_descent
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            gradient = gradient_of(image[None], label[None])
            update = [rate * part.numpy() for part in gradient]
            sent = (
                update,
                clipped(update, config.privacy.clip),
                noised(update, number),
            )
            out = [recover(gradient_of, one, image.shape, seed) for one in sent]
            found.append(
                Recovered(name, image, dict(zip(PROTECTIONS, out, strict=True)))
            )
            bar.update()
    return found


def clipped(update: Update, clip: float) -> Update:
    """Returns an update of a norm of `clip` at most."""
    norm = np.sqrt(sum(np.sum(part**2) for part in update))
    return [part * min(1, clip / norm) for part in update]


def _aggregated_alone(
    config: Config, clients: int, model: models.Model
) -> Callable[[Update, int], Update]:
    """Returns the function of (update, round) to what the aggregator lets be seen."""
    training = config.training
    weights = model.functional.initial_weights[0]
    context = methods.context_of(training, model, clients)
    mechanism = methods.mechanism_of(config, context)
    each = tuple(tf.TensorSpec(weight.shape, tf.float32) for weight in weights)
    sent = tff.types.tensorflow_to_type(each)
    aggregation = config.privacy.aggregator(mechanism).create(sent)
    local = isinstance(config.privacy, Local)
    others = 0 if local else training.clients_per_round - 1
    zeros = tuple(np.zeros(weight.shape, np.float32) for weight in weights)

    def noised(update: Update, number: int) -> Update:
        with use_runtime(training), runtime.in_round(number):
            state = aggregation.initialize()
            found = aggregation.next(state, [tuple(update), *[zeros] * others])
        return [np.asarray(part) * (others + 1) for part in found.result]

    return noised


def _gradient_function(model):
    """Returns the function of (images, labels) to the gradients of its weights."""
    functional = model.functional
    weights = [tf.constant(w) for w in functional.initial_weights[0]]

    @tf.function(autograph=False)
    def gradient(images, labels):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits = functional.predict_on_batch(
                (tuple(weights), ()), images, training=True
            )
            loss = functional.loss(logits, labels)
        return tape.gradient(loss, weights)

    return gradient


def _of_dense(gradient_of, update, shape, seed) -> np.ndarray:
    kernel, bias = update
    return np.clip(inversion.of_dense(kernel, bias), 0, 1).reshape(shape)


def _by_descent(gradient_of, update, shape, seed) -> np.ndarray:
    label = np.array([inversion.label_of(update[-1])], np.int32)
    found = inversion.by_descent(
        lambda images: gradient_of(images, label),
        update,
        (1, *shape),
        steps=STEPS,
        variation=VARIATION,
        seed=seed,
    )
    return found[0]
