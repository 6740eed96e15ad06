"""What may start without certificates, and what a folder of them must be."""

import contextlib
import datetime
import os
import pathlib
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import pytest

from tff_transfer.cluster import certificates, environment, nodes, reaching
from tff_transfer.cluster.__main__ import main
from tff_transfer.errors import UserError

NOW = datetime.datetime.now(datetime.UTC)


@pytest.fixture(autouse=True)
def environment_of_this_test(monkeypatch):
    """Has what a test sets in the environment end with it."""
    left = {name: it for name, it in os.environ.items() if not name.startswith('RAY_')}
    monkeypatch.setattr(os, 'environ', left)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    directory = tmp_path_factory.mktemp('cluster')
    certificates.make(directory, [['10.0.0.1'], ['10.0.0.2', 'w2.lab']], 30, NOW)
    return directory


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made / '10.0.0.1', tmp_path / 'cluster')
    return tmp_path / 'cluster'


def test_variables_are_those_that_ray_reads(folder):
    assert environment.variables('10.0.0.1', folder) == {
        'RAY_USAGE_STATS_ENABLED': '0',
        'RAY_USE_TLS': '1',
        'RAY_TLS_SERVER_CERT': f'{folder}/host.crt',
        'RAY_TLS_SERVER_KEY': f'{folder}/host.key',
        'RAY_TLS_CA_CERT': f'{folder}/authority.crt',
        'RAY_AUTH_MODE': 'token',
        'RAY_AUTH_TOKEN_PATH': f'{folder}/token',
    }
    assert environment.names(folder) == {'10.0.0.1', '127.0.0.1', 'localhost'}


def test_paths_hold_where_ray_runs_in_another_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    found = environment.variables('10.0.0.1', pathlib.Path('cluster'))
    assert found['RAY_TLS_SERVER_KEY'] == f'{folder}/host.key'


def test_without_certificates_on_loopback_alone():
    found = environment.variables('127.0.0.1', None)
    assert found == {'RAY_USAGE_STATS_ENABLED': '0'}
    # Ray listens everywhere if told any of these, loopback or not.
    for host in ('10.0.0.1', '0.0.0.0', '127.0.0.2', 'localhost', '::1', '', 'w2.lab'):
        with pytest.raises(UserError, match='needs certificates and a token'):
            environment.variables(host, None)


@pytest.mark.parametrize('name', ['host.key', 'host.crt', 'authority.crt', 'token'])
def test_a_folder_has_all_files_and_they_are_what_they_should_be(folder, name):
    (folder / name).write_text('')
    with pytest.raises(UserError, match='is not the folder of a host'):
        environment.variables('10.0.0.1', folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match='is not the folder of a host'):
        environment.variables('10.0.0.1', folder)


@pytest.mark.parametrize('name', ['host.key', 'authority.crt'])
def test_files_of_other_folders_are_refused(folder, tmp_path, name):
    certificates.make(tmp_path / 'other', [['10.0.0.1']], 30, NOW)
    shutil.copy(tmp_path / 'other/10.0.0.1' / name, folder / name)
    with pytest.raises(UserError, match='is not the folder of a host'):
        environment.variables('10.0.0.1', folder)


@pytest.mark.parametrize('name', ['host.key', 'token'])
@pytest.mark.parametrize('mode', [0o640, 0o604, 0o660])
def test_secrets_that_others_can_read_are_refused(folder, name, mode):
    (folder / name).chmod(mode)
    with pytest.raises(UserError, match=f'others can read .*: chmod 600 .*{name}'):
        environment.variables('10.0.0.1', folder)


def test_a_certificate_is_valid_for_its_days_alone(folder):
    environment.check(folder, NOW + datetime.timedelta(29.99))
    for days in (-1, 30.01):
        with pytest.raises(UserError, match='set the clock right, or make another'):
            environment.check(folder, NOW + datetime.timedelta(days))


def test_a_program_enters_before_it_imports_ray(folder, monkeypatch):
    monkeypatch.setattr(reaching, 'reach', lambda *_: None)
    monkeypatch.setitem(sys.modules, 'ray', object())
    with pytest.raises(UserError, match='ray has been imported without the certif'):
        reaching.enter('10.0.0.1:6379', folder)
    assert 'RAY_USE_TLS' not in os.environ
    reaching.enter('127.0.0.1:6379', None)
    monkeypatch.delitem(sys.modules, 'ray')
    reaching.enter('10.0.0.1:6379', folder)
    assert os.environ['RAY_TLS_CA_CERT'] == f'{folder}/authority.crt'
    monkeypatch.setitem(sys.modules, 'ray', object())
    reaching.enter('10.0.0.1:6379', folder)


def test_a_program_may_have_the_variables_already(folder, monkeypatch):
    reached = []
    monkeypatch.setattr(reaching, 'reach', lambda *given: reached.append(given))
    wanted = environment.variables('10.0.0.1', folder)
    for name, value in wanted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(sys.modules, 'ray', object())
    reaching.enter('10.0.0.1:6379')
    assert reached == [('10.0.0.1:6379', folder)]
    for name in ('RAY_USE_TLS', 'RAY_AUTH_MODE', 'RAY_TLS_SERVER_CERT'):
        monkeypatch.delenv(name)
        with pytest.raises(UserError, match='needs certificates and a token'):
            reaching.enter('10.0.0.1:6379')
        monkeypatch.setenv(name, wanted[name])


def test_ray_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install ray=='):
        environment.require_ray()


