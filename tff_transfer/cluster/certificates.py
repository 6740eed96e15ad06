"""A private authority, and what each host of a cluster gets of it.

Ray's processes talk by gRPC with certificates on both sides: who serves shows one,
and so does who connects, and each trusts what the cluster's own authority signed.
"""

import datetime
import ipaddress
import os
import pathlib
import re
import secrets
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tff_transfer import files
from tff_transfer.errors import UserError, one_line

# What a host's folder holds; that of the authority has another key.
KEY, CERTIFICATE, TOKEN = 'host.key', 'host.crt', 'token'
AUTHORITY, AUTHORITY_KEY = 'authority.crt', 'authority.key'
APART = 'authority'
_AUTHORITY_DAYS = 3650
# Ray's processes on one host also meet on loopback.
_OWN = ('127.0.0.1', 'localhost')
_LABEL = '[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?'
_NAME = re.compile(rf'(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*')
_SKEW = datetime.timedelta(hours=1)  # of the hosts' clocks


def make(
    directory: pathlib.Path,
    hosts: Sequence[Sequence[str]],
    days: int,
    now: datetime.datetime,
) -> list[pathlib.Path]:
    """Makes a folder for each host, of certificate, key, authority and token.

    An authority and a token that are there already stay, so that hosts can be added
    and certificates renewed while a cluster runs.

    Args:
      directory: Where the authority is, or will be, in a folder of its own, whose key
        no host needs.
      hosts: For each host the names and IP addresses that others know it by, of which
        the first also names its folder.
      days: How long the hosts' certificates are valid from `now` on; no longer than
        the authority's, which are ten years.
      now: The time, with its zone.

    Returns:
      The hosts' folders.

    Raises:
      UserError: If a name is none or is given to two hosts, days are fewer than one,
        or the authority that is there has expired or is not whole.
    """
    _check(hosts, days)
    apart = directory / APART
    if not apart.exists():
        _make_authority(apart, now)
    authority, signer, token = _read_authority(apart)
    left = authority.not_valid_after_utc - now
    if left <= datetime.timedelta(0):
        raise UserError(
            f'the authority in {apart} has expired on'
            f' {authority.not_valid_after_utc:%Y-%m-%d}: make another in a new folder,'
            ' and give every host its certificate of it'
        )
    period = now - _SKEW, now + min(datetime.timedelta(days), left)
    return [
        _make_host(directory / names[0], names, authority, signer, token, period)
        for names in hosts
    ]


def _check(hosts: Sequence[Sequence[str]], days: int) -> None:
    if days < 1:
        raise UserError(f'certificates of {days} days: let them be valid for 1 or more')
    every = [name for names in hosts for name in names]
    for name in every:
        if not _NAME.fullmatch(name) and not _address(name) or name in (APART, *_OWN):
            raise UserError(
                f'no host can be called {name!r}: give the name or the IP address,'
                ' in small letters, by which other hosts reach it'
            )
    if twice := sorted({name for name in every if every.count(name) > 1}):
        raise UserError(f'{twice[0]} is named twice: give each host its own names')


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _make_authority(folder: pathlib.Path, now: datetime.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f'tff_transfer cluster {secrets.token_hex(4)}')
    period = now - _SKEW, now + datetime.timedelta(_AUTHORITY_DAYS)
    certificate = (
        _unsigned(name, name, key, key, period)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    with files.replacing(folder) as new:
        new.mkdir(mode=0o700)
        _write_secret(new / AUTHORITY_KEY, _pem(key))
        _write_secret(new / TOKEN, secrets.token_hex(32).encode())
        (new / AUTHORITY).write_bytes(_public(certificate))


def _read_authority(
    folder: pathlib.Path,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey, bytes]:
    """Returns certificate, key and token.

    Raises:
      UserError: If one is not there or cannot be read.
    """
    try:
        certificate = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
        key = serialization.load_pem_private_key(
            (folder / AUTHORITY_KEY).read_bytes(), password=None
        )
        return certificate, key, (folder / TOKEN).read_bytes()
    except (OSError, ValueError) as error:
        raise UserError(
            f'the authority in {folder} is not whole ({one_line(error)}): bring it'
            ' back from where you keep it, or make another in a new folder'
        ) from error


def _make_host(
    folder: pathlib.Path,
    names: Sequence[str],
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    token: bytes,
    period: tuple[datetime.datetime, datetime.datetime],
) -> pathlib.Path:
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [
        x509.IPAddress(address) if (address := _address(name)) else x509.DNSName(name)
        for name in (*names, *_OWN)
    ]
    roles = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    # The common name may have 64 characters, and what is checked is the other names.
    certificate = (
        _unsigned(_name(names[0][:64]), authority.subject, key, signer, period)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(roles), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(signer, hashes.SHA256())
    )
    with files.replacing(folder) as new:
        new.mkdir(mode=0o700)
        _write_secret(new / KEY, _pem(key))
        _write_secret(new / TOKEN, token)
        (new / CERTIFICATE).write_bytes(_public(certificate))
        (new / AUTHORITY).write_bytes(_public(authority))
    return folder


def _unsigned(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    period: tuple[datetime.datetime, datetime.datetime],
) -> x509.CertificateBuilder:
    """Returns what every certificate says, by RFC 5280, sections 4.1 and 4.2.1."""
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(period[0])
        .not_valid_after(period[1])
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        .add_extension(identifier, critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(**of: bool) -> x509.KeyUsage:
    names = (
        *('digital_signature', 'content_commitment', 'key_encipherment'),
        *('data_encipherment', 'key_agreement', 'key_cert_sign', 'crl_sign'),
        *('encipher_only', 'decipher_only'),
    )
    return x509.KeyUsage(**{name: of.get(name, False) for name in names})


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_secret(path: pathlib.Path, content: bytes) -> None:
    """Writes a file that was never readable to anyone else."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), 'wb') as file:
        file.write(content)
