"""Typed options: one declaration is default, documentation, check and flag."""

import dataclasses
import difflib
import itertools
import math
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from absl import flags

from tff_transfer.errors import UserError

# As a choice in `only_for`: any value but the default.
GIVEN = 'given'
# More choices than these make no readable line.
_MANY = 5


def option(
    default: Any,
    help: str,
    *,
    choices: Sequence[str] | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    only_for: typing.Mapping[str, Sequence[str] | str] | None = None,
    now: typing.Mapping[str, str] | None = None,
) -> Any:
    """Declares a field of an options dataclass.

    Args:
      default: Its default; the field's annotation is its type.
      help: One sentence for `--help`.
      choices: The strings that are allowed.
      at_least: The least value.
      at_most: The greatest value.
      above: What the value must be greater than.
      below: What the value must be less than.
      only_for: The choices of other options, by name, without which it has no effect
        (see `check_effects`): some of them, or `GIVEN`.
      now: By former choices, what they are called now.

    Returns:
      A dataclass field.
    """
    metadata = dict(
        help=help,
        choices=choices,
        at_least=at_least,
        at_most=at_most,
        above=above,
        below=below,
        only_for=only_for or {},
        now=now or {},
    )
    return dataclasses.field(default=default, metadata=metadata)


def all_but(
    option: str, choices: Sequence[str], left_out: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Returns an `only_for` of all choices of an option but those that are left out."""
    return {option: tuple(choice for choice in choices if choice not in left_out)}


def variant(default: Any, help: str, registry: Any) -> Any:
    """Declares a field that is one of several options dataclasses.

    Its flag names which, and each one's own options are flags under its name:
    `--algorithm=fedprox --fedprox.mu=0.1`.

    Args:
      default: An instance of one of them.
      help: One sentence for `--help`.
      registry: Has their `NAMES`, `options` (the dataclass of a name) and `name_of`
        (the name of an instance, None if it is of no such class).

    Returns:
      A dataclass field.
    """
    return dataclasses.field(
        default=default, metadata={'help': help, 'registry': registry}
    )


class Variants:
    """Options dataclasses by name: a registry for `variant`."""

    def __init__(self, package: str, by_name: typing.Mapping[str, type]):
        """Names them.

        Args:
          package: Where they are, for a reader.
          by_name: The classes.
        """
        self.__name__ = f'{package}.registry'
        self._by_name = dict(by_name)
        self.NAMES = tuple(by_name)

    def options(self, name: str) -> type:
        """Returns the dataclass of one of `NAMES`."""
        return self._by_name[name]

    def name_of(self, chosen: Any) -> str | None:
        """Returns the name of what these are the options of, or None."""
        return next((n for n, of in self._by_name.items() if type(chosen) is of), None)


def _kind(field: dataclasses.Field) -> tuple[type, bool]:
    """Returns a field's type (or its items' type) and whether it is a tuple."""
    annotation = field.type
    if isinstance(annotation, types.UnionType):
        annotation = next(
            a for a in typing.get_args(annotation) if a is not types.NoneType
        )
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0], True
    return annotation, False


def check(options: Any, prefix: str = '') -> None:
    """Checks each field of an options dataclass against its declaration.

    Args:
      options: The dataclass.
      prefix: What its flags begin with, such as `fedprox.`.

    Raises:
      UserError: A value of another type or out of its bounds; the message names the
        field as its flag.
    """
    for field in dataclasses.fields(options):
        value, rule = getattr(options, field.name), field.metadata
        kind, many = _kind(field)
        if value is None and isinstance(field.type, types.UnionType):
            continue
        if many and not isinstance(value, tuple):
            raise UserError(
                f'--{prefix}{field.name} is {value!r}, but must be a tuple, such as'
                ' (512, 256)'
            )
        for item in value if many else [value]:
            _check_value(f'--{prefix}{field.name}', item, kind, rule)


def _check_value(name: str, value: Any, kind: type, rule: typing.Mapping) -> None:
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (
        isinstance(value, bool) and kind is not bool
    ):
        raise UserError(f'{name} is {value!r}, but must be of type {kind.__name__}')
    if isinstance(value, int) and abs(value) >= 2**63:
        raise UserError(f'{name} is beyond 2**63, about 9e18; give a smaller number')
    if kind is float and not math.isfinite(value):
        raise UserError(f'{name} is {value}, but must be a finite number')
    if value in rule['now']:
        raise UserError(f'{name}={value} is {rule["now"][value]} now; give that')
    if rule['choices'] and value not in rule['choices']:
        close = difflib.get_close_matches(str(value), rule['choices'], 1)
        hint = f'; did you mean {close[0]}?' if close else ''
        raise UserError(
            f'{name} is {value!r}, but must be one of'
            f' {", ".join(rule["choices"])}{hint}'
        )
    if rule['at_least'] is not None and value < rule['at_least']:
        raise UserError(f'{name} is {value}, but must be at least {rule["at_least"]}')
    if rule['at_most'] is not None and value > rule['at_most']:
        raise UserError(f'{name} is {value}, but must be at most {rule["at_most"]}')
    if rule['above'] is not None and value <= rule['above']:
        raise UserError(f'{name} is {value}, but must be above {rule["above"]}')
    if rule['below'] is not None and value >= rule['below']:
        raise UserError(f'{name} is {value}, but must be below {rule["below"]}')


def check_effects(*parts: Any, prefix: str = '', **variants: str) -> None:
    """Checks that no option is set that the others leave without effect.

    Args:
      parts: Options dataclasses; an `only_for` may name an option of any of them.
      prefix: What their flags begin with, such as `fedgan.`.
      variants: The names of the variants that are chosen, which it may name too.

    Raises:
      UserError: An option is not its default, and one that it is `only_for` has
        another choice.
    """
    for field, other, found in _without_effect(parts, variants):
        allowed = field.metadata['only_for'][other]
        if allowed == GIVEN:
            raise UserError(
                f'--{prefix}{field.name} is for --{prefix}{other}; give both or leave'
                ' it out'
            )
        if len(allowed) > _MANY:
            told = f'is not for --{prefix}{other}={found}'
        else:
            other = f'{prefix}{other}'
            told = f'is for --{other}={_either(allowed)}, but --{other} is {found}'
        raise UserError(f'--{prefix}{field.name} {told}; leave it out')


def in_effect(*parts: Any, **variants: str) -> list[Any]:
    """Returns options dataclasses in which what has no effect has its default.

    Args:
      parts: What `check_effects` takes, which then refuses nothing.
      variants: The names of the variants that are chosen.
    """
    while idle := {f.name: f.default for f, *_ in _without_effect(parts, variants)}:
        parts = [
            dataclasses.replace(part, **{n: idle[n] for n in idle if n in vars(part)})
            for part in parts
        ]
    return list(parts)


def _without_effect(
    parts: Sequence[Any], variants: typing.Mapping[str, str]
) -> Iterator[tuple[dataclasses.Field, str, Any]]:
    """Yields each option that is set without effect, and which other makes it so."""
    chosen = {k: v for part in parts for k, v in vars(part).items()} | variants
    fields = list(itertools.chain(*map(dataclasses.fields, parts)))
    given = {field.name for field in fields if chosen[field.name] != field.default}
    for field in fields:
        if field.name not in given:
            continue
        for other, allowed in field.metadata['only_for'].items():
            if other not in given if allowed == GIVEN else chosen[other] not in allowed:
                yield field, other, chosen[other]


def _either(words: Sequence[str]) -> str:
    *others, last = words
    return f'{", ".join(others)} or {last}' if others else last


def define_flags(cls: type, values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines an absl flag for each field of a dataclass and of those within it."""
    for field in dataclasses.fields(cls):
        if 'registry' in field.metadata:
            registry, help = field.metadata['registry'], field.metadata['help']
            name = registry.name_of(field.default)
            flags.DEFINE_enum(field.name, name, registry.NAMES, help, values)
            for name in registry.NAMES:
                for inner in dataclasses.fields(registry.options(name)):
                    _define_flag(f'{name}.{inner.name}', inner, values)
        elif dataclasses.is_dataclass(field.type):
            define_flags(field.type, values)
        else:
            _define_flag(field.name, field, values)


