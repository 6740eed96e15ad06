"""Federated averaging with an adaptive optimizer, or momentum, on the server.

Reddi et al. 2021, "Adaptive federated optimization", algorithm 2 (FedAdagrad, FedAdam,
FedYogi) with its defaults; Hsu et al. 2019, "Measuring the effects of non-identical
data distribution for federated visual classification" (FedAvgM). The optimizers are
`tff.learning.optimizers`: Adam and Yogi correct the bias of their first steps, which
algorithm 2 does not.
"""

import dataclasses

import tensorflow_federated as tff

from tff_transfer.algorithms import fed_avg
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option

_optimizers = tff.learning.optimizers


def _rate(default: float):
    return option(default, 'Learning rate of the server.', above=0)


def _epsilon():
    return option(
        1e-3, 'How little adaptive the server is: tau of Reddi et al.', above=0
    )


def _beta(default: float, which: str):
    return option(
        default, f'Decay of the {which} moment on the server.', at_least=0, below=1
    )


def _averaging(context: Context, optimizer) -> Method:
    return fed_avg.averaging(dataclasses.replace(context, server_optimizer=optimizer))


@dataclasses.dataclass(frozen=True)
class FedAvgM:
    """FedAvgM."""

    learning_rate: float = _rate(1.0)
    momentum: float = option(0.9, 'Momentum of the server.', at_least=0, below=1)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        momentum = self.momentum or None
        return _averaging(context, _optimizers.build_sgdm(self.learning_rate, momentum))


@dataclasses.dataclass(frozen=True)
class FedAdagrad:
    """FedAdagrad."""

    learning_rate: float = _rate(0.1)
    epsilon: float = _epsilon()

    def build(self, context: Context) -> Method:
        """Makes the method."""
        optimizer = _optimizers.build_adagrad(
            self.learning_rate,
            initial_preconditioner_value=self.epsilon**2,
            epsilon=self.epsilon**2,
        )
        return _averaging(context, optimizer)


@dataclasses.dataclass(frozen=True)
class _ByMoments:
    """Options of a server that follows two moments of the clients' mean delta."""

    learning_rate: float = _rate(0.01)
    beta_1: float = _beta(0.9, 'first')
    beta_2: float = _beta(0.99, 'second')
    epsilon: float = _epsilon()


@dataclasses.dataclass(frozen=True)
class FedAdam(_ByMoments):
    """FedAdam."""

    def build(self, context: Context) -> Method:
        """Makes the method."""
        optimizer = _optimizers.build_adam(
            self.learning_rate, self.beta_1, self.beta_2, self.epsilon
        )
        return _averaging(context, optimizer)


@dataclasses.dataclass(frozen=True)
class FedYogi(_ByMoments):
    """FedYogi."""

    def build(self, context: Context) -> Method:
        """Makes the method."""
        optimizer = _optimizers.build_yogi(
            self.learning_rate,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            initial_preconditioner_value=self.epsilon**2,
        )
        return _averaging(context, optimizer)


@dataclasses.dataclass(frozen=True)
class FedRMSProp:
    """FedRMSProp."""

    learning_rate: float = _rate(0.01)
    decay: float = _beta(0.9, 'second')
    epsilon: float = _epsilon()

    def build(self, context: Context) -> Method:
        """Makes the method."""
        optimizer = _optimizers.build_rmsprop(
            self.learning_rate, self.decay, self.epsilon
        )
        return _averaging(context, optimizer)
