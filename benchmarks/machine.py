"""The machine that a table was made on."""

import argparse
import datetime
import os
import pathlib
import platform
import re
import tempfile
from collections.abc import Callable

import psutil

from tff_transfer import files


def describe() -> dict[str, str | float]:
    """Returns processor, cores, memory, Python, the date, and the load just now."""
    model = re.search(
        r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text('utf-8')
    )
    return {
        'processor': model[1] if model else platform.machine(),
        'cores': len(os.sched_getaffinity(0)),
        'memory_gib': round(psutil.virtual_memory().total / 2**30, 1),
        'python': platform.python_version(),
        'date': datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC'),
        'load': round(os.getloadavg()[0], 1),
    }


def sentence(machine: dict[str, str | float]) -> str:
    """Returns a description as one line of a report."""
    return (
        f'{machine["processor"]}, {machine["cores"]} cores, {machine["memory_gib"]:g}'
        f' GiB; Python {machine["python"]}; {machine["date"]}; the load (processes that'
        f" wanted to run, others' too, in the minute before) was {machine['load']:g}."
    )


def report(
    path: pathlib.Path, measure: Callable[[pathlib.Path], dict], page: Callable
) -> None:
    """Measures, and writes and prints the page of it.

    The command that does so has no options, and refuses any.

    Args:
      path: Where the page goes.
      measure: A function of an empty folder.
      page: Makes the page of what it gives and of `describe`, from before.
    """
    argparse.ArgumentParser(description=f'Writes {path.name}.').parse_args()
    described = describe()
    with tempfile.TemporaryDirectory() as folder:
        text = page(measure(pathlib.Path(folder)), described)
    files.write_text(path, text)
    print(text)
