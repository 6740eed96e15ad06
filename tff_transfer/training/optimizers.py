"""TFF's optimizers by name."""

import tensorflow_federated as tff


def build(
    name: str, learning_rate: float, *, momentum: float = 0.0, epsilon: float = 1e-4
) -> tff.learning.optimizers.Optimizer:
    """Returns one of `tff.learning.optimizers`.

    Args:
      name: One of `config.OPTIMIZERS`.
      learning_rate: Its learning rate.
      momentum: For `sgd`.
      epsilon: For the adaptive ones (Reddi et al. 2021 call it tau).

    Returns:
      The optimizer, for clients or the server.
    """
    optimizers = tff.learning.optimizers
    if name == 'sgd':
        return optimizers.build_sgdm(learning_rate, momentum or None)
    if name == 'adafactor':
        return optimizers.build_adafactor(learning_rate)
    builder = getattr(optimizers, f'build_{name}')
    return builder(learning_rate, epsilon=epsilon)
