"""Converts users' own examples by client to SQLite in TFF's schema.

Usage: python -m tff_transfer.data.convert SOURCE TARGET.sqlite
"""

import argparse
import sys

from tff_transfer import pipes
from tff_transfer.data import by_client, sqlite
from tff_transfer.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Converts; returns the exit code: 0, or 2 if the user must mend something."""
    parser = argparse.ArgumentParser(
        prog='python -m tff_transfer.data.convert',
        description="Converts examples by client to SQLite in TFF's schema.",
    )
    parser.add_argument('source', help='a file or folder as for by_client.load')
    parser.add_argument('target', help='the database to write')
    for role in ('image', 'label', 'client'):
        parser.add_argument(f'--{role}_key', help=f'the key or column of the {role}s')
    parser.add_argument(
        '--image_size', type=int, help='the side that images of mixed size are given'
    )
    parser.add_argument('--test_fraction', type=float, default=0.1)
    options = vars(parser.parse_args(arguments))
    side = options.pop('image_size')
    size = None if side is None else (side, side)
    source, target = options.pop('source'), options.pop('target')
    try:
        data = by_client.load(source, image_size=size, **options)
        sqlite.write(data, target)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{target}: {len(data)} clients, {len(data.y)} examples')
    return 0


if __name__ == '__main__':
    with pipes.may_close():
        sys.exit(main())
