"""The top of a backbone, trained on cached activations or under raw images.

Both train the same weights, on the compiled runtime.
"""

import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks import workloads
from benchmarks.peers import runner, tff_models
from tff_transfer import features, models, runtime
from tff_transfer.backbones import Backbone
from tff_transfer.models import finetuning

CLASSES = workloads.IMAGE_CLASSES


def make_head(backbone: Backbone) -> models.Model:
    """Returns the linear head."""
    return models.mlp((backbone.feature_size,), CLASSES)


def train(work: runner.Work, options) -> runner.Result:
    """Trains; activations are extracted before, and how long it took is recorded."""
    data = tff_models.population(work, CLASSES)
    backbone = tff_models.backbone(options.backbone)
    network = backbone.functional
    frozen, top, _ = finetuning.cut(backbone, top_layers=options.top_layers)
    size = backbone.feature_size
    unchanged = features.Standardisation(
        np.zeros(size, np.float32), np.ones(size, np.float32)
    )
    with tempfile.TemporaryDirectory() as cache, runtime.use_compiled():
        if options.inputs == 'activations':
            start = time.perf_counter()
            data = data.with_x(features.extract(frozen, data, cache_dir=cache))
            extraction = time.perf_counter() - start
            settings = (
                f'{data.x.nbytes / 2**20:.0f} MiB of activations, extracted in'
                f' {extraction:.2f} s'
            )
            model = finetuning.finetuned(
                top,
                finetuning.whole(top),
                make_head(backbone),
                unchanged,
                top.input_spec,
            )
        else:
            settings = 'the whole network in each step'
            names = {weight.name for weight in top.weights}
            model = finetuning.finetuned(
                network,
                finetuning.chosen(network, lambda weight: weight.name in names),
                make_head(backbone),
                unchanged,
                tf.TensorSpec([None, *work.x.shape[1:]], work.x.dtype),
                backbone.preprocess,
            )
        process = tff_models.fed_avg(model.functional, work)
        numbers = iter(range(1, options.rounds + 1))

        def step(state):
            cohort = tff_models.cohort(data, work, next(numbers), work.clients)
            return process.next(state, cohort).state

        seconds, state = runner.time_rounds(step, process.initialize(), options.rounds)
        weights = process.get_model_weights(state).trainable
    return runner.Result(seconds, [np.asarray(w) for w in weights], settings)


def forward_operations(
    backbone: Backbone, top_layers: int, shape: tuple[int, ...]
) -> tuple[int, int]:
    """Counts the floating-point operations of one image's forward pass.

    TensorFlow's profiler counts the graph's convolutions, products and sums of biases
    (a multiplication and an addition are two); it has no rule for BatchNorm and for
    resizing images, which are left out.

    Args:
      backbone: The backbone.
      top_layers: As in `finetuning.cut`.
      shape: An image's.

    Returns:
      Those below the cut, and those above it with the linear head.
    """
    frozen, top, _ = finetuning.cut(backbone, top_layers=top_layers)
    head = make_head(backbone).network
    values = [weight.value for weight in top.weights]
    return (
        _operations(
            lambda x: frozen.functional.inline_frozen(frozen.preprocess(x)),
            tf.TensorSpec([1, *shape], tf.uint8),
        ),
        _operations(
            lambda x: head(top.inline(values, x)),
            tf.TensorSpec([1, *top.input_spec.shape[1:]]),
        ),
    )


def _operations(function, spec: tf.TensorSpec) -> int:
    traced = tf.function(function, autograph=False).get_concrete_function(spec)
    profiler = tf.compat.v1.profiler
    builder = profiler.ProfileOptionBuilder
    wanted = builder(builder.float_operation()).with_empty_output().build()
    return profiler.profile(traced.graph, options=wanted).total_float_ops


def add_options(parser) -> None:
    """Adds what the top is trained on, the backbone and the cut."""
    parser.add_argument('--inputs', choices=['activations', 'images'], required=True)
    parser.add_argument('--backbone', required=True)
    parser.add_argument('--top_layers', type=int, required=True)


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    packages = ['tensorflow-federated', 'tensorflow', 'numpy']
    runner.main(train, packages, add_options)
