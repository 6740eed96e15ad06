"""Any method as a TFF process in one call, for TFF's own loops."""

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import models
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.compose import Composed, compose
from tff_transfer.algorithms.method import Context
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.compression import registry as compression_registry
from tff_transfer.errors import UserError
from tff_transfer.options import check


def process(
    options,
    model: models.Model | tf.keras.Model | tff.learning.models.FunctionalModel,
    *,
    client_optimizer: tff.learning.optimizers.Optimizer | None = None,
    server_optimizer: tff.learning.optimizers.Optimizer | None = None,
    weighting: str = 'examples',
    population: int | None = None,
    epochs: int = 1,
    aggregator: tff.aggregators.WeightedAggregationFactory | None = None,
    compression=None,
    public: PublicExamples | None = None,
) -> Composed:
    """Makes a TFF process of a method.

      made = tt.algorithms.process(tt.algorithms.FedProx(mu=0.1), model)
      state = made.process.initialize()
      state = made.process.next(state, clients).state

    Args:
      options: A method's options, such as `FedProx(mu=0.1)`.
      model: A model of this package, a Keras classifier, or a functional model of TFF
        whose batches are mappings of `x` and `y`.
      client_optimizer: The optimizer on the clients; SGD at 0.01 if not given.
      server_optimizer: The optimizer on the server; if not given SGD at 1, which
        takes the clients' mean weights.
      weighting: How clients are weighted: by their `examples`, or `uniform`.
      population: How many clients may take part, where the method asks for it.
      epochs: How many passes a client may make, where the method makes them itself.
      aggregator: How the clients' deltas become one; their weighted mean if not given.
      compression: A scheme's options by which clients send these, such as
        `compression.sparse.TopK(fraction=0.01)`.
      public: The server's own examples, for a method or an aggregator that asks for
        them.

    Returns:
      The process, and what one must know of it: what clients keep, and what each is
      told (`Composed.settings`), if anything.

    Raises:
      UserError: The method does not suit the rest, or an option is out of its bounds.
    """
    name = registry.name_of(options)
    if name is not None:
        check(options, f'{name}.')
    scheme = compression_registry.UP.name_of(compression)
    if scheme is not None:
        check(compression, f'{scheme}.')
    if isinstance(model, tf.keras.Model):
        model = models.from_keras(model)
    elif isinstance(model, tff.learning.models.FunctionalModel):
        model = models.Model(model, None, False, '')
    if population is None:
        if name in registry.BY_POPULATION:
            raise UserError(
                f'{type(options).__name__} needs population=, the number of clients'
                ' that may take part'
            )
        population = 1
    if name in registry.BY_PUBLIC_EXAMPLES and public is None:
        raise UserError(
            f"{type(options).__name__} needs public=, the server's own examples"
        )
    sgd = tff.learning.optimizers.build_sgdm
    context = Context(
        model,
        client_optimizer or sgd(0.01),
        server_optimizer or sgd(1.0),
        population=population,
        weighting=weighting,
        parts=getattr(options, 'parts', ()),
        epochs=epochs,
        public=public,
    )
    return compose(
        options.build(context),
        context,
        aggregator,
        compression=compression,
        public=public,
    )
