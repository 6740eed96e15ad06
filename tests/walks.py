"""Walks over all methods: of each kind one among the slow tests, all others apart.

Likewise for other cases of one test that hold the same thing, such as TFF's processes.
"""

from collections.abc import Collection, Sequence

import pytest

# In what they send, keep or compute, each stands for others.
OF_EACH_KIND = ('fedavg', 'scaffold', 'mime', 'fedmd', 'ridge', 'fedper', 'ifca')


def marks(name: str, of_each_kind: Collection[str] = OF_EACH_KIND) -> list:
    """Returns the mark of a case that another one of its kind stands for, if so."""
    return [] if name in of_each_kind else [pytest.mark.walk]


def over(names: Sequence[str], of_each_kind: Collection[str] = OF_EACH_KIND) -> list:
    """Returns a parameter for each case, marked as a `walk` but for one of a kind."""
    return [pytest.param(name, marks=marks(name, of_each_kind)) for name in names]


def slow(
    names: Sequence[str],
    quick: Collection[str],
    of_each_kind: Collection[str] = OF_EACH_KIND,
) -> list:
    """Returns a parameter for each case: quick, slow, or slow and a `walk`."""
    return [
        name
        if name in quick
        else pytest.param(name, marks=[pytest.mark.slow, *marks(name, of_each_kind)])
        for name in names
    ]
