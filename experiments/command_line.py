"""What every program here does with its command line and its errors."""

import argparse
import pathlib
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging

from tff_transfer import options, pipes
from tff_transfer.errors import UserError

# Flags of earlier versions, and what they are called now.
_NOW = {'ridge_penalty': '--algorithm=ridge --ridge.penalty'}
# Flags whose choices have options of their own, which --help shows.
CHOSEN = (
    *('algorithm', 'distill_from', 'privacy', 'aggregation', 'compression'),
    *('selection', 'fleet', 'timing', 'attack'),
)
_PRESETS = pathlib.Path(__file__).parent / 'presets'


def fail(message: str) -> None:
    """Ends the program with exit code 2 and one line on standard error."""
    print(f'error: {" ".join(str(message).split())}', file=sys.stderr)
    sys.exit(2)


def refuse(config, chosen: Sequence[str], instead: str) -> None:
    """Refuses flags that a study would override.

    Args:
      config: What flags made, a `training.config.Config`.
      chosen: The names of those that the study chooses itself, of training or of parts
        of the configuration.
      instead: What one gives instead.

    Raises:
      UserError: There are any.
    """
    changed = (*options.changed(config.training), *options.changed(config))
    given = [name for name in changed if name in chosen]
    if given:
        raise UserError(
            f'this study chooses {", ".join(given)} itself; leave it out, and give'
            f' {instead}'
        )


def with_presets(arguments: list[str]) -> list[str]:
    """Returns a command line in which presets named as flag files have their paths.

    Args:
      arguments: The command line; `--flagfile=NAME` may name a file or, where there
        is no such file, one of the presets that come with this package.

    Raises:
      UserError: Neither; the message lists the presets.
    """
    found, awaits = [], False
    for argument in arguments:
        flag, equals, name = argument.partition('=')
        given = flag in ('--flagfile', '-flagfile')
        if given and equals:
            argument = f'{flag}={_flag_file(name)}'
        elif awaits:
            argument = _flag_file(argument)
        awaits = given and not equals
        found.append(argument)
    return found


def _flag_file(name: str) -> str:
    if pathlib.Path(name).expanduser().exists():
        return name
    presets = {path.stem: str(path) for path in sorted(_PRESETS.glob('*.txt'))}
    if name not in presets:
        raise UserError(
            f'--flagfile={name}: there is no such file, and no such preset; the presets'
            f' are {", ".join(presets)}'
        )
    return presets[name]


def _parse(arguments: list[str]) -> list[str]:
    try:
        arguments = with_presets(arguments)
        _help_if_asked(flags.FLAGS.read_flags_from_files(arguments))
        return flags.FLAGS(arguments)
    except flags.UnrecognizedFlagError as error:
        now = _NOW.get(error.flagname)
        fail(f'--{error.flagname} is {now} now; give that' if now else error)
    except (flags.Error, UserError) as error:
        fail(error)
    except (OSError, UnicodeDecodeError) as error:
        fail(f'--flagfile: {error}')


def _help_if_asked(arguments: list[str]) -> None:
    """Prints the flags and ends the program, if a command line asks for that."""
    asking = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    asking.add_argument('--help', '-help', '--helpshort', '-?', action='store_true')
    for flag in CHOSEN:
        asking.add_argument(f'--{flag}', f'-{flag}', default=argparse.SUPPRESS)
    asked, _ = asking.parse_known_args(arguments[1:])
    if asked.help:
        from experiments import help_page  # It loads TensorFlow.

        program, about = arguments[0], sys.modules['__main__'].__doc__ or ''
        print(help_page.page(flags.FLAGS, program, about, vars(asked)))
        sys.exit()


def run(main: Callable[..., None], takes_arguments: bool = False) -> None:
    """Parses the flags and runs a program.

    Bad flags and every `UserError` end it with exit code 2 and one line.

    Args:
      main: What to do with the flags parsed.
      takes_arguments: Whether `main` takes the list of the arguments that are no
        flags; otherwise there may be none.
    """

    def guarded(arguments):
        logging.set_verbosity(logging.WARNING)
        rest = arguments[1:]
        if rest and not takes_arguments:
            fail(f'{rest[0]!r} is no flag; see --help')
        try:
            main(rest) if takes_arguments else main()
        except UserError as error:
            fail(error)
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            sys.exit(130)

    with pipes.may_close():
        app.run(guarded, flags_parser=_parse)
