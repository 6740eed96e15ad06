"""Lists the federated methods that --algorithm takes: source and options of each.

python -m experiments.methods
"""

import dataclasses
import sys
import textwrap

from experiments import command_line
from tff_transfer.algorithms import registry


def description(name: str) -> str:
    """Returns a method's name, what its file says of it, and its options."""
    chosen = registry.options(name)
    said = sys.modules[chosen.__module__].__doc__.strip()
    lines = [f'--algorithm={name}', textwrap.indent(said, '    ')]
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
