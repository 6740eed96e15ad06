"""What the studies of this folder have in common: their command, table and picture."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import command_line, pictures
from tff_transfer.records import report


class Found(NamedTuple):
    """What a study came to.

    Attributes:
      table: Rows of cells; the first names the columns.
      figure: Its picture.
    """

    table: list[list[str]]
    figure: Figure


def spread(values: Sequence[float], form: str = '.1%') -> str:
    """Returns the mean of one value a seed, and their standard deviation."""
    return f'{np.mean(values):{form}} ± {np.std(values):{form}}'


def first(reached: Sequence[bool]) -> float:
    """Returns the first place where something is so, or infinity."""
    return float(np.argmax(reached)) if np.any(reached) else math.inf


def rounds_needed(values: Sequence[float], limit: int) -> str:
    """Returns how many rounds were needed: the median over seeds, least and most.

    Args:
      values: Each seed's rounds, infinity where `limit` rounds were not enough.
      limit: How many rounds there were.
    """
    return needed(values, limit, '.0f')


def needed(values: Sequence[float], limit: int, form: str) -> str:
    """Returns the same of anything that is counted, in a form of numbers."""
    median, least, most = (
        f'{value:{form}}' if value < math.inf else f'>{limit}'
        for value in (np.median(values), min(values), max(values))
    )
    return f'{median} ({least} to {most})' if least != most else median


def run(study: Callable[[list[int], int], Found], *, rounds: int, seeds: int) -> None:
    """Runs a study from the command line, prints its table and writes its picture.

    Args:
      study: A function of seeds and rounds.
      rounds: How many rounds it has, if --rounds is not given.
      seeds: How many seeds, from 0, if --seeds is not given.
    """
    flags.DEFINE_integer('rounds', rounds, 'Rounds of each run.', lower_bound=1)
    flags.DEFINE_integer('seeds', seeds, 'Seeds of each run, from 0.', lower_bound=1)
    flags.DEFINE_string('output', None, 'The picture to write, png or svg.')

    def main():
        if output := flags.FLAGS.output:
            pictures.check(output)
        found = study(list(range(flags.FLAGS.seeds)), flags.FLAGS.rounds)
        if output:
            pictures.write(found.figure, output)
        print(report.text_table(found.table))
        if output:
            print(f'picture: {output}')

    command_line.run(main)
