"""What Ray is told by environment variables, which it reads as it is imported.

With `RAY_USE_TLS` its processes speak TLS 1.3 and want a certificate of whoever
connects (https://docs.ray.io/en/latest/ray-core/configure.html, "TLS
authentication"); with `RAY_AUTH_MODE` every call has to bring a token besides
(https://docs.ray.io/en/latest/ray-security/token-auth.html). Either is off unless
asked for, and a token alone would travel in plain text.
"""

import datetime
import importlib.util
import os
import pathlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from tff_transfer.cluster.certificates import AUTHORITY, CERTIFICATE, KEY, TOKEN
from tff_transfer.errors import UserError, one_line

# At this address, and at no other of 127.0.0.0/8, Ray listens on loopback alone.
LOOPBACK = '127.0.0.1'
# Ray's settings of a cluster, which its head gives to all others. What takes no more
# bytes than `max_direct_call_object_size` travels in calls and answers themselves: the
# way round by two object stores takes 7 ms and as much of two processors. Larger
# chunks of the rest would be memory that is new each time.
SETTINGS = {
    'max_direct_call_object_size': 2**22,
    'task_rpc_inlined_bytes_limit': 2**23,
    'object_manager_default_chunk_size': 2**21,
}
_RENEW = 'python -m tff_transfer.cluster certificates'


def variables(host: str, directory: pathlib.Path | None) -> dict[str, str]:
    """Returns what has to be in the environment before `ray` is imported.

    Args:
      host: The address at which a node will listen, or to which a program connects.
      directory: The folder that `certificates` made for this host. None for a cluster
        on loopback alone, where who can connect can do all that the user can anyway.

    Returns:
      Values by variable.

    Raises:
      UserError: If the host is beyond loopback and there is no folder, or the folder
        is not whole, can be read by others, or its certificate is not valid now.
    """
    usage = {'RAY_USAGE_STATS_ENABLED': '0'}
    if directory is None:
        if host != LOOPBACK:
            raise UserError(
                f'{host} is beyond loopback ({LOOPBACK}), where a cluster needs'
                f' certificates and a token: make them with {_RENEW}, and give this'
                " host's folder of them"
            )
        return usage
    directory = directory.absolute()
    check(directory, datetime.datetime.now(datetime.UTC))
    return usage | {
        'RAY_USE_TLS': '1',
        'RAY_TLS_SERVER_CERT': str(directory / CERTIFICATE),
        'RAY_TLS_SERVER_KEY': str(directory / KEY),
        'RAY_TLS_CA_CERT': str(directory / AUTHORITY),
        'RAY_AUTH_MODE': 'token',
        'RAY_AUTH_TOKEN_PATH': str(directory / TOKEN),
    }


def entered() -> pathlib.Path | None:
    """Returns the folder whose variables this process has, None if it has not all."""
    certificate = os.environ.get('RAY_TLS_SERVER_CERT')
    on = os.environ.get('RAY_USE_TLS'), os.environ.get('RAY_AUTH_MODE')
    if certificate is None or on != ('1', 'token'):
        return None
    return pathlib.Path(certificate).parent


def require_ray() -> None:
    """Looks whether Ray is there, without importing it.

    Raises:
      UserError: If it is not.
    """
    if importlib.util.find_spec('ray') is None:
        raise UserError(
            'clusters need Ray, which is not installed: pip install ray==2.52.1'
        )


def check(directory: pathlib.Path, now: datetime.datetime) -> None:
    """Looks whether Ray can use a host's folder, and whether it is kept well.

    Args:
      directory: The folder.
      now: The time, with its zone.

    Raises:
      UserError: If a file is missing or not what it should be, if others can read the
        key or the token, or if the certificate is not valid at that time.
    """
    for name in (KEY, TOKEN):
        path = directory / name
        if path.exists() and path.stat().st_mode & 0o077:
            raise UserError(f'others can read {path}: chmod 600 {path}')
    certificate = _certificate(directory)
    try:
        authority = x509.load_pem_x509_certificate((directory / AUTHORITY).read_bytes())
        certificate.verify_directly_issued_by(authority)
        key = serialization.load_pem_private_key(
            (directory / KEY).read_bytes(), password=None
        )
        whole = key.public_key() == certificate.public_key()
        whole &= bool((directory / TOKEN).read_text('ascii').strip())
    except (OSError, ValueError, TypeError, InvalidSignature) as error:
        raise _not_whole(directory, one_line(error)) from error
    if not whole:
        raise _not_whole(directory, f'{KEY} is of another certificate, or no token')
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now < end:
        raise UserError(
            f'the certificate in {directory} is valid from {begin:%Y-%m-%d} to'
            f' {end:%Y-%m-%d}: set the clock right, or make another with {_RENEW}'
        )


def names(directory: pathlib.Path) -> set[str]:
    """Returns the names and IP addresses that a host's certificate is for.

    Args:
      directory: The host's folder.

    Raises:
      UserError: If there is no certificate.
    """
    extension = _certificate(directory).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    of = extension.value.get_values_for_type
    return {*of(x509.DNSName), *map(str, of(x509.IPAddress))}


def _certificate(directory: pathlib.Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate((directory / CERTIFICATE).read_bytes())
    except (OSError, ValueError) as error:
        raise _not_whole(directory, one_line(error)) from error


def _not_whole(directory: pathlib.Path, why: str) -> UserError:
    return UserError(
        f'{directory} is not the folder of a host that {_RENEW} makes ({why}):'
        ' copy it whole, from where the authority is'
    )
