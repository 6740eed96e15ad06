"""Whose examples are generated, and what models are pretrained on."""

from typing import NamedTuple

import numpy as np

from tff_transfer.data import by_client, lung_phantoms, synthetic_writers
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

# Seeds of what is drawn: what models are pretrained on is no client's.
_OF_PRETRAINING, _OF_CLIENTS = 1000, 0
_SHAPE, _DIGITS = (28, 28, 1), 10
_PIXELS = 64
# Few of the lungs of pretraining have a nodule, of the clients' half.
_HOSPITALS, _SLICES, _TEST, _BEFORE, _SHARE = 24, 60, 10, 0.1, 0.5
_LEAST = 10


class Source(NamedTuple):
    """Populations of one kind of images.

    Attributes:
      before: What models are pretrained on, which nobody needs to protect.
      data: The clients.
    """

    before: FederatedData
    data: FederatedData


def load(kind: str, path: str | None, clients: int | None) -> Source:
    """Returns what a study is of.

    Args:
      kind: `digits`, or `phantoms` of lungs.
      path: For digits: what `by_client.load` reads; None draws writers.
      clients: How many of them at most, or None.

    Raises:
      UserError: The file cannot be read, or does not suit.
    """
    if kind == 'phantoms':
        if path is not None:
            raise UserError('--data_path is for --data=digits; leave it out')
        return Source(*map(_lungs, (_BEFORE, _SHARE), (_OF_PRETRAINING, _OF_CLIENTS)))
    if path is None:
        data = synthetic_writers.generate(100, 100, _OF_CLIENTS, classes=_DIGITS)
    else:
        data = by_client.load(path)
    data = data.select(range(min(clients or len(data), len(data))))
    if len(data) < _LEAST:
        raise UserError(
            f'{data.name} has {len(data)} clients, but the study needs {_LEAST}'
        )
    if (*data.x.shape[1:], data.num_classes) != (*_SHAPE, _DIGITS):
        raise UserError(
            f'{data.name} has {data.num_classes} classes of images of shape'
            f' {list(data.x.shape[1:])}, but the study pretrains on {_DIGITS} of'
            f' {list(_SHAPE)}; give digits of that shape'
        )
    before = synthetic_writers.generate(100, 100, _OF_PRETRAINING, classes=_DIGITS)
    if data.x.dtype != before.x.dtype:
        # So that a pretrained network takes both alike.
        data = data.with_x(np.rint(255 * data.x).astype(before.x.dtype))
    return Source(before, data)


def _lungs(share: float, seed: int) -> FederatedData:
    """Draws lungs of some hospitals, of which so many have a nodule."""
    sizes, shares = [_SLICES] * _HOSPITALS, [share] * _HOSPITALS
    return lung_phantoms.generate(sizes, shares, _TEST, seed=seed, grey_size=_PIXELS)
