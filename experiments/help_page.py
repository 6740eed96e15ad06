"""The page of --help: the flags of a program, one line each, without absl's own."""

import dataclasses
import shutil
import textwrap
from collections.abc import Iterable, Mapping

from absl import flags

from experiments import command_line, methods
from tff_transfer.training.config import Config


def page(
    values: flags.FlagValues, module: str, about: str, chosen: Mapping[str, str]
) -> str:
    """Returns what a program is, and its flags in groups.

    Args:
      values: The flags.
      module: The program's name in `values`, whose key flags are shown.
      about: What the program is.
      chosen: The method whose options are shown too, by `algorithm`, and so what else
        is `CHOSEN`, if they are given.

    Raises:
      UserError: There is no such method.
    """
    shown = {
        flag.name: flag
        for flag in values.get_key_flags_for_module(module)
        if '.' not in flag.name
    }
    groups = {
        part.type.__doc__: [field.name for field in dataclasses.fields(part.type)]
        for part in dataclasses.fields(Config)
        if dataclasses.is_dataclass(part.type)
    }
    of_config = {name for names in groups.values() for name in names}
    groups['Besides.'] = [name for name in shown if name not in of_config]
    sections = [about.strip()]
    for title, names in groups.items():
        found = [shown[name] for name in names if name in shown]
        if found:
            sections.append('\n'.join([title.replace('.', ':'), *_lines(found)]))
    for flag in command_line.CHOSEN:
        if flag in chosen:
            sections.append(methods.description(chosen[flag], flag))
        elif flag in shown:
            sections.append(f'--{flag}=NAME --help shows the options of NAME too.')
    sections.append('--helpfull shows every flag with all that there is to say of it.')
    return '\n\n'.join(sections)


def _lines(found: Iterable[flags.Flag]) -> Iterable[str]:
    width = shutil.get_terminal_size(fallback=(100, 24)).columns
    told = [_with_default(flag) for flag in found]
    column = max(map(len, told)) + 4
    for flag, name in zip(found, told, strict=True):
        choices = getattr(flag.parser, 'enum_values', ())  # As absl begins its help.
        text = flag.help.removeprefix(f'<{"|".join(choices)}>: ')
        text = textwrap.shorten(text, max(width - column, 40), placeholder=' ...')
        yield f'  {name}'.ljust(column) + text


def _with_default(flag: flags.Flag) -> str:
    name = f'--[no]{flag.name}' if flag.boolean else f'--{flag.name}'
    default = (flag.default_as_str or '').strip("'")
    return f'{name}={default}' if default else name
