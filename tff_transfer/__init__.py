"""Federated transfer learning on TensorFlow Federated.

A pretrained backbone under a head, trained by federated processes over many
simulated clients:

  import tff_transfer as tt
  result = tt.train(tt.Config(tt.DataConfig(dataset='synthetic_writers')))

Names are loaded when they are first used, so that importing this package costs
nothing beyond what is used of it.
"""

import importlib

from tff_transfer import versions

versions.check()

_MODULES = ('backbones', 'data', 'features', 'models', 'runtime', 'training')
_NAMES = {
    'Config': 'tff_transfer.training.config',
    'DataConfig': 'tff_transfer.training.config',
    'ModelConfig': 'tff_transfer.training.config',
    'TrainingConfig': 'tff_transfer.training.config',
    'FederatedData': 'tff_transfer.data.federated',
    'UserError': 'tff_transfer.errors',
    'train': 'tff_transfer.training.loop',
}

__all__ = [*_MODULES, *_NAMES]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f'tff_transfer.{name}')
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__():
    return sorted(__all__)
