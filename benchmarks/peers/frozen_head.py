"""A linear head on a frozen backbone, from raw images to the last weights.

Ours extracts all features once and trains the head on them, on the compiled runtime.
`--runtime=stock` is TFF as its tutorials have it: `from_keras_model` of preprocessing,
the frozen module and a dense layer, on raw images, on TFF's own runtime.

The result's seconds are those of all that comes before the first round (loading the
backbone, features, building), then of each round. Its weights are stacked: kernel and
bias after each round.
"""

import collections
import functools
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_hub as hub

from benchmarks import workloads
from benchmarks.peers import runner, tff_models
from tff_transfer import features, models, runtime
from tff_transfer.backbones import applications
from tff_transfer.backbones.preprocessing import Preprocessing

CLASSES = workloads.IMAGE_CLASSES


def on_features(images, handle: str, cache: str, work: runner.Work):
    """Returns the process, its first state and the features of all images."""
    backbone = tff_models.backbone(handle)
    extracted = features.extract(backbone, images, cache_dir=cache)
    model = models.mlp((backbone.feature_size,), CLASSES)
    process = tff_models.fed_avg(model.functional, work)
    return process, process.initialize(), images.with_x(extracted)


def network_on_images(
    handle: str, preprocess: Preprocessing, shape: tuple[int, ...]
) -> tf.keras.Model:
    """Returns preprocessing, the frozen module and a dense layer that starts at 0."""
    if handle in applications.families():
        frozen = applications.build(handle, preprocess.image_size, 'random', 0)
        frozen.trainable = False
    else:
        frozen = hub.KerasLayer(handle, trainable=False)
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input(shape, dtype=tf.uint8),
            tf.keras.layers.Lambda(preprocess),
            frozen,
            tf.keras.layers.Dense(CLASSES, kernel_initializer='zeros'),
        ]
    )


def on_images(make_network: Callable[[], tf.keras.Model], work: runner.Work):
    """Returns the process and its first state, which has the module's weights."""
    spec = collections.OrderedDict(
        x=tf.TensorSpec([None, *work.x.shape[1:]], tf.uint8),
        y=tf.TensorSpec([None], tf.int32),
    )

    def make_model():
        return tff.learning.models.from_keras_model(
            make_network(),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            input_spec=spec,
            metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
        )

    process = tff_models.fed_avg(make_model, work)
    # In TFF's graphs a network starts with what its initializers draw.
    network = make_network()
    weights = tff.learning.models.ModelWeights(
        [w.numpy() for w in network.trainable_weights],
        [w.numpy() for w in network.non_trainable_weights],
    )
    return process, process.set_model_weights(process.initialize(), weights)


def train(work: runner.Work, options) -> runner.Result:
    """Trains; TFF's data sets are made before the clock starts."""
    images = tff_models.population(work, CLASSES)
    cohort = functools.partial(
        tff_models.cohort, work=work, clients=options.clients_per_round
    )
    if options.runtime == 'stock':
        numbers = range(1, options.rounds + 1)
        data_sets = {n: list(cohort(images, number=n)) for n in numbers}
        preprocess = tff_models.backbone(options.backbone).preprocess
        make_network = functools.partial(
            network_on_images, options.backbone, preprocess, work.x.shape[1:]
        )
        with runtime.use_stock():
            start = time.perf_counter()
            process, state = on_images(make_network, work)
            return _rounds(start, process, state, data_sets.get, options.rounds)
    with tempfile.TemporaryDirectory() as cache, runtime.use_compiled():
        start = time.perf_counter()
        process, state, data = on_features(images, options.backbone, cache, work)
        return _rounds(
            start, process, state, lambda n: cohort(data, number=n), options.rounds
        )


def _rounds(start: float, process, state, data_of_round, rounds: int) -> runner.Result:
    before = time.perf_counter() - start
    states = []

    def step(state):
        states.append(process.next(state, data_of_round(len(states) + 1)).state)
        return states[-1]

    seconds, _ = runner.time_rounds(step, state, rounds)
    heads = [process.get_model_weights(state).trainable for state in states]
    stacked = [np.stack(each) for each in zip(*heads, strict=True)]
    return runner.Result([before, *seconds], stacked, '')


def add_options(parser) -> None:
    """Adds the runtime, the backbone and the clients of a round."""
    parser.add_argument('--runtime', choices=['compiled', 'stock'], required=True)
    parser.add_argument('--backbone', required=True)
    parser.add_argument('--clients_per_round', type=int, default=10)


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    packages = ['tensorflow-federated', 'tensorflow', 'tensorflow-hub', 'numpy']
    runner.main(train, packages, add_options)