def _define_flag(name: str, field: dataclasses.Field, values: flags.FlagValues) -> None:
    kind, many = _kind(field)
    arguments = (name, field.default, field.metadata['help'])
    if many:
        parsers = {int: flags.IntegerParser, float: flags.FloatParser}
        item = parsers.get(kind, flags.ArgumentParser)()
        serializer = flags.CsvListSerializer(',')
        flags.DEFINE(_CommaSeparated(item), *arguments, values, serializer)
    elif field.metadata['choices']:
        known = [*field.metadata['choices'], *field.metadata['now']]
        flags.DEFINE_enum(*arguments[:2], known, arguments[2], values)
    else:
        define = {
            bool: flags.DEFINE_bool,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            str: flags.DEFINE_string,
        }[kind]
        define(*arguments, flag_values=values)


class _CommaSeparated(flags.ArgumentParser):
    """Parses `1,2,3`, or nothing, as a tuple."""

    syntactic_help = 'a comma separated list'

    def __init__(self, item: flags.ArgumentParser):
        self.item = item

    def parse(self, argument):
        if isinstance(argument, str):
            argument = [part for part in argument.split(',') if part.strip()]
        return tuple(self.item.parse(part) for part in argument)

    def flag_type(self):
        return 'comma separated list'


def from_flags(cls: type, values: flags.FlagValues = flags.FLAGS) -> Any:
    """Makes a dataclass whose flags were defined by `define_flags` from them.

    Raises:
      UserError: A flag is given of a variant that is not the one chosen.
    """
    made = {}
    for field in dataclasses.fields(cls):
        if 'registry' in field.metadata:
            made[field.name] = _variant_from_flags(field, values)
        elif dataclasses.is_dataclass(field.type):
            made[field.name] = from_flags(field.type, values)
        else:
            made[field.name] = values[field.name].value
    return cls(**made)


