"""Knocks at a host's ports as strangers do, and says what came back.

`probe.py HOST OURS THEIRS PORT...` prints a JSON object: for each port what someone
gets who speaks plain text, or TLS with no certificate, with one of another authority,
or with a right one and no token or a wrong one. It runs as a program, since it has to
be in a network of its own.
"""

import json
import pathlib
import socket
import ssl
import sys

import grpc

# A method of each service that Ray's processes have.
METHODS = (
    '/ray.rpc.NodeInfoGcsService/GetAllNodeInfo',
    '/ray.rpc.InternalKVGcsService/InternalKVKeys',
    '/ray.rpc.NodeManagerService/GetNodeStats',
    '/ray.rpc.ObjectManagerService/FreeObjects',
    '/ray.rpc.CoreWorkerService/GetCoreWorkerStats',
)


def plain(host: str, port: int, sent: bytes) -> str:
    """Returns what a server says to plain text, in hexadecimal, or how it hangs up."""
    try:
        with socket.create_connection((host, port), 3) as connection:
            connection.sendall(sent)
            return connection.recv(1000).hex()
    except OSError as error:
        return type(error).__name__


def encrypted(host: str, port: int, folder: pathlib.Path | None) -> str:
    """Returns the version of TLS if the server speaks to us, else how it refuses."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(['h2'])
    if folder is not None:
        context.load_cert_chain(folder / 'host.crt', folder / 'host.key')
    try:
        with (
            socket.create_connection((host, port), 3) as connection,
            context.wrap_socket(connection) as it,
        ):
            return it.version() if it.recv(1) else 'hung up'
    except OSError as error:
        return getattr(error, 'reason', None) or type(error).__name__


def called(host: str, port: int, folder: pathlib.Path, token: str | None) -> list[str]:
    """Returns the statuses of calls with a right certificate, without repetition."""
    credentials = grpc.ssl_channel_credentials(
        *((folder / n).read_bytes() for n in ('authority.crt', 'host.key', 'host.crt'))
    )
    metadata = token and [('authorization', f'Bearer {token}')]
    statuses = set()
    with grpc.secure_channel(f'{host}:{port}', credentials) as channel:
        for method in METHODS:
            try:
                channel.unary_unary(method)(b'', timeout=5, metadata=metadata)
                statuses.add('OK')
            except grpc.RpcError as error:
                statuses.add(error.code().name)
    return sorted(statuses)


def main(host: str, ours: pathlib.Path, theirs: pathlib.Path, ports: list[int]) -> None:
    """Prints what comes back."""
    token = (ours / 'token').read_text()
    preface = b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + bytes(3) + b'\x04' + bytes(5)
    found = {
        port: {
            'HTTP': plain(host, port, b'GET / HTTP/1.1\r\nHost: it\r\n\r\n'),
            'HTTP/2': plain(host, port, preface),
            'no certificate': encrypted(host, port, None),
            'of another authority': encrypted(host, port, theirs),
            'right': encrypted(host, port, ours),
            'no token': called(host, port, ours, None),
            'wrong token': called(host, port, ours, token[::-1]),
            'right token': called(host, port, ours, token),
        }
        for port in ports
    }
    print(json.dumps(found))


if __name__ == '__main__':
    main(
        sys.argv[1],
        *map(pathlib.Path, sys.argv[2:4]),
        [int(port) for port in sys.argv[4:]],
    )
