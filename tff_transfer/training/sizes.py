"""Whether what a configuration asks for can fit in memory, before it is tried."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import memory
from tff_transfer.training.training_config import TrainingConfig

_FLOAT = 4  # bytes


def check_rounds(
    config: TrainingConfig,
    examples: np.ndarray,
    row: int,
    networks: Sequence[tf.keras.Model],
    *,
    of_all: bool = False,
) -> None:
    """Checks that a cohort and a batch are small enough.

    Args:
      config: How it is trained.
      examples: Training examples of each client that trains, [clients].
      row: Bytes of the inputs of one example.
      networks: What is trained, or the head of it; of several each.
      of_all: Whether all of the clients take part in a round.

    Raises:
      UserError: An average cohort, or the activations of the largest batch, need more
        memory than is free.
    """
    if not len(examples):
        return
    of_client = np.minimum(examples, config.max_examples or np.inf)
    of_client = of_client * float(config.client_epochs)
    clients = len(examples) if of_all else config.clients_per_round
    rows = int(of_client.mean() * clients)
    lower = '--clients_per_round, --client_epochs or --max_examples'
    if of_all:
        lower = '--max_clients or --client_epochs'
    memory.check_fits(
        f'a cohort of {clients} clients, {rows:,} examples in'
        f' {config.client_epochs:,} epochs,',
        rows * row,
        f'lower {lower}',
    )
    largest = of_client.sum() if of_all else of_client.max()
    rows = int(min(largest, config.batch_size))
    memory.check_fits(
        f'a batch of {rows:,} examples',
        rows * max(map(_activations, networks)) * _FLOAT,
        'give a smaller --batch_size',
    )


def _activations(network: tf.keras.Model) -> int:
    """Returns how many numbers a network's layers give for an example."""
    outputs = (tensor.shape[1:] for tensor in _outputs(network))
    return sum(math.prod(side or 1 for side in shape) for shape in outputs)


def _outputs(network: tf.keras.Model) -> list:
    found = []
    for layer in network.layers:
        if isinstance(layer, tf.keras.Model):
            found += _outputs(layer)
        else:
            found += tf.nest.flatten(layer.output)
    return found
