"""What every program here does with its command line and its errors."""

import sys
from collections.abc import Callable

from absl import app, flags, logging

from tff_transfer.errors import UserError


def fail(message: str) -> None:
    """Ends the program with exit code 2 and one line on standard error."""
    print(f'error: {" ".join(str(message).split())}', file=sys.stderr)
    sys.exit(2)


def _parse(arguments: list[str]) -> list[str]:
    try:
        return flags.FLAGS(arguments)
    except flags.Error as error:
        fail(error)
    except OSError as error:
        fail(f'--flagfile: {error}')


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

    app.run(guarded, flags_parser=_parse)
