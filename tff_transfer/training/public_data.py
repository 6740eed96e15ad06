"""Public examples of a file, where a run's server has such."""

import dataclasses
import pathlib

import numpy as np

from tff_transfer.data import npz
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.evaluation import BATCH
from tff_transfer.training.setup import Setup


def files(config: Config) -> dict[str, pathlib.Path]:
    """Returns the file, if there is one, which a run must find the same again."""
    path = getattr(config.algorithm, 'public_data', None)
    return {} if path is None else {'public_data': pathlib.Path(path)}


def read(config: Config, data: FederatedData) -> np.ndarray | None:
    """Returns the examples of the file as the population has its own, if there is one.

    Args:
      config: The configuration.
      data: The population as it was loaded.

    Raises:
      UserError: The file cannot be read, or its examples are of another shape.
    """
    for path in files(config).values():
        x = npz.read_inputs(path)
        if x.shape[1:] != data.x.shape[1:] or not len(x):
            raise UserError(
                f'{path}: {len(x)} public examples of shape {list(x.shape[1:])}, but'
                f' {data.name} has {list(data.x.shape[1:])}; give some of that shape'
            )
        if x.dtype == data.x.dtype:
            return x
        if data.x.dtype == np.uint8:
            return np.rint(255 * x).astype(np.uint8)
        return x.astype(np.float32) / 255
    return None


def with_examples(setup: Setup, x: np.ndarray | None) -> Setup:
    """Returns a setup with public examples, if there are any.

    Args:
      setup: What is trained.
      x: What `read` gives.
    """
    if x is None:
        return setup
    parts = [
        np.asarray(setup.from_images(x[start : start + BATCH]))
        for start in range(0, len(x), BATCH)
    ]
    public = FederatedData(
        'public examples',
        np.concatenate(parts),
        np.zeros(len(x), np.int32),
        ('public',),
        np.array([len(x)]),
        np.array([0]),
        setup.data.num_classes,
    )
    first = setup.first and with_examples(setup.first, x)
    return dataclasses.replace(setup, public=public, first=first)
