"""Certificates of a cluster, judged by OpenSSL."""

import datetime
import os
import pathlib
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tff_transfer.cluster import certificates
from tff_transfer.errors import UserError

NOW = datetime.datetime.now(datetime.UTC)
HOSTS = [['10.0.0.1'], ['10.0.0.2', 'w2.lab'], ['driver']]


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp('cluster')
    certificates.make(directory, HOSTS, 30, NOW)
    return directory


@pytest.fixture(scope='module')
def foreign(tmp_path_factory):
    directory = tmp_path_factory.mktemp('foreign')
    certificates.make(directory, HOSTS, 30, NOW)
    return directory


def context(folder: pathlib.Path, server: bool) -> ssl.SSLContext:
    """Returns what asks for a certificate of the folder's authority, and shows one."""
    kind = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    made = ssl.SSLContext(kind)
    made.load_verify_locations(folder / 'authority.crt')
    made.load_cert_chain(folder / 'host.crt', folder / 'host.key')
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def shake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> str:
    """Lets two sides shake hands in memory; returns the version of TLS.

    Raises:
      ssl.SSLError: If either side refuses the other.
    """
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(down, up, server_hostname=name)
    other = server.wrap_bio(up, down, server_side=True)
    done = set()
    while len(done) < 2:
        for side in (one, other):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass
    return one.version()


@pytest.mark.parametrize('name', ['10.0.0.2', 'w2.lab', '127.0.0.1', 'localhost'])
def test_hosts_trust_each_other_by_each_name(made, name):
    server = context(made / '10.0.0.2', server=True)
    assert shake(context(made / 'driver', False), server, name) == 'TLSv1.3'


@pytest.mark.parametrize('name', ['10.0.0.1', '10.0.0.20', 'w2', 'driver'])
def test_a_host_cannot_pass_for_another(made, name):
    server = context(made / '10.0.0.2', server=True)
    with pytest.raises(ssl.SSLCertVerificationError, match='mismatch'):
        shake(context(made / '10.0.0.1', False), server, name)


def test_another_authority_is_trusted_by_neither_side(made, foreign):
    ours, theirs = made / '10.0.0.1', foreign / '10.0.0.1'
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context(ours, False), context(theirs, True), '10.0.0.1')
    careless = context(theirs, False)
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(careless, context(ours, True), '10.0.0.1')


def test_a_host_cannot_make_certificates(made, tmp_path):
    folder = made / '10.0.0.2'
    signer = serialization.load_pem_private_key(
        (folder / 'host.key').read_bytes(), password=None
    )
    issuer = x509.load_pem_x509_certificate((folder / 'host.crt').read_bytes())
    key = ec.generate_private_key(ec.SECP256R1())
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - datetime.timedelta(1))
        .not_valid_after(NOW + datetime.timedelta(1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName('forged')]), critical=True
        )
        .sign(signer, hashes.SHA256())
    )
    chain = forged.public_bytes(serialization.Encoding.PEM)
    (tmp_path / 'host.crt').write_bytes(chain + (folder / 'host.crt').read_bytes())
    (tmp_path / 'host.key').write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (tmp_path / 'authority.crt').write_bytes((folder / 'authority.crt').read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError, match='CA cert'):
        shake(context(made / 'driver', False), context(tmp_path, True), 'forged')


def test_secrets_are_the_owner_s_alone_and_the_authority_s_key_is_apart(made):
    modes = {
        str(path.relative_to(made)): path.stat().st_mode & 0o777
        for path in made.rglob('*')
        if path.is_dir() or path.suffix != '.crt'
    }
    assert modes == {
        'authority': 0o700,
        'authority/authority.key': 0o600,
        'authority/token': 0o600,
        **{host[0]: 0o700 for host in HOSTS},
        **{
            f'{host[0]}/{name}': 0o600
            for host in HOSTS
            for name in ('host.key', 'token')
        },
    }


