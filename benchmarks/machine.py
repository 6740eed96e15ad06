"""The machine that a table was made on."""

import datetime
import os
import pathlib
import platform
import re

import psutil


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
