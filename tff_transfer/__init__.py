"""Federated transfer learning on TensorFlow Federated.

A pretrained backbone under a head, trained by federated processes over many
simulated clients:

  import tff_transfer as tt
  result = tt.train(tt.Config(tt.DataConfig(dataset='synthetic_writers')))

Names are loaded when they are first used, so that importing this package costs
nothing beyond what is used of it.
"""

import importlib
import os

from tff_transfer import versions

versions.check()

# Sessions may have threads of their own (runtime/sessions.py). TensorFlow asks
# when it makes its first device.
os.environ.setdefault('TF_OVERRIDE_GLOBAL_THREADPOOL', '1')

# The module of each name, and the name in it where it is not the module itself.
_PLACES = {
    'algorithms': ('algorithms', None),
    'backbones': ('backbones', None),
    'data': ('data', None),
    'features': ('features', None),
    'features_cache': ('features.cache', None),
    'models': ('models', None),
    'plots': ('records.plots', None),
    'runtime': ('runtime', None),
    'Config': ('training.config', 'Config'),
    'DataConfig': ('training.data_config', 'DataConfig'),
    'ModelConfig': ('training.model_config', 'ModelConfig'),
    'TrainingConfig': ('training.training_config', 'TrainingConfig'),
    'FederatedData': ('data.federated', 'FederatedData'),
    'Result': ('training.result', 'Result'),
    'UserError': ('errors', 'UserError'),
    'train': ('training.loop', 'train'),
}

__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module, inside = _PLACES[name]
    module = importlib.import_module(f'{__name__}.{module}')
    return getattr(module, inside) if inside else module


def __dir__():
    return sorted([*globals(), *__all__])
