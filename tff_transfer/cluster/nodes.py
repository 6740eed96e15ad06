"""A node of a cluster: Ray's processes on this host, kept to what is said here.

`ray start` could do most of it. It cannot keep to loopback (127.0.0.1 becomes the
host's address), nor keep its agent for environments from the network, and it advises
to add nodes without certificates.
"""

import dataclasses
import ipaddress
import os
import pathlib
import socket
import stat
import time
from collections.abc import Callable

from tff_transfer.cluster import environment, on_loopback, reaching
from tff_transfer.errors import UserError, one_line

# Where a node beyond loopback listens, so that a firewall can know it.
NODE_MANAGER, OBJECT_MANAGER, ENVIRONMENTS = 6380, 6381, 6382
WORKERS = 10002, 10999  # processes that hold actors, and programs that use the cluster
# Ray's own folder, in the one that is private, and what is left for the latter's name
# of the 107 bytes of a Unix socket's path.
_RAYS, _ROOM = 'nodes', 34


@dataclasses.dataclass(frozen=True)
class Node:
    """What a node is.

    Attributes:
      address: Its IPv4 address.
      directory: This host's folder of certificate, key and token, or None on loopback.
      head: The head's `host:port`, or None if this is the head.
      port: Where the head listens; of no other node.
      temp_dir: The head's folder for sockets and logs, which every node makes for its
        user alone.
      num_cpus: As many clients' blocks at once; None for the processors there are.
      num_gpus: Likewise, None for those that Ray finds.
      object_store_memory: Bytes of shared memory for what travels, or None for Ray's
        choice (30 % of the memory).
    """

    address: str
    directory: pathlib.Path | None = None
    head: str | None = None
    port: int = 6379
    temp_dir: pathlib.Path = pathlib.Path('/tmp/tff_transfer_cluster')
    num_cpus: int | None = None
    num_gpus: int | None = None
    object_store_memory: int | None = None


def run(node: Node, say: Callable[[str], None] = print) -> None:
    """Starts a node and stays until one of its processes ends, or this one is told to.

    The node's processes end with this one (killed with the head, Ray's agents may take
    a minute).

    Args:
      node: The node; `ray` must not have been imported.
      say: Takes a line for the user, once the node is up.

    Raises:
      UserError: If the node would listen beyond loopback without certificate and
        token, cannot start, or has lost a process.
    """
    environment.require_ray()
    _check_address(node)
    os.environ.update(environment.variables(node.address, node.directory))
    if node.head is not None:
        reaching.enter(node.head, node.directory)
    _check_ports(node)
    started = _start(node)
    say(
        f'{"a node" if node.head else "the head"} is up at {node.address}, of the'
        f' cluster at {started.gcs_address}; Ctrl-C ends it'
    )
    while not (dead := started.dead_processes()):
        time.sleep(1)
    raise UserError(
        f'this node has lost its process {dead[0][0]} (exit code'
        f' {dead[0][1].returncode}): its logs are in {started.get_logs_dir_path()}'
    )


def _check_address(node: Node) -> None:
    try:
        ipaddress.IPv4Address(node.address)
    except ValueError as error:
        raise UserError(
            f'--address={node.address} is no IPv4 address: give that by which other'
            f' hosts reach this one, or {environment.LOOPBACK} for this host alone'
        ) from error
    known = environment.names(node.directory) if node.directory else {node.address}
    if node.address not in known:
        raise UserError(
            f'the certificate in {node.directory} is for {", ".join(sorted(known))}'
            f' and not for {node.address}: give one of these as --address, or make a'
            ' certificate with that address'
        )


def _check_ports(node: Node) -> None:
    ports = [node.port] if node.head is None else []
    if node.address != environment.LOOPBACK:
        ports += NODE_MANAGER, OBJECT_MANAGER, ENVIRONMENTS
        with socket.socket() as it:
            try:
                on_loopback.hide(it)
            except OSError as error:
                raise UserError(
                    'this system does not let a socket be bound to its loopback device'
                    f' ({one_line(error)}): use Linux 5.7 or newer, or give the process'
                    ' CAP_NET_RAW'
                ) from error
    for port in ports:
        try:
            socket.create_server((node.address, port)).close()
        except OSError as error:
            raise UserError(
                f'this host cannot listen at {node.address}:{port} ({one_line(error)}):'
                ' give an address of its own; it has one node, and a head may have'
                ' another --port'
            ) from error


