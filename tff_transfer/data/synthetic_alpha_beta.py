"""synthetic(alpha, beta): vectors whose model and inputs differ between clients."""

import numpy as np

from tff_transfer import memory, randomness
from tff_transfer.data import federated
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

_SIZE = 60
_CLASSES = 10


def generate(
    alpha: float,
    beta: float,
    num_clients: int = 30,
    *,
    seed: int = 0,
    iid: bool = False,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Generates synthetic(alpha, beta) of the FedProx paper.

    Li et al., "Federated Optimization in Heterogeneous Networks", MLSys 2020,
    section 5.1, after Shamir et al. 2014. Client k has its own model and its own
    distribution of inputs:

        u_k ~ N(0, alpha),  W_k[i, j] ~ N(u_k, 1),  b_k[j] ~ N(u_k, 1)
        B_k ~ N(0, beta),   v_k[i] ~ N(B_k, 1)
        x ~ N(v_k, S),      S diagonal with S[i, i] = i ** -1.2, i from 1 to 60
        y = argmax(softmax(W_k x + b_k))

    so that alpha says how far the clients' models differ and beta how far their
    inputs do. Client k has 50 + floor(exp(g)) examples, g ~ N(4, 2). In all N(m, s)
    here s is the standard deviation, as in the authors' published generator, with
    which the paper's figures were made.

    Args:
      alpha: The spread of the clients' models, at least 0.
      beta: The spread of the clients' inputs, at least 0.
      num_clients: How many clients there are; the paper has 30.
      seed: The seed of the models and examples. A client's own do not
        depend on `num_clients`.
      iid: The paper's synthetic IID data: one W and b with entries N(0, 1) and v = 0
        for all clients; alpha and beta must be 0.
      test_fraction: The share of each client's examples that are test examples.
      split_seed: The seed of that draw.

    Returns:
      Vectors float32 [n, 60] with 10 classes.

    Raises:
      UserError: A value is out of range, or so many clients do not fit in memory.
    """
    if num_clients < 1:
        raise UserError(f'num_clients is {num_clients}, but must be 1 up')
    for name, value in (('alpha', alpha), ('beta', beta)):
        if not 0 <= value < np.inf:
            raise UserError(f'{name} is {value}, but must be 0 or more')
    if iid and (alpha or beta):
        raise UserError(
            f'alpha is {alpha} and beta is {beta}, but both must be 0 with iid'
        )
    memory.check_fits(
        f'{50 * num_clients:,} examples',
        50 * num_clients * _SIZE * 8,
        'lower num_clients',
    )
    deviation = np.arange(1, _SIZE + 1) ** -0.6
    shared = randomness.generator(seed, 'synthetic(alpha, beta) of all')
    weights = shared.normal(size=(_SIZE, _CLASSES))
    bias = shared.normal(size=_CLASSES)
    center = np.zeros(_SIZE)
    x, y = [], []
    for client in range(num_clients):
        draw = randomness.generator(seed, 'synthetic(alpha, beta)', client)
        if not iid:
            model_mean = draw.normal(0, alpha)
            weights = draw.normal(model_mean, 1, (_SIZE, _CLASSES))
            bias = draw.normal(model_mean, 1, _CLASSES)
            center = draw.normal(draw.normal(0, beta), 1, _SIZE)
        size = 50 + int(draw.lognormal(4, 2))
        x.append(draw.normal(center, deviation, (size, _SIZE)))
        y.append(np.argmax(x[-1] @ weights + bias, axis=1))
    return federated.from_rows(
        'synthetic iid' if iid else f'synthetic({alpha:g}, {beta:g})',
        np.concatenate(x),
        np.concatenate(y),
        np.repeat(np.arange(num_clients), [len(part) for part in y]),
        num_classes=_CLASSES,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )
