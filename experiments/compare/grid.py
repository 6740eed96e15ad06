"""The configurations of a grid: arms, which are run with each seed."""

import dataclasses
import hashlib
import itertools
import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from tff_transfer import options
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.records import run_directory
from tff_transfer.training.combinations import one_round
from tff_transfer.training.config import Config
from tff_transfer.training.training_config import TrainingConfig

# Characters of a folder's name, without those of its configuration's hash.
_LONGEST = 120
_VARIANTS = {
    field.name: field.metadata['registry']
    for field in dataclasses.fields(Config)
    if 'registry' in field.metadata
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """What is compared with others: a configuration but for its seed.

    Attributes:
      name: What tells it from the others, such as `fedprox, mu=0.1`.
      configs: The same with each seed.
    """

    name: str
    configs: tuple[Config, ...]


def fitted(config: Config) -> Config:
    """Returns a configuration in which what has no effect has its default.

    So a flag of a grid is for those of its methods that it has an effect with.
    """
    name = registry.name_of(config.algorithm)
    parts = options.in_effect(
        config.data, config.model, config.training, **_chosen(config)
    )
    data, model, training = parts
    if name in registry.OF_ONE_ROUND:
        kept = one_round.WITHOUT_ROUNDS
        training = TrainingConfig(**{key: getattr(training, key) for key in kept})
    return dataclasses.replace(config, data=data, model=model, training=training)


def _chosen(config: Config) -> dict[str, str]:
    return {name: of.name_of(getattr(config, name)) for name, of in _VARIANTS.items()}


def _combinations(given: Mapping[str, Sequence]) -> Iterator[dict[str, Any]]:
    """Yields values by flag: those of a variant's option where it is chosen alone."""
    variants = {name: given[name] for name in _VARIANTS if name in given}
    for choice in itertools.product(*variants.values()):
        chosen = dict(zip(variants, choice, strict=True))
        names = {**_chosen(Config()), **chosen}.values()
        rest = {
            name: values
            for name, values in given.items()
            if name not in variants
            and ('.' not in name or name.partition('.')[0] in names)
        }
        for values in itertools.product(*rest.values()):
            yield {**chosen, **dict(zip(rest, values, strict=True))}


def _made(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Config:
    """Returns a configuration of some flags and the defaults of the others."""
    found = {
        name: SimpleNamespace(value=values.get(name, default), present=name in values)
        for name, default in defaults.items()
    }
    return options.from_flags(Config, found)


def defaults() -> dict[str, Any]:
    """Returns the default of each flag of a configuration, by name."""
    values = options.flags.FlagValues()
    options.define_flags(Config, values)
    return {name: values[name].value for name in values}


def _fit(values: Mapping, known: Mapping, may_go: set[str]) -> Config:
    """Returns the configuration of some flags, without some that it cannot take."""
    found = fitted(_made(values, known))
    if may_go and _why_not(found):
        rest = {name: it for name, it in values.items() if name not in may_go}
        other = fitted(_made(rest, known))
        found = found if _why_not(other) else other
    return found


def _why_not(config: Config) -> str:
    """Returns why a configuration cannot be, in one line; empty if it can."""
    try:
        config.check()
    except UserError as error:
        return str(error)
    return ''


def arms(given: Mapping[str, Sequence], where_it_fits: Sequence[str] = ()) -> list[Arm]:
    """Returns the arms of a grid, in the order of its axes.

    Args:
      given: The values of each flag that is given, one or several.
      where_it_fits: Those of them that may have no effect; of these, variants of one
        value are left out of the configurations that cannot be with them, but can be
        without.

    Raises:
      UserError: A flag has no effect in any of them.
    """
    known, made = defaults(), []
    alone = {name for name, values in given.items() if len(values) == 1}
    may_go = alone & _VARIANTS.keys() & {*where_it_fits}
    for values in _combinations(given):
        config = _made(values, known)
        made.append((values, config, _fit(values, known, may_go)))
    asked = [name for name in given if name not in where_it_fits]
    _check_effects(asked, known, made)
    several = [name for name, values in given.items() if len(values) > 1]
    groups = {}
    for values, _, config in made:
        group = groups.setdefault(tuple(_chosen(config).items()), {})
        told = {name: _value(config, name, values) for name in several}
        group[config] = {name: it for name, it in told.items() if it is not None}
    found = {}
    for group in groups.values():
        varied = [
            n for n in several if len({str(t.get(n)) for t in group.values()}) > 1
        ]
        for config, told in group.items():
            name = _name(told, varied) or registry.name_of(config.algorithm)
            found.setdefault(name, []).append(config)
    return [Arm(name, tuple(configs)) for name, configs in found.items()]


def _value(config: Config, name: str, values: Mapping[str, Any]) -> Any:
    """Returns the value that a flag has in a configuration, None if it has none."""
    if name in _VARIANTS:
        return _chosen(config)[name]
    if '.' in name:
        return values.get(name)
    parts = (config.data, config.model, config.training)
    return next(getattr(part, name) for part in parts if hasattr(part, name))


def _name(told: Mapping[str, Any], varied: Iterable[str]) -> str:
    """Returns what an arm is called, by the axes that tell it from others."""
    words = [str(it) for name, it in told.items() if name in _VARIANTS]
    for name in varied:
        if name not in _VARIANTS and name != 'seed':
            of, _, short = name.rpartition('.')
            called = short if of in words else name
            words.append(f'{called}={_shown(told[name])}')
    return ', '.join(words)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ','.join(map(str, value)) or 'none'
    return f'{value:g}' if isinstance(value, float) else str(value)


def _check_effects(asked: Sequence, known: Mapping, made: Sequence[tuple]) -> None:
    """Refuses flags that no configuration heeds, in the words of the first of them."""
    for name in asked:
        if name in _VARIANTS:
            continue
        with_it = [(of[name], bare, fit) for of, bare, fit in made if name in of]
        if not with_it:
            variant = name.partition('.')[0]
            raise UserError(
                f'--{name} is for {variant}, which is in none of the configurations;'
                ' leave it out'
            )
        set_to = [it for it in with_it if it[0] != known[name]]
        if '.' in name or not set_to:
            continue
        if not any(_value(fit, name, {}) == value for value, _, fit in set_to):
            set_to[0][1].check()


def unfit(found: Iterable[Arm]) -> dict[str, str]:
    """Returns why configurations cannot be, in one line, by the names of their arms."""
    return {
        arm.name: why
        for arm in found
        for config in arm.configs
        if (why := _why_not(config))
    }


def folder_of(runs: pathlib.Path, name: str, config: Config) -> pathlib.Path:
    """Returns the folder of a run: the one that it has, or one named by its arm.

    Args:
      runs: The folder of all runs.
      name: What the arm of the run is called, in a grid that holds these others.
      config: Its configuration, by whose hash, at the end of the name, it is known
        again among others; the hash is the same if it goes on to more rounds.
    """
    unset = {key: getattr(TrainingConfig, key) for key in run_directory.MAY_CHANGE}
    training = dataclasses.replace(config.training, **unset)
    flags = options.to_flags(dataclasses.replace(config, training=training))
    digest = hashlib.sha256(' '.join(flags).encode()).hexdigest()[:8]
    plain = re.sub(r'[^\w.=,-]+', '', f'{name},seed={config.training.seed}')
    there = sorted(runs.glob(f'*-{digest}'))
    return there[0] if there else runs / f'{plain[:_LONGEST]}-{digest}'