def _private(folder: pathlib.Path) -> pathlib.Path:
    """Makes a folder that no other user can enter; returns where in it Ray's may be.

    Ray lets everybody write in its own folder, also where it finds one.

    Raises:
      UserError: If there is one that is another's or that others can enter, or its
        name is too long for sockets in it.
    """
    if not folder.is_absolute() or len(os.fsencode(folder)) > _ROOM:
        raise UserError(
            f'--temp_dir={folder} cannot hold sockets: give an absolute path of at most'
            f' {_ROOM} bytes'
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.geteuid():
        raise UserError(
            f'{folder} is not a folder that you alone can enter: give the head another'
            ' --temp_dir, best one that is not there yet'
        )
    return folder / _RAYS


def _temp_dir(node: Node) -> pathlib.Path:
    """Returns where the cluster's nodes have their sockets and logs.

    Raises:
      UserError: If the head does not take the token, is no head of ours, or the folder
        cannot be made here.
    """
    from ray import exceptions
    from ray._private import ray_constants
    from ray._raylet import GcsClient

    if node.head is None:
        return _private(node.temp_dir)
    try:
        said = GcsClient(address=node.head).internal_kv_get(
            b'temp_dir', ray_constants.KV_NAMESPACE_SESSION
        )
    except exceptions.AuthenticationError as error:
        raise UserError(
            f'the head at {node.head} does not take the token in {node.directory}: copy'
            " this host's folder from where its authority is"
        ) from error
    except exceptions.RpcError as error:
        raise UserError(
            f'who answers at {node.head} is no head of a cluster ({one_line(error)}):'
            ' give the address and the port that the head said'
        ) from error
    temp_dir = pathlib.Path(os.fsdecode(said or b''))
    if temp_dir.name != _RAYS:
        raise UserError(
            f'the head at {node.head} was not started with python -m'
            ' tff_transfer.cluster head: start it so'
        )
    return _private(temp_dir.parent)


def _start(node: Node):
    """Returns Ray's node, all of whose processes are up."""
    from ray._private import parameter, ray_constants, services, utils
    from ray._private.node import Node as RayNode

    if utils.get_dashboard_dependency_error() is None:
        raise UserError(
            'ray[default] is installed, whose agents listen without TLS: use an'
            ' environment with what requirements.lock says'
        )
    ports = {}
    if node.address != environment.LOOPBACK:
        ports = _ports(services, ray_constants.PROCESS_TYPE_RUNTIME_ENV_AGENT)
    temp_dir = _temp_dir(node)
    try:
        parameters = parameter.RayParams(
            gcs_address=node.head,
            gcs_server_port=node.port if node.head is None else None,
            temp_dir=str(temp_dir),
            node_ip_address=node.address,
            node_name=node.address,
            num_cpus=node.num_cpus,
            num_gpus=node.num_gpus,
            object_store_memory=node.object_store_memory,
            include_dashboard=False,
            no_monitor=True,
            _system_config=environment.SETTINGS if node.head is None else None,
            **ports,
        )
        started = RayNode(parameters, head=node.head is None)
        if node.head is not None:
            started.check_version_info()
    except Exception as error:  # of many classes: Ray has none of its own for it
        raise UserError(f'the node could not be started: {one_line(error)}') from error
    return started


def _ports(services, agent: str) -> dict[str, int]:
    """Returns parameters of ports, and has Ray's agent hidden from the network."""
    build = services._build_python_executable_command_memory_profileable

    def hidden(component: str, *rest, **named) -> list[str]:
        command = build(component, *rest, **named)
        return [*command, on_loopback.__file__] if component == agent else command

    services._build_python_executable_command_memory_profileable = hidden
    return {
        'node_manager_port': NODE_MANAGER,
        'object_manager_port': OBJECT_MANAGER,
        'runtime_env_agent_port': ENVIRONMENTS,
        'min_worker_port': WORKERS[0],
        'max_worker_port': WORKERS[1],
    }
