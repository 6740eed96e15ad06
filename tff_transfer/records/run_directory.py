"""One run, one directory: opened by its configuration, by one process at a time."""

import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import pathlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping

import tensorflow as tf
from absl import logging

from tff_transfer import files, options
from tff_transfer.backbones import Backbone
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError, one_line
from tff_transfer.models import Model
from tff_transfer.records import checkpoints, environment, network_weights

_FILES = (
    'config.json',
    'data.json',
    'backbone.json',
    'network.json',
    'metrics.csv',
    'audit.jsonl',
    'personalization.csv',
    'report.html',
    'model.tflite',
    'model.keras',
    network_weights.FILE,
)
# Keeps the key of the pseudonyms in audit.jsonl.
AUDIT_KEY = 'audit_key'
# Options that may be others when a run goes on.
MAY_CHANGE = (
    *('rounds', 'on_divergence', 'baselines', 'export_client'),
    'cluster_address',
)
_FOLDERS = (
    *('checkpoints', 'tensorboard', 'samples'),
    *('model', 'baselines', 'clients'),
)


def describe(config) -> dict:
    """Returns a configuration with what it runs on, as JSON has it."""
    return {**options.to_dict(config), **environment.describe()}


def fresh(parent: str | os.PathLike[str]) -> pathlib.Path:
    """Makes a directory named by the time, which no other process has."""
    stem = pathlib.Path(parent) / time.strftime('%Y-%m-%d_%H-%M-%S')
    for number in itertools.count(1):
        path = stem if number == 1 else stem.with_name(f'{stem.name}-{number}')
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(
                f'{path} cannot be made ({error.strerror}); choose a --run_dir'
            ) from error
        return path