def refused(capsys, *arguments) -> str:
    """Returns the one line that a command ends with."""
    assert main([str(each) for each in arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith('error: ') and line.count('\n') == 1
    return line


def test_nodes_that_are_refused(made, capsys, tmp_path):
    head = ('head', f'--temp_dir={tmp_path}')
    own = f'--directory={made}/10.0.0.1'
    worker = ('worker', '--head=10.0.0.9:6379')
    for arguments, said in [
        ((*head, '--address=10.0.0.1'), '10.0.0.1 is beyond loopback'),
        ((*head, '--address=0.0.0.0'), '0.0.0.0 is beyond loopback'),
        ((*head, '--address=w2.lab'), 'no IPv4 address'),
        ((*head, '--address=::1'), 'no IPv4 address'),
        ((*head, '--address=10.0.0.2', own), 'is for 10.0.0.1, 127.0.0.1, localhost'),
        ((*head, '--address=10.0.0.1', f'--directory={made}'), 'not the folder of'),
        ((*worker, '--address=127.0.0.1'), '10.0.0.9 is beyond loopback'),
        (('worker', '--head=10.0.0.9', '--address=10.0.0.1', own), 'is no address'),
    ]:
        assert said in refused(capsys, *arguments)


def test_a_port_that_is_taken_is_said(capsys, tmp_path):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(
            capsys,
            *('head', '--address=127.0.0.1', f'--port={port}'),
            f'--temp_dir={tmp_path}',
        )
    assert f'cannot listen at 127.0.0.1:{port}' in line


def test_an_address_of_another_host_is_said(made, capsys, tmp_path):
    own = f'--directory={made}/10.0.0.1'
    line = refused(capsys, 'head', '--address=10.0.0.1', own, f'--temp_dir={tmp_path}')
    assert 'cannot listen at 10.0.0.1:6379' in line


def test_a_folder_for_sockets_is_of_this_user_alone(tmp_path):
    folder = pathlib.Path('/tmp') / f'tff_{os.getpid()}'
    try:
        assert nodes._private(folder).parent == folder
        assert folder.stat().st_mode & 0o777 == 0o700
        nodes._private(folder)
        (folder / 'link').symlink_to(tmp_path)
        (folder / 'open').mkdir()
        (folder / 'open').chmod(0o711)
        for wrong in ('link', 'open'):
            with pytest.raises(UserError, match='not a folder that you alone can'):
                nodes._private(folder / wrong)
        assert (folder / 'open').stat().st_mode & 0o777 == 0o711
    finally:
        shutil.rmtree(folder)
    for wrong in (pathlib.Path('here'), tmp_path / ('x' * 40)):
        with pytest.raises(UserError, match='cannot hold sockets'):
            nodes._private(wrong)
    with pytest.raises(UserError, match='not a folder that you alone can'):
        nodes._private(pathlib.Path('/tmp'))


def test_the_command_says_what_to_copy_where(tmp_path, capsys):
    arguments = ['--host=10.0.0.1', '--host=10.0.0.2,w2.lab', '--days=7']
    assert main(['certificates', str(tmp_path), *arguments]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f'scp -pr {tmp_path}/10.0.0.1 10.0.0.1:',
        f'scp -pr {tmp_path}/10.0.0.2 10.0.0.2:',
        f'Keep {tmp_path}/authority to yourself: who has it makes certificates. Who has'
        ' the folder of a host runs programs on all hosts.',
    ]
    assert environment.names(tmp_path / '10.0.0.2') >= {'10.0.0.2', 'w2.lab'}
    assert 'no host can be called' in refused(
        capsys, 'certificates', tmp_path, '--host=10.0.0.1,,'
    )


def test_the_command_gives_a_shell_its_variables(folder, capsys):
    folder = folder.rename(folder.parent / "it's here")
    assert main(['environment', str(folder)]) == 0
    script = f'eval {shlex.quote(capsys.readouterr().out)}; env -0'
    printed = subprocess.check_output(['bash', '-c', script], env={}, text=True)
    found = dict(line.split('=', 1) for line in printed.split('\0') if line)
    wanted = environment.variables('10.0.0.1', folder)
    assert {name: found[name] for name in wanted} == wanted
    assert 'is not the folder' in refused(capsys, 'environment', folder.parent)


@contextlib.contextmanager
def answering(folder: pathlib.Path | None):
    """Serves one connection, by TLS for who has a certificate or in plain text."""
    with socket.create_server(('127.0.0.1', 0)) as listening:

        def serve():
            with listening.accept()[0] as connection, contextlib.suppress(OSError):
                if folder is not None:
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    context.load_verify_locations(folder / 'authority.crt')
                    context.load_cert_chain(folder / 'host.crt', folder / 'host.key')
                    context.verify_mode = ssl.CERT_REQUIRED
                    connection = context.wrap_socket(connection, server_side=True)
                connection.sendall(b'HTTP/1.1 400 Bad Request\r\n')
                connection.recv(100)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f'127.0.0.1:{listening.getsockname()[1]}'
        thread.join(10)
        assert not thread.is_alive()


def test_a_head_is_greeted_before_ray_tries_it(made, tmp_path):
    ours = made / '10.0.0.1'
    certificates.make(tmp_path, [['10.0.0.1']], 30, NOW)
    theirs = tmp_path / '10.0.0.1'
    with answering(made / '10.0.0.2') as head:
        reaching.reach(head, ours)
    with answering(theirs) as head, pytest.raises(UserError, match='is not of the clu'):
        reaching.reach(head, ours)
    with answering(None) as head, pytest.raises(UserError, match='does not speak TLS'):
        reaching.reach(head, ours)
    # One that has our authority's certificate, and asks for those of another.
    (theirs / 'host.crt').write_bytes((ours / 'host.crt').read_bytes())
    (theirs / 'host.key').write_bytes((ours / 'host.key').read_bytes())
    with answering(theirs) as head, pytest.raises(UserError, match='does not take the'):
        reaching.reach(head, ours)
    with pytest.raises(UserError, match='nobody answers'):
        reaching.reach(head, ours)
