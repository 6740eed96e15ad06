"""A process of a grid: it makes runs and trials, one after another.

Its parent writes a job a line to its standard input and reads a line for each: an
empty one if it was done, or what went wrong. What comes of a job is in files. When
the parent ends, this process does too, in the middle of a job if need be: what it was
doing goes on where it stands when the same grid is started again.
"""

import gc
import json
import os
import pathlib
import queue
import sys
import threading
from typing import Any, TextIO

from absl import logging

from experiments.compare import outcomes, tuning
from tff_transfer import files, options
from tff_transfer.errors import UserError, one_line
from tff_transfer.training import loop, sources
from tff_transfer.training.config import Config


def do(job: dict[str, Any]) -> None:
    """Makes a run or, where the job has a number of rounds, a trial.

    Args:
      job: `config`, as `options.to_dict` makes it; `place`, the folder of the run or
        the file of the trial's score; of a trial, `rounds`.

    Raises:
      UserError: It cannot be made, or diverged.
    """
    config = options.from_dict(Config, job['config'])
    place = pathlib.Path(job['place'])
    if job.get('rounds') is None:
        outcomes.write(place, config, loop.train(config, place))
        return
    data = tuning.data_of(config.data, config.model)
    found = tuning.score(
        loop.train(tuning.trial(config, job['rounds'], len(data)), data=data)
    )
    files.write_text(place, json.dumps({'score': found}) + '\n')


def attempt(job: dict[str, Any]) -> str:
    """Does a job, and returns what went wrong in one line, empty if nothing did."""
    try:
        do(job)
    except UserError as error:
        return ' '.join(str(error).split())
    except Exception as error:
        logging.exception('A run failed.')
        return f'{type(error).__name__}: {one_line(error)}'
    finally:
        gc.collect()
    return ''


def serve(lines: TextIO, answers: TextIO) -> None:
    """Does the jobs of some lines for as long as these come."""
    jobs: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in lines:
            jobs.put(line)
        os._exit(0)  # The parent is gone: nobody waits for what is being done.

    threading.Thread(target=read, daemon=True).start()
    with sources.kept():
        while True:
            answers.write(attempt(json.loads(jobs.get())) + '\n')
            answers.flush()


if __name__ == '__main__':
    logging.set_verbosity(logging.WARNING)
    # What libraries print is no answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), 'w')
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers)