def test_modes_do_not_hang_on_the_umask(tmp_path):
    before = os.umask(0)
    try:
        certificates.make(tmp_path / 'it', [['10.0.0.1']], 1, NOW)
    finally:
        os.umask(before)
    assert (tmp_path / 'it/10.0.0.1/token').stat().st_mode & 0o777 == 0o600
    assert (tmp_path / 'it/authority').stat().st_mode & 0o777 == 0o700


def test_one_token_for_all_hosts_and_another_for_another_cluster(made, foreign):
    tokens = {(made / host[0] / 'token').read_text() for host in HOSTS}
    assert len(tokens) == 1
    assert len(token := tokens.pop()) == 64 and int(token, 16)
    assert token != (foreign / 'driver/token').read_text()


def test_how_long_certificates_are_valid(made):
    def ends(path):
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc

    whole = NOW.replace(microsecond=0)
    assert ends(made / 'driver/host.crt') == whole + datetime.timedelta(30)
    assert ends(made / 'driver/authority.crt') == whole + datetime.timedelta(3650)


def test_hosts_are_added_and_renewed_under_the_same_authority(tmp_path):
    earlier = NOW - datetime.timedelta(20)
    certificates.make(tmp_path, [['10.0.0.1'], ['10.0.0.2']], 30, earlier)
    kept = {path: path.read_bytes() for path in tmp_path.glob('[a1]*/*')}
    folders = certificates.make(tmp_path, [['10.0.0.2'], ['10.0.0.3']], 30, NOW)
    assert folders == [tmp_path / '10.0.0.2', tmp_path / '10.0.0.3']
    changed = {
        str(path.relative_to(tmp_path))
        for path, content in kept.items()
        if path.read_bytes() != content
    }
    assert changed == {'10.0.0.2/host.key', '10.0.0.2/host.crt'}
    new, old = tmp_path / '10.0.0.3', tmp_path / '10.0.0.1'
    shake(context(new, False), context(old, True), '10.0.0.1')


def test_no_certificate_outlives_its_authority(tmp_path):
    certificates.make(tmp_path, [['10.0.0.1']], 30, NOW)
    certificates.make(tmp_path, [['10.0.0.1']], 30, NOW + datetime.timedelta(3640))
    made = x509.load_pem_x509_certificate((tmp_path / '10.0.0.1/host.crt').read_bytes())
    whole = NOW.replace(microsecond=0)
    assert made.not_valid_after_utc == whole + datetime.timedelta(3650)
    with pytest.raises(UserError, match='has expired on'):
        certificates.make(tmp_path, [['10.0.0.1']], 30, NOW + datetime.timedelta(3651))


@pytest.mark.parametrize(
    ('hosts', 'days', 'said'),
    [
        ([['../10.0.0.1']], 30, 'no host can be called'),
        ([['Head.lab']], 30, 'no host can be called'),
        ([['authority']], 30, 'no host can be called'),
        ([['10.0.0.1', '']], 30, 'no host can be called'),
        ([['10.0.0.1', 'x' * 64]], 30, 'no host can be called'),
        ([['10.0.0.1', 'localhost']], 30, 'no host can be called'),
        ([['10.0.0.1'], ['10.0.0.2', '10.0.0.1']], 30, '10.0.0.1 is named twice'),
        ([['10.0.0.1']], 0, 'valid for 1 or more'),
    ],
)
def test_what_is_refused_makes_nothing(tmp_path, hosts, days, said):
    with pytest.raises(UserError, match=said):
        certificates.make(tmp_path / 'it', hosts, days, NOW)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['authority.key', 'authority.crt', 'token'])
def test_an_authority_that_is_not_whole_is_refused(tmp_path, name):
    certificates.make(tmp_path, [['10.0.0.1']], 30, NOW)
    before = (tmp_path / '10.0.0.1/host.crt').read_bytes()
    (tmp_path / 'authority' / name).unlink()
    with pytest.raises(UserError, match='is not whole'):
        certificates.make(tmp_path, [['10.0.0.1']], 30, NOW)
    assert (tmp_path / '10.0.0.1/host.crt').read_bytes() == before