def _variant_from_flags(field: dataclasses.Field, values: flags.FlagValues) -> Any:
    registry, chosen = field.metadata['registry'], values[field.name].value
    of_name = {
        name: [inner.name for inner in dataclasses.fields(registry.options(name))]
        for name in registry.NAMES
    }
    for name, inside in of_name.items():
        for option_name in inside:
            if name != chosen and values[f'{name}.{option_name}'].present:
                raise UserError(
                    f'--{name}.{option_name} is for --{field.name}={name}, but'
                    f' --{field.name} is {chosen}; leave it out'
                )
    own = {name: values[f'{chosen}.{name}'].value for name in of_name[chosen]}
    return registry.options(chosen)(**own)


def changed(options: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that differ from its defaults."""
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    defaults = {f.name: f.default for f in dataclasses.fields(options)}
    return {name: v for name, v in values.items() if v != defaults[name]}


def repr_of_changed(options: Any) -> str:
    """Returns what makes a dataclass again: the fields that are not its defaults."""
    shown = (f'{name}={value!r}' for name, value in changed(options).items())
    return f'{type(options).__qualname__}({", ".join(shown)})'


def to_flags(options: Any, prefix: str = '') -> list[str]:
    """Returns the flags that `from_flags` makes a dataclass of, without defaults."""
    found = []
    fields = {field.name: field for field in dataclasses.fields(options)}
    for name, value in changed(options).items():
        if 'registry' in fields[name].metadata:
            chosen = fields[name].metadata['registry'].name_of(value)
            found += [f'--{name}={chosen}', *to_flags(value, f'{chosen}.')]
        elif dataclasses.is_dataclass(value):
            found += to_flags(value)
        elif isinstance(value, bool):
            found.append(f'--{"" if value else "no"}{prefix}{name}')
        elif isinstance(value, tuple):
            found.append(f'--{prefix}{name}={",".join(map(str, value))}')
        else:
            found.append(f'--{prefix}{name}={value}')
    return found


def to_dict(options: Any) -> dict[str, Any]:
    """Returns a dataclass as JSON has it, a variant by its flags."""
    made = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if 'registry' in field.metadata:
            name = field.metadata['registry'].name_of(value)
            own = {f'{name}.{key}': it for key, it in to_dict(value).items()}
            made[field.name] = {field.name: name, **own}
        elif dataclasses.is_dataclass(value):
            made[field.name] = to_dict(value)
        else:
            made[field.name] = value
    return made


def from_dict(cls: type, values: typing.Mapping[str, Any]) -> Any:
    """Makes a dataclass of what `to_dict` and JSON made of one.

    What is not named, as in a run of an earlier version, has its default; and what
    is named there and not set, None, may be no option any more.

    Raises:
      KeyError: A name is not that of an option.
      TypeError: A part is no mapping.
    """
    if not isinstance(values, typing.Mapping):
        raise TypeError(f'{values!r} is no mapping')
    made = {}
    given = {name for name, value in values.items() if value is not None}
    if unknown := given - {field.name for field in dataclasses.fields(cls)}:
        raise KeyError(min(unknown))
    for field in dataclasses.fields(cls):
        if field.name not in values:
            continue
        value = values[field.name]
        if 'registry' in field.metadata:
            name = value[field.name]
            own = {
                key.removeprefix(f'{name}.'): it
                for key, it in value.items()
                if key != field.name
            }
            value = from_dict(field.metadata['registry'].options(name), own)
        elif dataclasses.is_dataclass(field.type):
            value = from_dict(field.type, value)
        elif isinstance(value, list):
            value = tuple(value)
        made[field.name] = value
    return cls(**made)