@contextlib.contextmanager
def writing(run_dir: pathlib.Path | None) -> Iterator[None]:
    """Has an error in writing to a run directory, such as a full disk, told.

    Raises:
      UserError: Python or TensorFlow could not write in the block.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f'writing to {run_dir} failed ({_reason(error)}); what was written is kept:'
            ' mend it and give the same command to go on'
        ) from error


def _reason(error: OSError | tf.errors.OpError) -> str:
    if isinstance(error, OSError):
        return error.strerror or one_line(error)
    first, *_ = error.message.split('\n')  # `{{where}} path; reason [Op:name]`
    return first.partition(' [Op:')[0].rpartition('; ')[2]


def check_same_data(run_dir: pathlib.Path, data: FederatedData) -> None:
    """Does `_check_same` for the data, before anything is made of them."""
    _check_same(run_dir, 'data', data.name, data.content_fingerprint)


def check_same_backbone(run_dir: pathlib.Path, backbone: Backbone | None) -> None:
    """Does `_check_same` for the backbone, if there is one, as it was loaded."""
    if backbone is not None:
        _check_same(run_dir, 'backbone', backbone.name, backbone.fingerprint)


def check_same_network(run_dir: pathlib.Path, model: Model) -> None:
    """Does `_check_same` for the head, or the whole network, that is trained.

    Not for the values of its trained weights at the start: checkpoints have them.
    """
    layers = (layer for network in model.each_network for layer in network.layers)
    name = ', '.join(type(layer).__name__ for layer in layers)
    _check_same(run_dir, 'network', name, model.fingerprint)


def check_same_file(run_dir: pathlib.Path, what: str, path: pathlib.Path) -> None:
    """Does `_check_same` for a file that tells of clients."""
    with open(path, 'rb') as file:
        sha256 = hashlib.file_digest(file, 'sha256').hexdigest()
    _check_same(run_dir, what, path.name, sha256)


def _check_same(run_dir: pathlib.Path, what: str, name: str, sha256: str) -> None:
    """Records what a run begins with, or checks that it is still the same.

    Args:
      run_dir: The run directory; the record is `<what>.json`.
      what: `data`, `backbone`, `network`, or what a file tells.
      name: What it is called in messages; it is not compared.
      sha256: What tells it from others.

    Raises:
      UserError: If the run began with another one.
    """
    path, found = run_dir / f'{what}.json', {'name': name, 'sha256': sha256}
    if not path.exists():
        if checkpoints.rounds(run_dir / 'checkpoints'):
            raise UserError(
                f'{path} is lost, without which nothing tells whether the {what} of'
                ' this run is still the same; put it back or choose another --run_dir'
            )
        with writing(run_dir):
            files.write_text(path, json.dumps(found, indent=2) + '\n')
        return
    stored = _read_json(path)
    texts = [name for name, value in stored.items() if isinstance(value, str)]
    if texts != list(found):
        raise UserError(f'{path} is damaged; put it back or choose another --run_dir')
    if stored['sha256'] != sha256:
        raise UserError(
            f'{run_dir} holds a run whose {what} was {stored["name"]} (SHA-256'
            f' {stored["sha256"][:8]}...), but is now {name} ({sha256[:8]}...);'
            ' choose another --run_dir'
        )


def _read_json(path: pathlib.Path) -> dict:
    try:
        stored = json.loads(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise UserError(
            f'{path} cannot be read ({error.strerror}); choose another --run_dir'
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f'{path} is damaged ({one_line(error)}); put it back or choose another'
            ' --run_dir'
        ) from error
    if not isinstance(stored, dict):
        raise UserError(f'{path} is damaged; put it back or choose another --run_dir')
    return stored


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], config) -> Iterator[pathlib.Path]:
    """Opens a run directory for one process: a new one, or the same run's again.

    Args:
      path: The directory; it is made if absent.
      config: The run's `Config`, recorded in `config.json`. It may have other
        rounds than were recorded, if no fewer than are done, go on where a run that
        diverged stopped, and leave more or less beside what is trained.

    Yields:
      The directory.

    Raises:
      UserError: If it cannot be written, holds a run of another configuration or
        something else, or is in use by another process.
    """
    path = pathlib.Path(path)
    with contextlib.ExitStack() as stack:
        try:
            path.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(path / '.lock', 'w'))
        except OSError as error:
            raise UserError(
                f'--run_dir={path} cannot be written ({error.strerror}); choose another'
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f'--run_dir={path} is in use by another process; wait for it or'
                ' choose another'
            ) from error
        with writing(path):
            _prepare(path, config)
        yield path


def secret_seed(path: pathlib.Path | None) -> int:
    """Returns a seed that the operating system drew, the same in a directory again.

    Args:
      path: The run directory, in which the file `secret_seed` keeps it, for its owner
        alone to read; None keeps it nowhere.

    Raises:
      UserError: The file is not what it should be.
    """
    found = _secret(path, 'secret_seed', str(secrets.randbits(62)))
    if not found.isdigit():
        raise UserError(
            f'{path / "secret_seed"} does not hold the seed that was drawn for this'
            ' run, without which its noise cannot be drawn again; begin again with'
            ' another --run_dir'
        )
    return int(found)


def audit_key(path: pathlib.Path) -> str:
    """Returns the key of the pseudonyms in `audit.jsonl`, 64 hexadecimal digits.

    Args:
      path: The run directory, in which the file `audit_key` keeps it, for its owner
        alone to read.

    Raises:
      UserError: The file is not what it should be.
    """
    found = _secret(path, AUDIT_KEY, secrets.token_hex(32))
    if not re.fullmatch('[0-9a-f]{64}', found):
        raise UserError(
            f'{path / AUDIT_KEY} does not hold the key that was drawn for this run,'
            ' without which its clients have other pseudonyms; put it back'
        )
    return found


def _secret(path: pathlib.Path | None, name: str, drawn: str) -> str:
    """Returns what a file for its owner alone holds, which is made of `drawn` first.

    Where there is no run directory nothing is kept.
    """
    if path is None:
        return drawn
    place = path / name
    if not place.exists():
        with writing(path), files.replacing(place) as made:
            made.touch(0o600)
            made.write_text(f'{drawn}\n')
    return place.read_text('ascii', 'replace').strip()


def _prepare(path: pathlib.Path, config) -> None:
    """Makes a run directory that is locked ready for a run, new or not."""
    config_path = path / 'config.json'
    if config_path.exists():
        _check_kinds(path)
        _go_on(config_path, config)
    elif any(not entry.name.startswith('.') for entry in path.iterdir()):
        (path / '.lock').unlink()
        raise UserError(
            f'--run_dir={path} holds files, but no run; choose an empty or new one'
        )
    else:
        files.write_text(config_path, json.dumps(describe(config), indent=2) + '\n')
    for folder in (path, path / 'checkpoints', *(path / 'clients').glob('*')):
        files.remove_leftovers(folder)


def _check_kinds(path: pathlib.Path) -> None:
    for name in (*_FILES, *_FOLDERS):
        there = path / name
        right = there.is_file() if name in _FILES else there.is_dir()
        if there.exists() and not right:
            kind = 'file' if name in _FILES else 'folder'
            raise UserError(
                f'{there} is no {kind}, but a run has one of that name; move it away'
            )


def _go_on(path: pathlib.Path, config) -> None:
    """Checks that a run may go on with a configuration, and records it."""
    described = _read_json(path)
    try:
        parts = [part.name for part in dataclasses.fields(config)]
        stored = options.from_dict(
            type(config), {name: described[name] for name in parts if name in described}
        )
        stored.check()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is no configuration of this version ({one_line(error)}); choose'
            ' another --run_dir'
        ) from error
    old, new = _flat(stored), _flat(config)
    changed = [name for name in new if old.get(name) != new[name]]
    different = [name for name in changed if name not in MAY_CHANGE]
    if different:
        shown = ', '.join(f'--{n}={old.get(n)} there, {new[n]} now' for n in different)
        raise UserError(
            f'{path.parent} holds a run of another configuration ({shown}); choose'
            ' another --run_dir, or give the same flags to go on with it'
        )
    if 'rounds' in changed and config.by_rounds:
        raise UserError(
            f'{path.parent} holds a run of --rounds={old["rounds"]}, on which'
            f' {" and ".join(config.by_rounds)} hangs; give the same rounds, or choose'
            ' another --run_dir'
        )
    done = max(checkpoints.rounds(path.parent / 'checkpoints'), default=0)
    if new['rounds'] < done:
        raise UserError(
            f'{path.parent} holds a run of {done} rounds, but --rounds is'
            f' {new["rounds"]}; give at least {done}, or choose another --run_dir'
        )
    if others := environment.differences(described, environment.describe()):
        logging.warning(
            'The run in %s began on something else (%s): its results may differ.',
            path.parent,
            '; '.join(others),
        )
    if changed:
        text = json.dumps({**described, **options.to_dict(config)}, indent=2)
        files.write_text(path, text + '\n')


def _flat(config) -> Mapping:
    parts = options.to_dict(config).values()
    return {name: value for part in parts for name, value in part.items()}
