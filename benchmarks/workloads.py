"""The arrays that all frameworks train on: seeded, made up, with classes to learn."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.peers.runner import Work
from tff_transfer import randomness

CLASSES = 62
IMAGE_CLASSES = 10
SMALL_FEATURES, SMALL_CLASSES = 60, 10
FEATURES = 1280
SEED = 0


def head(sizes: Sequence[int], batch_size: int = 20) -> Work:
    """Makes a linear softmax model on features, for clients of the given sizes."""
    x, y = _examples(sum(sizes), (FEATURES,), 0.1)
    weights = [np.zeros((FEATURES, CLASSES), np.float32), np.zeros(CLASSES, np.float32)]
    return Work('linear', x, y, _splits(sizes), weights, batch_size, 0.1)


def small(sizes: Sequence[int], hidden: int = 0) -> Work:
    """Makes tables of 60 features and 10 classes: a linear model, or a hidden layer.

    Features and classes are those of the FedProx paper's synthetic data (Li et al.
    2020, "Federated optimization in heterogeneous networks"); batches of 10.

    Args:
      sizes: How many examples each client has.
      hidden: Units of the hidden layer, if there is one.
    """
    x, y = _examples(sum(sizes), (SMALL_FEATURES,), 0.5, SMALL_CLASSES)
    widths = [SMALL_FEATURES, *([hidden] if hidden else []), SMALL_CLASSES]
    weights = []
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        draw = randomness.generator(SEED, 'benchmark weights', index)
        limit = np.sqrt(6 / (inputs + outputs)) if hidden else 0.0
        kernel = draw.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
        weights += [kernel, np.zeros(outputs, np.float32)]
    model = 'mlp' if hidden else 'linear'
    # With hidden units the last digits' differences grow to 1e-3 in ten rounds at 0.1.
    return Work(model, x, y, _splits(sizes), weights, 10, 0.01 if hidden else 0.1)


def evaluation(sizes: Sequence[int], batch_size: int = 20) -> Work:
    """Makes the head's examples with weights drawn at random, to be evaluated."""
    work = head(sizes, batch_size)
    draw = randomness.generator(SEED, 'benchmark weights')
    weights = [draw.normal(size=w.shape).astype(np.float32) for w in work.weights]
    return dataclasses.replace(work, weights=weights)


def evaluate_head(work: Work) -> list[np.ndarray]:
    """Returns mean loss and accuracy over all examples, by float64 NumPy."""
    logits = work.x @ work.weights[0].astype(np.float64) + work.weights[1]
    chosen = logits[np.arange(len(logits)), work.y]
    top = logits.max(1)
    normaliser = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return [np.mean(normaliser - chosen), np.mean(logits.argmax(1) == work.y)]


def cnn(sizes: Sequence[int], batch_size: int = 20) -> Work:
    """Makes the EMNIST network (`tff_transfer.models.cnn`) on 28 x 28 images."""
    x, y = _examples(sum(sizes), (28, 28, 1), 0.5)
    shapes = [(5, 5, 1, 32), (5, 5, 32, 64), (7 * 7 * 64, 128), (128, CLASSES)]
    weights = []
    for index, shape in enumerate(shapes):
        draw = randomness.generator(SEED, 'benchmark weights', index)
        fan_in, fan_out = np.prod(shape[:-1]), shape[-1] * np.prod(shape[:-2])
        limit = np.sqrt(6 / (fan_in + fan_out))
        weights.append(draw.uniform(-limit, limit, shape).astype(np.float32))
        weights.append(np.zeros(shape[-1], np.float32))
    # At 0.1 differences in the last digits grow to 1e-2 in six rounds, at 0.01 to 4e-4,
    # and comparing the weights says nothing; at 0.001 they stay near 1e-6.
    return Work('cnn', x, y, _splits(sizes), weights, batch_size, 0.001)


def log_normal_sizes(clients: int, smallest: int = 10, largest: int = 1000):
    """Draws numbers of examples, log-normal around 100, cut to the given range."""
    draw = randomness.generator(SEED, 'benchmark sizes')
    sizes = np.exp(draw.normal(np.log(100), 1.0, clients))
    return np.clip(sizes, smallest, largest).astype(int).tolist()


