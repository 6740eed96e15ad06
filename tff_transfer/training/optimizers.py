"""TFF's optimizers by name."""

import tensorflow as tf
import tensorflow_federated as tff


class Adafactor(tff.learning.optimizers.Optimizer):
    """TFF's Adafactor, with a state whose types a step does not change.

    Of `tff.learning.optimizers.build_adafactor` itself (0.87.0) neither client nor
    server can take a step: the count of steps begins as an integer and goes on as a
    float, and a Python condition depends on a hyperparameter in the state.
    """

    def __init__(self, of_tff: tff.learning.optimizers.Optimizer):
        self._of_tff = of_tff

    def initialize(self, specs):
        """Returns the state before the first step, without hyperparameters."""
        state = self._of_tff.initialize(specs)
        return {'steps': tf.constant(0.0), 'moments': state['moments']}

    def next(self, state, weights, gradients):
        """Returns the state and the weights after a step."""
        hyperparameters = self._of_tff.initialize([])['hparams']
        state, weights = self._of_tff.next(
            {**state, 'hparams': hyperparameters}, weights, gradients
        )
        return {'steps': state['steps'], 'moments': state['moments']}, weights


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
        return Adafactor(optimizers.build_adafactor(learning_rate))
    builder = getattr(optimizers, f'build_{name}')
    return builder(learning_rate, epsilon=epsilon)


def of_side(config, side: str) -> tff.learning.optimizers.Optimizer:
    """Returns the optimizer of the `client` or `server` of a `TrainingConfig`."""
    return build(
        getattr(config, f'{side}_optimizer'),
        getattr(config, f'{side}_learning_rate'),
        momentum=getattr(config, f'{side}_momentum'),
        epsilon=getattr(config, f'{side}_epsilon'),
    )
