"""Makes certificates for the hosts of a cluster, and starts nodes with them.

A program that uses the cluster needs what `environment` prints:
`eval "$(python -m tff_transfer.cluster environment FOLDER)"`.
"""

import argparse
import datetime
import pathlib
import shlex
import signal
import sys

from tff_transfer import pipes
from tff_transfer.cluster import certificates, environment, nodes
from tff_transfer.errors import UserError


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m tff_transfer.cluster', description=__doc__
    )
    commands = parser.add_subparsers(dest='command', required=True)
    make = commands.add_parser(
        'certificates',
        help='make an authority, or use the one there, and a folder for each host',
    )
    make.add_argument('directory', type=pathlib.Path, help='stays on this machine')
    make.add_argument(
        '--host',
        action='append',
        required=True,
        metavar='ADDRESS[,NAME...]',
        help='the IP address by which others reach a host, and its other names; once'
        ' for each host',
    )
    make.add_argument(
        '--days', type=int, default=365, help='how long they are valid (365)'
    )
    say = commands.add_parser(
        'environment', help="say a host's variables for Ray, as a shell takes them"
    )
    say.add_argument('directory', type=pathlib.Path, help="this host's folder")
    for name, help_ in {'head': 'start a head', 'worker': 'start another node'}.items():
        node = commands.add_parser(name, help=help_, argument_default=argparse.SUPPRESS)
        node.add_argument(
            '--address', required=True, help="this host's IPv4 address in the cluster"
        )
        node.add_argument(
            '--directory',
            type=pathlib.Path,
            help="this host's folder of certificates; needed but on 127.0.0.1",
        )
        if name == 'head':
            node.add_argument('--port', type=int, help='where it listens (6379)')
            node.add_argument(
                '--temp_dir',
                type=pathlib.Path,
                help='sockets and logs, on every node'
                f' ({nodes.Node.temp_dir}); made for you alone',
            )
        else:
            node.add_argument('--head', required=True, metavar='HOST:PORT')
        node.add_argument('--num_cpus', type=int, help='processors to use (all)')
        node.add_argument('--num_gpus', type=int, help='GPUs to use (all)')
        node.add_argument(
            '--object_store_memory',
            type=int,
            help='bytes of shared memory for what travels (30 %% of the memory)',
        )
    return parser


def _make(directory: pathlib.Path, host: list[str], days: int) -> None:
    folders = certificates.make(
        directory,
        [each.split(',') for each in host],
        days,
        datetime.datetime.now(datetime.UTC),
    )
    for folder in folders:
        print(f'scp -pr {folder} {folder.name}:')
    print(
        f'Keep {directory / certificates.APART} to yourself: who has it makes'
        ' certificates. Who has the folder of a host runs programs on all hosts.'
    )


def _say(directory: pathlib.Path) -> None:
    # Which host a program connects to decides nothing where there is a folder.
    for name, value in environment.variables('', directory).items():
        print(f'export {name}={shlex.quote(value)}')


def main(arguments: list[str]) -> int:
    """Does what a command line says.

    Args:
      arguments: The command line without the program's name.

    Returns:
      The exit code: 0, or 2 if something is to be mended.
    """
    given = vars(_parser().parse_args(arguments))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command = given.pop('command')
        if command == 'certificates':
            _make(**given)
        elif command == 'environment':
            _say(**given)
        else:
            nodes.run(nodes.Node(**given))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == '__main__':
    with pipes.may_close():
        sys.exit(main(sys.argv[1:]))
