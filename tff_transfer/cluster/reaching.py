"""How a process enters a cluster: it looks whether the head can be reached, which Ray
would try for minutes and then say that it took too long, and readies itself for Ray."""

import os
import pathlib
import socket
import ssl
import sys

from tff_transfer.cluster import environment
from tff_transfer.cluster.certificates import AUTHORITY, CERTIFICATE, KEY
from tff_transfer.errors import UserError, one_line

_SECONDS = 10


def split(address: str) -> tuple[str, int]:
    """Returns host and port of `host:port`.

    Raises:
      UserError: If it is none.
    """
    host, _, port = address.rpartition(':')
    if not host or not port.isascii() or not port.isdigit():
        raise UserError(f'{address!r} is no address: give it as in 10.0.0.1:6379')
    return host, int(port)


def enter(address: str, directory: pathlib.Path | None = None) -> None:
    """Readies this process to connect to a cluster, before it imports `ray`.

    Args:
      address: Of the head, `host:port`.
      directory: This host's folder that `certificates` made. None for the one whose
        variables the process has already, or for a cluster on loopback.

    Raises:
      UserError: As `environment.variables` and `reach`, or if `ray` was imported
        before without these variables, which it does not read twice.
    """
    directory = directory or environment.entered()
    needed = environment.variables(split(address)[0], directory)
    late = 'ray' in sys.modules and directory is not None
    if late and any(os.environ.get(name) != it for name, it in needed.items()):
        raise UserError(
            'ray has been imported without the certificates in'
            f' {directory}: use the cluster before anything imports ray, or start'
            ' Python with the variables of docs/cluster.md'
        )
    reach(address, directory)
    os.environ.update(needed)


def reach(address: str, directory: pathlib.Path | None) -> None:
    """Greets a cluster's head as Ray's processes do, and hangs up.

    Args:
      address: Of the head, `host:port`.
      directory: This host's folder of certificate and key, or None for a cluster
        without.

    Raises:
      UserError: If nobody answers, or who answers is not of the same authority, does
        not take this host's certificate, or does not speak TLS.
    """
    try:
        with socket.create_connection(split(address), _SECONDS) as connection:
            if directory is not None:
                _greet(address, connection, directory)
    except OSError as error:
        raise UserError(
            f'nobody answers at {address} ({one_line(error)}): start the head first,'
            ' and let its firewall pass this host'
        ) from error


def _greet(address: str, connection: socket.socket, directory: pathlib.Path) -> None:
    context = ssl.create_default_context(cafile=directory / AUTHORITY)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(['h2'])
    context.load_cert_chain(directory / CERTIFICATE, directory / KEY)
    try:
        with context.wrap_socket(connection, server_hostname=split(address)[0]) as it:
            # A server of TLS 1.3 judges the client after the client has done its part
            # (RFC 8446, section 4.4.2.4), and gRPC's speaks first if all is well.
            taken = bool(it.recv(1))
    except ssl.SSLCertVerificationError as error:
        raise UserError(
            f'who answers at {address} is not of the cluster that {directory} is for'
            f' ({error.verify_message}): give the address that its certificate names,'
            ' and folders made by one authority to all hosts'
        ) from error
    except (ssl.SSLError, ConnectionError) as error:
        if getattr(error, 'reason', None) == 'WRONG_VERSION_NUMBER':
            raise UserError(
                f'who answers at {address} does not speak TLS: start it with'
                ' python -m tff_transfer.cluster head --directory=...'
            ) from error
        taken = False
    if not taken:
        raise UserError(
            f'the head at {address} does not take the certificate in {directory}:'
            ' use the folder that its authority made for this host'
        )
