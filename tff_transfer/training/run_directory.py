"""One run, one directory: opened by its configuration, by one process at a time."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterator

from tff_transfer import files
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.options import from_dict
from tff_transfer.training.config import Config

_PACKAGES = ('tensorflow', 'tensorflow-federated', 'tensorflow-hub', 'numpy')


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


def describe(config: Config) -> dict:
    """Returns a configuration with what it ran on, as JSON has it."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        **dataclasses.asdict(config),
        'versions': {'python': platform.python_version(), **versions},
        'git_commit': _git_commit(),
    }


def _flat(config: Config) -> dict:
    parts = dataclasses.asdict(config).values()
    return {name: value for part in parts for name, value in part.items()}


def _refuse_another(path: pathlib.Path, config: Config) -> None:
    try:
        stored = from_dict(Config, json.loads(path.read_text(encoding='utf-8')))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is no configuration of this version; choose another --run_dir'
        ) from error
    old, new = _flat(stored), _flat(config)
    different = [name for name in new if old[name] != new[name]]
    if different:
        shown = ', '.join(f'--{n}={old[n]} there, {new[n]} now' for n in different)
        raise UserError(
            f'{path.parent} holds a run of another configuration ({shown}); choose'
            ' another --run_dir, or give the same flags to go on with it'
        )


def check_same_data(run_dir: pathlib.Path, data: FederatedData) -> None:
    """Records what data a run has, or checks that they are still the same.

    Args:
      run_dir: The run directory.
      data: The data, before anything is made of them.

    Raises:
      UserError: If the run began with other data.
    """
    found = {'name': data.name, 'sha256': data.content_fingerprint}
    path = run_dir / 'data.json'
    if not path.exists():
        files.write_text(path, json.dumps(found, indent=2) + '\n')
    elif (stored := json.loads(path.read_text(encoding='utf-8'))) != found:
        raise UserError(
            f'the run in {run_dir} began with other data ({stored["name"]}, SHA-256'
            f' {stored["sha256"][:8]}...) than there are now ({data.name},'
            f' {found["sha256"][:8]}...); choose another --run_dir'
        )


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], config: Config) -> Iterator[pathlib.Path]:
    """Opens a run directory for one process: a new one, or the same run's again.

    Args:
      path: The directory; it is made if absent.
      config: The run's configuration, recorded in `config.json`.

    Yields:
      The directory.

    Raises:
      UserError: If it cannot be written, holds a run of another configuration or
        something else, or is in use by another process.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / '.lock', 'w')  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f'--run_dir={path} cannot be written ({error.strerror}); choose another'
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f'--run_dir={path} is in use by another process; wait for it or'
                ' choose another'
            ) from error
        config_path = path / 'config.json'
        if config_path.exists():
            _refuse_another(config_path, config)
        elif any(not entry.name.startswith('.') for entry in path.iterdir()):
            (path / '.lock').unlink()
            raise UserError(
                f'--run_dir={path} holds files, but no run; choose an empty or new one'
            )
        else:
            text = json.dumps(describe(config), indent=2) + '\n'
            files.write_text(config_path, text)
        yield path
