"""Walks over all methods: of each kind one among the slow tests, all others apart."""

from collections.abc import Sequence

import pytest

# In what they send, keep or compute, each stands for others.
OF_EACH_KIND = (
    *('fedavg', 'fedadam', 'scaffold', 'mime', 'fednova', 'moon', 'feddf', 'fedmd'),
    *('ccvr', 'ridge', 'local', 'fedper', 'apfl', 'ifca', 'fedgkt', 'fedamp'),
)


def marks(name: str) -> list:
    """Returns the mark of a method that another one of its kind stands for, if so."""
    return [] if name in OF_EACH_KIND else [pytest.mark.walk]


def over(names: Sequence[str]) -> list:
    """Returns a parameter for each method, marked as a `walk` but for one of a kind."""
    return [pytest.param(name, marks=marks(name)) for name in names]
