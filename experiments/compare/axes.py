"""Flags that take several values: each of them is an axis of a grid."""

import re
from collections.abc import Mapping
from typing import Any

from absl import flags

from tff_transfer import options

# What separates the values of an axis, and those of a flag that takes a list itself.
SEPARATOR, OF_LISTS = ',', ';'
RULE = (
    f'values separated by {SEPARATOR} are an axis, a..b are the whole numbers from a to'
    f' b, and of a flag that takes a list itself {OF_LISTS} separates the values'
    ' (--hidden_units="512,256;128")'
)
_RANGE = re.compile(r'(\d+)\.\.(\d+)')
# More numbers than these are a slip.
_MOST = 1000


class Axis(tuple):
    """The values that were given of a flag, one or more."""


class _Several(flags.ArgumentParser):
    """Parses each of the values of an axis as the flag alone would."""

    def __init__(self, one: flags.ArgumentParser):
        self._one = one
        self.syntactic_help = one.syntactic_help
        if hasattr(one, 'enum_values'):
            self.enum_values = one.enum_values

    def parse(self, argument: Any) -> Axis:
        """Returns the values.

        Raises:
          ValueError: One is missing or wrong; absl names the flag.
        """
        if not isinstance(argument, str):
            return Axis([self._one.parse(argument)])
        of_lists = self._one.flag_type() == 'comma separated list'
        texts = argument.split(OF_LISTS if of_lists else SEPARATOR)
        if len(texts) > 1 and not all(text.strip() for text in texts):
            raise ValueError(f'a value is missing; {RULE}')
        if isinstance(self._one, flags.IntegerParser):
            texts = [number for text in texts for number in _numbers(text)]
        try:
            values = [self._one.parse(text) for text in texts]
        except (TypeError, ValueError) as error:
            raise ValueError(f'{error}; {RULE}') from error
        return Axis(dict.fromkeys(values))

    def flag_type(self) -> str:
        """Returns the type of each value."""
        return self._one.flag_type()


def _numbers(text: str) -> list[str]:
    """Returns the numbers of `a..b`, both ends among them, or what else it is."""
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        return [text]
    first, last = map(int, found.groups())
    if not 0 <= last - first < _MOST:
        raise ValueError(f'{text} are not 1 to {_MOST} numbers; {RULE}')
    return [str(number) for number in range(first, last + 1)]


def define_flags(cls: type, values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of a dataclass, as `options.define_flags`, each an `Axis`."""
    before = set(values)
    options.define_flags(cls, values)
    for name in set(values) - before:
        values[name].parser = _Several(values[name].parser)


def given(values: flags.FlagValues = flags.FLAGS) -> Mapping[str, Axis]:
    """Returns the flags of `define_flags` that a command line gives, by name."""
    return {
        name: values[name].value
        for name in values
        if isinstance(values[name].parser, _Several) and values[name].present
    }
