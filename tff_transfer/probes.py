"""What only a process of its own can find out, as it may fail or hang: TensorFlow."""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from tff_transfer import errors, machine
from tff_transfer.findings import Finding, judge

_EMNIST_WRITERS = 3_400  # as documented by tff.simulation.datasets.emnist.load_data
_REINSTALL = 'install again (in a clone: delete .venv, then `make test`)'


def emnist_cache() -> list[Finding]:
    """Checks TFF's federated EMNIST database, where it has been downloaded."""
    database = pathlib.Path.home() / '.tff' / 'emnist_all.sqlite'
    if not database.exists():
        text = f'{database} is absent: downloaded at first use'
        return [Finding('EMNIST', text)]
    from tff_transfer.data import sqlite

    try:
        writers = sqlite.splits(database).get('all_train', 0)
    except errors.UserError as error:
        return [Finding('EMNIST', str(error), f'delete {database}', wrong=True)]
    text = f'{database}: {writers:,} writers'
    advice = f'delete it: federated EMNIST has {_EMNIST_WRITERS:,}'
    return [judge('EMNIST', text, writers == _EMNIST_WRITERS, advice)]


def federated_computations(deadline_s: float = 60) -> list[Finding]:
    """Runs a federated computation in a process of its own, and asks for GPUs there.

    Args:
      deadline_s: The most seconds for all of it, TensorFlow's import included.
    """
    try:
        error = machine.why_not_writable(tempfile.gettempdir())
    except FileNotFoundError as none_fits:
        error = none_fits
    if error is not None:
        text = f'not tried, for want of temporary files ({error.strerror})'
        advice = 'make room, or name another folder in TMPDIR'
        return [Finding('computation', text, advice, wrong=True)]
    return ask([sys.executable, '-c', _PROBE], deadline_s)


_PROBE = 'from tff_transfer import probes; probes.probe()'


def probe() -> None:
    """Prints findings as lines of JSON: what `federated_computations` starts."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_federated as tff

    from tff_transfer import runtime

    devices = tf.config.list_physical_devices('GPU')
    _tell(gpus([device.name for device in devices]))
    _tell(*emnist_cache())

    @tff.tensorflow.computation(np.float32)
    def square(x):
        return x * x

    @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
    def mean_square(x):
        return tff.federated_mean(tff.federated_map(square, x))

    for name, use in (('compiled', runtime.use_compiled), ('stock', runtime.use_stock)):
        with use():
            result = mean_square([1.0, 2.0, 6.0])
        text = f'mean square of 1, 2 and 6 on the {name} runtime: {result:.4f}'
        fine = abs(result - 41 / 3) < 1e-4
        advice = f'it should be 13.6667: {_REINSTALL}'
        _tell(judge('computation', text, fine, advice))


def gpus(seen: list[str]) -> Finding:
    """Judges the GPUs that TensorFlow sees by those that the machine has."""
    if seen:
        return Finding('GPU', ', '.join(seen))
    if shutil.which('nvidia-smi') is None:
        return Finding('GPU', 'none: all runs on the processor')
    return Finding(
        'GPU',
        'the machine seems to have one, and TensorFlow sees none',
        "python -m pip install --no-build-isolation -e '.[gpu]' (see BUILD_NOTES.md)",
    )


def _tell(*findings: Finding) -> None:
    for finding in findings:
        print(json.dumps(dataclasses.asdict(finding)), flush=True)


def ask(command: list[str], deadline_s: float) -> list[Finding]:
    """Runs a command that prints findings; one that fails or hangs is a finding."""
    # Files, since a process that outlives the command would keep pipes open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        log.seek(0)
        found = [Finding(**json.loads(line)) for line in output]
        said = log.read().decode(errors='replace').strip().splitlines()
    if status is None:
        text = f'did not end within {deadline_s:g} s'
        advice = (
            f'end other programs and try again; if that does not help, {_REINSTALL}'
        )
        found.append(Finding('computation', text, advice, wrong=True))
    elif status != 0:
        how = f'signal {-status}' if status < 0 else f'exit code {status}'
        text = f'failed ({how}): {said[-1] if said else "without a word"}'
        found.append(Finding('computation', text, _REINSTALL, wrong=True))
    return found
