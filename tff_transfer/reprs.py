"""What `repr` says of objects that hold arrays: their fields, without the values."""

import dataclasses
import reprlib
from collections.abc import Collection
from typing import Any


def of_fields(instance: Any) -> str:
    """Returns a dataclass with its fields in few words.

    Arrays and specs are shown by dtype and shape, containers by their length, other
    objects by their type.
    """
    shown = (
        f'{field.name}={_short(getattr(instance, field.name))}'
        for field in dataclasses.fields(instance)
    )
    return f'{type(instance).__qualname__}({", ".join(shown)})'


def _short(value: Any) -> str:
    if hasattr(value, 'dtype') and hasattr(value, 'shape'):
        return f'{value.dtype.name} {list(value.shape)}'
    if value is None or isinstance(value, bool | int | float | str):
        return reprlib.repr(value)
    if isinstance(value, Collection):
        return f'{type(value).__name__} of {len(value)}'
    return type(value).__name__
