"""Seconds a round of every training method, beside federated averaging.

  python -m benchmarks.methods --rounds=11

runs the methods of the registry, with the options that they have by default, and TFF's
own federated averaging on the compiled runtime, on the arrays of `benchmarks.speed`'s
workloads, and writes `benchmarks/results/methods.md` and `.json`. A workload's methods
run in one process by turns, a round of each and then the next round, so that other work
on the machine is in all of them.
"""

import argparse
import dataclasses
import gc
import json
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks import machine, speed, workloads
from benchmarks.methods_tables import FED_AVG, TFF, page
from benchmarks.peers import tff as peer
from benchmarks.peers import tff_models
from benchmarks.peers.runner import Work
from tff_transfer import files, models, progress, runtime
from tff_transfer.algorithms import compose, registry
from tff_transfer.algorithms.computations import NOTHING_TOLD, Settings
from tff_transfer.algorithms.method import Context
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError

WORKLOADS = ('head', 'cnn')
# The same methods of other frameworks: those whose name begins so, and the option.
OF_PEERS = (
    ('mime', 'FedJAX, jit', '--method=mime'),
    ('scaffold', 'pfl', '--method=scaffold'),
    ('fedprox', 'pfl', '--method=fedprox'),
    ('fedprox', 'Flower', '--mu=0.01'),
    ('apfl', 'FedJAX, jit', '--method=apfl'),
    ('ifca', 'FedJAX, jit', '--method=hypcluster'),
    ('ditto', 'fluke', '--method=ditto'),
    ('fedrep', 'fluke', '--method=fedrep'),
)


@dataclasses.dataclass
class Turn:
    """A method under way.

    Attributes:
      step: A whole round, which gives how many clients' updates were used.
      seconds: Of each round.
      processor: Processor time of each round, seconds.
    """

    step: Callable[[], int]
    seconds: list[float] = dataclasses.field(default_factory=list)
    processor: list[float] = dataclasses.field(default_factory=list)

    def run(self, clients: int) -> None:
        """Runs a round and takes its time.

        Raises:
          UserError: Updates were not finite, and cost less than others.
        """
        start = time.perf_counter(), time.process_time()
        used = self.step()
        self.seconds.append(time.perf_counter() - start[0])
        self.processor.append(time.process_time() - start[1])
        if used != clients:
            raise UserError(f'of {clients} clients {used} had a finite update')


def options() -> dict:
    """Returns the options of each method of some clients, by the name of its row."""
    names = [name for name in registry.NAMES if name not in registry.OF_ALL]
    made = {name: registry.options(name)() for name in names}
    first = {FED_AVG: made.pop(FED_AVG)}
    return {**first, **made, 'scaffold I': registry.options('scaffold')(variates='I')}


def turn(chosen, context: Context, cohort: Cohort) -> Turn:
    """Makes a method's process and its first state.

    Raises:
      UserError: The method does not suit the workload.
    """
    first = slice(*cohort.row_splits[:2])
    public = PublicExamples(
        tf.nest.map_structure(lambda array: array[first], cohort.examples),
        cohort.batch_size,
        epochs=1,
        seed=0,
    )
    parts = getattr(chosen, 'parts', ())
    context = dataclasses.replace(context, parts=parts, public=public)
    composed = compose.compose(chosen.build(context), context)
    process, state = composed.process, composed.process.initialize()
    kept = ()
    if composed.kept is not None:
        clients = len(cohort.row_splits) - 1
        stacked = tf.nest.map_structure(
            lambda array: np.repeat(array[None], clients, axis=0), composed.kept
        )
        kept = (runtime.StackedClients(stacked),)
    told = ()
    if composed.settings is not NOTHING_TOLD:
        numbers = np.arange(len(cohort.row_splits) - 1, dtype=np.int32)
        told = (runtime.StackedClients(Settings(number=numbers)),)

    def step():
        nonlocal state, kept
        output = process.next(state, cohort, *kept, *told)
        state, metrics, *kept = (
            tuple(output) if kept else (output.state, output.metrics)
        )
        return int(metrics['used'])

    return Turn(step)


def turn_of_tff(work: Work, cohort: Cohort) -> Turn:
    """Makes TFF's federated averaging."""
    process = peer.build_process(work, 'mean')
    state = process.initialize()

    def step():
        nonlocal state
        state = process.next(state, cohort).state
        return work.clients

    return Turn(step)


def measure(workload: str, rounds: int) -> dict[str, dict]:
    """Runs all methods on a workload.

    Args:
      workload: Its name.
      rounds: Rounds of each, the first one included.

    Returns:
      Of each row `seconds` and `processor` of the rounds, or an `error`.
    """
    work = workloads.WORKLOADS[workload]()
    cohort = peer.clients(work, stock=False)
    sgd = tff.learning.optimizers.build_sgdm
    context = Context(
        models.from_keras(tff_models.keras_network(work)),
        sgd(work.learning_rate),
        sgd(1.0),
        population=work.clients,
    )
    turns, records = {}, {}

    def attempt(name: str, act: Callable):
        try:
            return act()
        except UserError as error:
            records[name] = {'error': str(error)}
            turns.pop(name, None)

    with runtime.use_compiled():
        turns[TFF] = turn_of_tff(work, cohort)
        for name, chosen in options().items():
            found = attempt(name, lambda chosen=chosen: turn(chosen, context, cohort))
            if found is not None:
                turns[name] = found
        gc.collect()
        for _ in progress.bar(range(rounds), desc=workload):
            for name, each in list(turns.items()):
                attempt(name, lambda each=each: each.run(work.clients))
    timed = {
        name: {'seconds': each.seconds, 'processor': each.processor}
        for name, each in turns.items()
    }
    return {**timed, **records}


def measure_peers(workload: str, rounds: int, limit_s: float) -> dict[str, dict]:
    """Runs other frameworks' methods on a workload, one after another.

    Args:
      workload: Its name.
      rounds: Rounds of each, the first one included.
      limit_s: When to give up on one.

    Returns:
      Of each what `benchmarks.speed.run` gives, without weights, with its `method`.
    """
    records = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        workloads.WORKLOADS[workload]().save(folder / 'work')
        for method, prefix, option in OF_PEERS:
            for runner in speed.OTHERS:
                if not runner.name.startswith(prefix):
                    continue
                options = (*runner.options, option)
                runner = dataclasses.replace(runner, options=options)
                place = folder / str(len(records))
                place.mkdir()
                record = speed.run(runner, folder / 'work', rounds, place, limit_s)
                record.pop('weights', None)
                name = f'{runner.name}: {method}'
                records[name] = {**record, 'method': method}
                print(f'{workload}: {name}: {speed.summary(record)}', flush=True)
    return records


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workloads', nargs='*', metavar='WORKLOAD', default=WORKLOADS)
    parser.add_argument('--rounds', type=int, default=11, help='with the first')
    parser.add_argument('--limit', type=float, default=900, help='seconds for a peer')
    chosen = parser.parse_args()
    described = machine.describe()
    measured = {w: measure(w, chosen.rounds) for w in chosen.workloads}
    peers = {w: measure_peers(w, chosen.rounds, chosen.limit) for w in chosen.workloads}
    report = page(measured, peers, described)
    print(report)
    if tuple(chosen.workloads) == WORKLOADS:
        records = {
            f'{workload}: {name}': record
            for workload, its in measured.items()
            for name, record in {**its, **peers[workload]}.items()
        }
        text = json.dumps({'machine': described, 'records': records}, indent=1) + '\n'
        files.write_text(speed.RESULTS / 'methods.json', text)
        files.write_text(speed.RESULTS / 'methods.md', report)


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    main()