def train_head(work: Work, rounds: int) -> list[np.ndarray]:
    """Trains the head as the reference: federated averaging in plain float64 NumPy.

    Args:
      work: A workload with a linear model.
      rounds: Rounds.

    Returns:
      The kernel and the bias.
    """
    kernel, bias = (w.astype(np.float64) for w in work.weights)
    for _ in range(rounds):
        changes, examples = [0.0, 0.0], 0
        for client in range(work.clients):
            rows = work.rows(client)
            x, y = work.x[rows], work.y[rows]
            k, b = kernel.copy(), bias.copy()
            for start in range(0, len(x), work.batch_size):
                inputs = x[start : start + work.batch_size]
                labels = y[start : start + work.batch_size]
                logits = inputs @ k + b
                p = np.exp(logits - logits.max(1, keepdims=True))
                p /= p.sum(1, keepdims=True)
                p[np.arange(len(labels)), labels] -= 1
                p *= work.learning_rate / len(labels)
                k -= inputs.T @ p
                b -= p.sum(0)
            changes[0] = changes[0] + len(x) * (k - kernel)
            changes[1] = changes[1] + len(x) * (b - bias)
            examples += len(x)
        kernel, bias = kernel + changes[0] / examples, bias + changes[1] / examples
    return [kernel, bias]


def _examples(rows: int, shape: tuple[int, ...], spread: float, classes: int = CLASSES):
    draw = randomness.generator(SEED, 'benchmark examples', *shape)
    y = draw.integers(0, classes, rows).astype(np.int32)
    centres = draw.normal(size=(classes, *shape)).astype(np.float32)
    x = np.empty((rows, *shape), np.float32)
    # A piece at a time: the largest of these arrays are gigabytes.
    for start in range(0, rows, 10_000):
        part = x[start : start + 10_000]
        draw.standard_normal(dtype=np.float32, out=part)
        part += centres[y[start : start + 10_000]]
        part *= spread
    return x, y


def _splits(sizes: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def mobilenet(sizes: Sequence[int], batch_size: int = 20) -> Work:
    """Makes MobileNetV2 0.35 and a linear layer on 96 x 96 images, all trainable.

    The weights are Keras's random ones: they cost what pretrained ones cost.
    """
    # Only this workload needs TensorFlow in the driver.
    from benchmarks.peers import tff_models

    x, y = _examples(sum(sizes), (96, 96, 3), 0.3)
    network = tff_models.mobilenet(CLASSES, SEED)
    return Work(
        'mobilenet', x, y, _splits(sizes), network.get_weights(), batch_size, 0.001
    )


def images(sizes: Sequence[int], batch_size: int = 20) -> Work:
    """Makes raw images, uint8 [rows, 28, 28, 1], for a backbone (`frozen`)."""
    x, y = _examples(sum(sizes), (28, 28, 1), 40, IMAGE_CLASSES)
    x = np.clip(x + 128, 0, 255).astype(np.uint8)
    # A head starts at zero, and the backbone has its own weights.
    return Work('backbone', x, y, _splits(sizes), [], batch_size, 0.01)


def tutorial(sizes: Sequence[int], batch_size: int = 20) -> Work:
    """Makes grey images and a linear softmax model, as TFF's tutorial has them."""
    x, y = _examples(sum(sizes), (28, 28), 0.1, IMAGE_CLASSES)
    shapes = [(28 * 28, IMAGE_CLASSES), (IMAGE_CLASSES,)]
    weights = [np.zeros(shape, np.float32) for shape in shapes]
    x = np.clip(x + 0.5, 0, 1)
    return Work('tutorial', x, y, _splits(sizes), weights, batch_size, 0.02)


WORKLOADS: dict[str, Callable[[], Work]] = {
    'head': functools.partial(head, [100] * 100),
    'head_skewed': lambda: head(log_normal_sizes(100)),
    'small': functools.partial(small, [100] * 100),
    'small_mlp': functools.partial(small, [100] * 100, hidden=64),
    'small_skewed': lambda: small(log_normal_sizes(100)),
    'cnn': functools.partial(cnn, [100] * 10),
    'aggregators': functools.partial(head, [100] * 100),
    'evaluation': functools.partial(evaluation, [100] * 400),
    'tutorial': functools.partial(tutorial, [100] * 100),
    'finetune_all': functools.partial(mobilenet, [100] * 10),
}
