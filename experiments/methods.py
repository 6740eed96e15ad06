"""Lists the federated methods that --algorithm takes: source and options of each.

python -m experiments.methods
"""

import dataclasses
import sys
import textwrap

from experiments import command_line
from tff_transfer.algorithms import registry
from tff_transfer.training.config import Config


def description(name: str, flag: str = 'algorithm') -> str:
    """Returns what a choice is, as its file says, and its options.

    Args:
      name: Of a method, or of what the flag chooses.
      flag: A field of `Config` that is one of several, such as `algorithm`.

    Raises:
      UserError: There is no such method.
    """
    fields = {field.name: field.metadata for field in dataclasses.fields(Config)}
    chosen = fields[flag]['registry'].options(name)
    said = sys.modules[chosen.__module__].__doc__.strip()
    lines = [f'--{flag}={name}', textwrap.indent(said, '    ')]
    for field in dataclasses.fields(chosen):
        told = f'--{name}.{field.name} ({field.default}): {field.metadata["help"]}'
        lines.append(textwrap.fill(told, 84, initial_indent='    ',
                                   subsequent_indent='        '))  # fmt: skip
    return '\n'.join(lines)


def main() -> None:
    """Prints all of them."""
    print('\n\n'.join(map(description, registry.NAMES)))


if __name__ == '__main__':
    command_line.run(main)
