"""Who can join a cluster and who cannot, in networks of the test's own.

Three hosts on one wire: a head, a worker, and a stranger's. Each is a network
namespace, so ports, addresses and loopback devices are a host's own, while files and
processes are this machine's. What a process left running, `finish` ends.
"""

import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from tff_transfer.cluster import certificates

pytestmark = pytest.mark.slow

HEAD, WORKER, STRANGER = '10.83.0.1', '10.83.0.2', '10.83.0.3'
NODE = ('-m', 'tff_transfer.cluster')
SMALL = ('--num_cpus=1', '--object_store_memory=80000000')
RAY = ('-m', 'ray.scripts.scripts', 'start', '--block', '--num-cpus=1')
# What says who is there, has an actor of each node answer, and stays until told.
PROGRAM = """
import sys, ray
ray.init(address=sys.argv[1], _node_ip_address=sys.argv[2], log_to_driver=False)
@ray.remote(num_cpus=1)
class Actor:
    def where(self):
        return ray.util.get_node_ip_address()
actors = [Actor.remote() for _ in range(2)]
print('actors', *sorted(ray.get([it.where.remote() for it in actors])), flush=True)
input()
print('nodes', *sorted(it['NodeManagerAddress'] for it in ray.nodes()), flush=True)
"""


def ip(*arguments: str) -> None:
    subprocess.run(['ip', *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """Hosts by their addresses, and what runs on them."""

    def __init__(self, name: str):
        self.hub = f'{name}-hub'
        self.namespaces = {
            address: f'{name}-{address.rpartition(".")[2]}'
            for address in (HEAD, WORKER, STRANGER)
        }
        self.running: list[subprocess.Popen] = []

    def make(self) -> None:
        """Makes the networks: a bridge, and a cable from it to each host."""
        ip('netns', 'add', self.hub)
        ip('-n', self.hub, 'link', 'add', 'bridge', 'type', 'bridge')
        ip('-n', self.hub, 'link', 'set', 'bridge', 'up')
        for address, host in self.namespaces.items():
            port = f'port{address.rpartition(".")[2]}'
            ip('netns', 'add', host)
            peer = ('peer', 'name', port, 'netns', self.hub)
            ip('link', 'add', 'wire', 'netns', host, 'type', 'veth', *peer)
            ip('-n', self.hub, 'link', 'set', port, 'master', 'bridge', 'up')
            ip('-n', host, 'address', 'add', f'{address}/24', 'dev', 'wire')
            ip('-n', host, 'link', 'set', 'wire', 'up')
            ip('-n', host, 'link', 'set', 'lo', 'up')

    def start(self, host: str, *arguments: str, environment=()) -> subprocess.Popen:
        """Starts a Python program on a host, in a process group of its own."""
        started = subprocess.Popen(
            ['ip', 'netns', 'exec', self.namespaces[host], sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | {'RAY_USAGE_STATS_ENABLED': '0'} | dict(environment),
        )
        self.running.append(started)
        # No test waits longer for what a program says.
        watch = threading.Timer(300, started.kill)
        watch.daemon = True
        watch.start()
        return started

    def listening(self, host: str) -> set[tuple[str, int]]:
        """Returns (address, port) of each TCP socket that listens on a host."""
        command = ['ip', 'netns', 'exec', self.namespaces[host], 'ss', '-ltnH']
        lines = subprocess.run(command, check=True, capture_output=True, text=True)
        found = (line.split()[3].rpartition(':') for line in lines.stdout.splitlines())
        return {(address, int(port)) for address, _, port in found}

    def inside(self, host: str) -> list[int]:
        """Returns the processes whose network is a host's."""
        command = ['ip', 'netns', 'pids', self.namespaces.get(host, host)]
        found = subprocess.run(command, capture_output=True, text=True)
        return [int(process) for process in found.stdout.split()]

    def finish(self) -> None:
        """Ends the programs and whatever else lives in these networks."""
        for started in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.communicate()
        for host in (*self.namespaces.values(), self.hub):
            for process in self.inside(host):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            subprocess.run(['ip', 'netns', 'delete', host], capture_output=True)


def until(started: subprocess.Popen, text: str) -> str:
    """Returns what a program says up to the first line with a text in it.

    Raises:
      AssertionError: If it ends before it says so.
    """
    said = ''
    for line in started.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f'no line with {text!r} in {said}')


def line_of(started: subprocess.Popen, beginning: str) -> str:
    """Returns the line of a program's output that begins so, as soon as it is there."""
    return until(started, beginning).splitlines()[-1]


def variables(folder: pathlib.Path) -> dict[str, str]:
    """Returns what the documentation of Ray says; ours is not asked."""
    return {
        'RAY_USE_TLS': '1',
        'RAY_TLS_SERVER_CERT': f'{folder}/host.crt',
        'RAY_TLS_SERVER_KEY': f'{folder}/host.key',
        'RAY_TLS_CA_CERT': f'{folder}/authority.crt',
        'RAY_AUTH_MODE': 'token',
        'RAY_AUTH_TOKEN_PATH': f'{folder}/token',
    }


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    """Folders of the three hosts, of the cluster's authority and of another's.

    `wrong` is one of the cluster whose token is another.
    """
    directory = tmp_path_factory.mktemp('certificates')
    now = datetime.datetime.now(datetime.UTC)
    hosts = [[HEAD], [WORKER], [STRANGER]]
    certificates.make(directory / 'ours', hosts, 1, now)
    certificates.make(directory / 'theirs', hosts, 1, now)
    shutil.copytree(directory / 'ours' / STRANGER, directory / 'wrong')
    shutil.copy(directory / 'theirs/authority/token', directory / 'wrong/token')
    return directory


@pytest.fixture(scope='module')
def hosts():
    if os.geteuid() != 0 or not shutil.which('ip') or not shutil.which('ss'):
        pytest.skip('networks of its own take root and iproute2')
    made = Hosts(f'tff{os.getpid()}')
    try:
        made.make()
    except subprocess.CalledProcessError as error:
        made.finish()
        pytest.skip(f'this machine lets nobody make networks: {error.stderr.strip()}')
    yield made
    made.finish()


@pytest.fixture(scope='module')
def cluster(hosts, folders):
    """Starts head and worker as the documentation says, and a program on the head."""
    temporary = pathlib.Path(tempfile.mkdtemp(prefix='tff', dir='/tmp'))
    head = hosts.start(
        HEAD,
        *(*NODE, 'head', f'--address={HEAD}', f'--directory={folders}/ours/{HEAD}'),
        *(*SMALL, f'--temp_dir={temporary}'),
    )
    line_of(head, 'the head is up')
    worker = hosts.start(
        WORKER,
        *(*NODE, 'worker', f'--address={WORKER}', f'--head={HEAD}:6379'),
        *(*SMALL, f'--directory={folders}/ours/{WORKER}'),
    )
    line_of(worker, 'a node is up')
    program = hosts.start(
        HEAD,
        *('-c', PROGRAM, f'{HEAD}:6379', HEAD),
        environment=variables(folders / 'ours' / HEAD),
    )
    assert line_of(program, 'actors') == f'actors {HEAD} {WORKER}'
    # Ray lets every user write in its folder, so that has to be in one of ours.
    assert temporary.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in temporary.iterdir()] == ['nodes']
    yield program
    hosts.finish()
    shutil.rmtree(temporary)


def test_all_that_listens_wants_certificate_and_token(cluster, hosts, folders):
    for host in (HEAD, WORKER):
        beyond = {
            (address, port)
            for address, port in hosts.listening(host)
            if '127.0.0.1' not in address and '%lo' not in address
        }
        ports = sorted(port for _, port in beyond)
        # Ray's own servers take every address of a host (docs/cluster.md): the head's,
        # two of the node, and the program's and actors' of the range.
        assert {address for address, _ in beyond} == {'*'}
        fixed = [port for port in ports if not 10002 <= port <= 10999]
        assert fixed == ([6379] if host == HEAD else []) + [6380, 6381]
        assert len(ports) - len(fixed) == (2 if host == HEAD else 1)
        ours, theirs = (folders / who / STRANGER for who in ('ours', 'theirs'))
        probe = pathlib.Path(__file__).with_name('probe.py')
        knocking = hosts.start(
            STRANGER, *map(str, (probe, host, ours, theirs, *ports, 6382))
        )
        found = json.loads(line_of(knocking, '{'))
        hidden = found.pop('6382')  # plain HTTP, for the node itself
        assert {hidden['HTTP'], hidden['right']} == {'ConnectionRefusedError'}
        assert sorted(map(int, found)) == ports
        for answers in found.values():
            # Nothing, or an alert of TLS (RFC 8446, section 5.1: a record of type 21).
            assert re.fullmatch('(1503.{,30})?|ConnectionResetError', answers['HTTP'])
            assert re.fullmatch('(1503.{,30})?|ConnectionResetError', answers['HTTP/2'])
            assert answers['right'] == 'TLSv1.3'
            for wrong in ('no certificate', 'of another authority'):
                assert answers[wrong] != 'TLSv1.3', wrong
            for wrong in ('no token', 'wrong token'):
                assert 'UNAUTHENTICATED' in answers[wrong], wrong
                assert 'OK' not in answers[wrong], wrong
            assert 'UNAUTHENTICATED' not in answers['right token']


def test_nothing_but_tcp_listens(cluster, hosts):
    for host in (HEAD, WORKER):
        command = ['ip', 'netns', 'exec', hosts.namespaces[host], 'ss', '-lunH']
        assert subprocess.run(command, capture_output=True, text=True).stdout == ''


def test_strangers_are_refused_by_ray_itself(cluster, hosts, folders):
    join = (*RAY, f'--address={HEAD}:6379', f'--node-ip-address={STRANGER}')
    use = ('-c', PROGRAM, f'{HEAD}:6379', STRANGER)
    known = {
        'Failed to connect to GCS': {},
        'CERTIFICATE_VERIFY_FAILED': variables(folders / 'theirs' / STRANGER),
        'InvalidAuthToken': variables(folders / 'wrong'),
    }
    tries = [
        (said, hosts.start(STRANGER, *what, environment=environment))
        for said, environment in known.items()
        for what in (join, use)
    ]
    for said, started in tries:
        assert 'actors' not in (output := until(started, said))
        assert 'runtime started' not in output
    time.sleep(3)  # in which a node that may join does
    for _, started in tries:
        assert started.poll() != 0
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        output = started.communicate()[0]
        assert 'actors' not in output and 'runtime started' not in output
    cluster.stdin.write('\n')
    cluster.stdin.flush()
    assert line_of(cluster, 'nodes') == f'nodes {HEAD} {WORKER}'


def test_strangers_are_told_in_one_line(cluster, hosts, folders):
    join = (*NODE, 'worker', f'--head={HEAD}:6379', f'--address={STRANGER}')
    tries = {
        f'--directory={folders}/theirs/{STRANGER}': 'is not of the cluster that',
        f'--directory={folders}/wrong': 'does not take the token in',
        '--num_cpus=1': 'is beyond loopback',
    }
    started = {given: hosts.start(STRANGER, *join, given) for given in tries}
    for given, said in tries.items():
        lines = started[given].communicate(timeout=60)[0].splitlines()
        assert started[given].returncode == 2
        assert lines[-1].startswith('error: ') and said in lines[-1]
        assert 'Traceback' not in '\n'.join(lines)


def test_a_cluster_without_certificates_is_on_loopback(hosts):
    temporary = pathlib.Path(tempfile.mkdtemp(prefix='tff', dir='/tmp'))
    here = '127.0.0.1'
    try:
        head = hosts.start(
            STRANGER,
            *(*NODE, 'head', f'--address={here}', *SMALL, f'--temp_dir={temporary}'),
        )
        line_of(head, 'the head is up')
        node = hosts.start(
            STRANGER,
            *(*NODE, 'worker', f'--head={here}:6379', f'--address={here}', *SMALL),
        )
        line_of(node, 'a node is up')
        program = hosts.start(STRANGER, '-c', PROGRAM, f'{here}:6379', here)
        assert line_of(program, 'actors') == f'actors {here} {here}'
        listening = hosts.listening(STRANGER)
        assert len(listening) >= 8
        assert {address for address, _ in listening} <= {here, f'[::ffff:{here}]'}
        # Told to, a node takes its processes with it.
        program.communicate('\n', timeout=30)
        for started in (node, head):
            started.terminate()
            started.communicate(timeout=30)
        deadline = time.monotonic() + 30
        while hosts.inside(STRANGER) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert hosts.inside(STRANGER) == []
    finally:
        shutil.rmtree(temporary)
