"""What a run ran on: versions, devices, threads and the commit."""

import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping

import tensorflow as tf

_PACKAGES = ('tensorflow', 'tensorflow-federated', 'tensorflow-hub', 'numpy')


def describe() -> dict:
    """Returns what this process runs on, as JSON has it."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {
        'versions': {'python': platform.python_version(), **versions},
        'devices': [_name(device) for device in tf.config.list_physical_devices()],
        'threads': threads or len(os.sched_getaffinity(0)),
        'git_commit': _git_commit(),
    }


def differences(then: Mapping, now: Mapping) -> list[str]:
    """Returns what has changed between two descriptions, in words."""
    then, now = _flat(then), _flat(now)
    return [
        f'{name} was {then.get(name)}, is {value}'
        for name, value in now.items()
        if then.get(name) != value
    ]


def _flat(described: Mapping) -> dict:
    versions = described.get('versions')
    rest = {k: v for k, v in described.items() if k != 'versions'}
    return {**(versions if isinstance(versions, dict) else {}), **rest}


def _name(device: tf.config.PhysicalDevice) -> str:
    details = tf.config.experimental.get_device_details(device)
    return details.get('device_name', device.device_type)


def _git_commit() -> str | None:
    folder = pathlib.Path(__file__).parent
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=40', '--match=']
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
