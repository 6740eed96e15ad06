"""Features of a frozen backbone: extracted once, cached on disk, standardised."""

import importlib

# Loaded when they are used: the cache is listed without TensorFlow.
_PLACES = {
    'ByExample': 'scaling',
    'Standardisation': 'scaling',
    'extract': 'extraction',
    'of_images': 'extraction',
    'of_sample': 'extraction',
    'over_places': 'extraction',
    'standardisation': 'standardising',
}

__all__ = list(_PLACES)


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{_PLACES[name]}'), name)
