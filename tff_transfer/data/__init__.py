"""Where client examples come from, and how they become a round's cohort."""

import importlib

__all__ = [
    'by_client',
    'client_data',
    'cohorts',
    'emnist',
    'federated',
    'lung_phantoms',
    'npz',
    'partition',
    'program_source',
    'sqlite',
    'synthetic_alpha_beta',
    'synthetic_writers',
]


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return importlib.import_module(f'{__name__}.{name}')
