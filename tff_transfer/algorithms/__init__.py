"""Published methods, one file each, and how they become TFF processes."""

import importlib

from tff_transfer.algorithms import registry

_CLASSES = registry.classes()

__all__ = ['process', *_CLASSES]


def __getattr__(name: str):
    if name == 'process':
        return importlib.import_module(f'{__name__}.processes').process
    if name in _CLASSES:
        return registry.options(_CLASSES[name])
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
