"""The learning rate of a client in its round: by the schedule, and by its own."""

from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms.method import Client, Context
from tff_transfer.errors import UserError


def scheduled(optimizer, state, factor):
    """Returns an optimizer's state with its first learning rate times a factor.

    It stays as it is where the factor is None.
    """
    if factor is None:
        return state
    rate = _first_hparams(optimizer)['learning_rate'] * factor
    hparams = {**optimizer.get_hparams(state), 'learning_rate': rate}
    return optimizer.set_hparams(state, hparams)


def rate_factor(context: Context, client: Client):
    """Returns what a client's learning rate is multiplied by in its round.

    That is by the schedule and by its own rate, float32 []; None without either.
    """
    of_client = None if isinstance(client.rate, tuple) else client.rate
    if context.client_schedule is None:
        return of_client
    factor = context.client_schedule(client.round)
    return factor if of_client is None else factor * of_client


def _first_hparams(optimizer):
    """Returns what an optimizer was built with: a state may be of a later round."""
    return optimizer.get_hparams(optimizer.initialize(tf.TensorSpec([])))


def sgd_momentum(context: Context, who: str) -> float:
    """Returns the momentum of the clients' SGD.

    Raises:
      UserError: The clients' optimizer is another one, for which `who`, a method,
        is not defined.
    """
    optimizer = context.client_optimizer
    if not isinstance(optimizer, type(tff.learning.optimizers.build_sgdm())):
        raise UserError(
            f'{who} is defined for SGD on the clients; use --client_optimizer=sgd'
        )
    return _first_hparams(optimizer).get('momentum', 0.0)


def rate_of(context: Context, client: Client) -> Any:
    """Returns the learning rate of a client's optimizer in its round."""
    rate = _first_hparams(context.client_optimizer)['learning_rate']
    factor = rate_factor(context, client)
    return rate if factor is None else rate * factor
