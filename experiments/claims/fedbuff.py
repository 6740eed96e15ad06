"""FedBuff reaches an accuracy in less time, and by fewer clients, than rounds do.

Nguyen et al. 2022, "Federated learning with buffered asynchronous aggregation", section
5: buffers of 10, against rounds that ask 1.3 times as many clients as they use, and
against FedAsync, with as many clients at a time. Here a head on the embedded backbone,
on the digits of real writers, and devices whose speeds and bandwidths are log-normal.

  python -m experiments.claims.fedbuff --data_path=handwriting_by_writer.npz \\
      --output=fedbuff.png
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import flags

import tff_transfer as tt
from experiments.claims import study, synthetic
from tff_transfer.data import by_client
from tff_transfer.data.federated import FederatedData
from tff_transfer.records import plots
from tff_transfer.records.metrics import SIMULATED
from tff_transfer.simulation.fleet.drawn import Drawn
from tff_transfer.simulation.timing.ca2fl import CA2FL
from tff_transfer.simulation.timing.fed_async import FedAsync
from tff_transfer.simulation.timing.fed_buff import FedBuff
from tff_transfer.simulation.timing.synchronous import Synchronous

# Clients that train at a time, and those that a round with over-selection uses.
AT_ONCE, USED = 26, 20
BUFFER = 10
# Without a latency that all have alike.
FLEET = Drawn(latency=0.0)
TARGETS = (0.98, 0.985)
CLIENT_RATES = (0.03, 0.1, 0.3)
SERVER_RATES, ALPHAS = (0.5, 1.0), (0.3, 0.6)


class Way(NamedTuple):
    """When the server takes its steps.

    Attributes:
      timing: Of a rate, the server's or FedAsync's alpha, the options.
      rates: The rates to try.
      reports: How many clients' reports make a step.
      training: What of a `TrainingConfig` is its own.
    """

    timing: Callable
    rates: tuple[float, ...]
    reports: int
    training: dict


_AT_ONCE = {'clients_per_round': AT_ONCE}
WAYS = {
    'rounds': Way(lambda rate: Synchronous(), SERVER_RATES, AT_ONCE, _AT_ONCE),
    'rounds, over-selection': Way(
        lambda rate: Synchronous(),
        SERVER_RATES,
        USED,
        {'clients_per_round': USED, 'over_selection': AT_ONCE / USED},
    ),
    'FedBuff': Way(lambda rate: FedBuff(buffer=BUFFER), SERVER_RATES, BUFFER, _AT_ONCE),
    'FedAsync': Way(lambda rate: FedAsync(alpha=rate), ALPHAS, 1, _AT_ONCE),
    'CA2FL': Way(lambda rate: CA2FL(buffer=BUFFER), SERVER_RATES, BUFFER, _AT_ONCE),
}


class Course(NamedTuple):
    """What a run came to, after each evaluation; each is an array.

    Attributes:
      seen: Accuracy on test examples of writers that train.
      unseen: On those of writers that do not.
      seconds: Simulated.
      reports: How many clients had reported, used or not.
    """

    seen: np.ndarray
    unseen: np.ndarray
    seconds: np.ndarray
    reports: np.ndarray

    def when(self, target: float, accuracy: str = 'unseen') -> tuple[float, float]:
        """Returns after how many seconds and reports an accuracy was reached."""
        reached = getattr(self, accuracy) >= target
        if not reached.any():
            return np.inf, np.inf
        first = np.argmax(reached)
        return self.seconds[first], self.reports[first]


def run(
    data: FederatedData,
    way: str,
    rates: tuple[float, float],
    seed: int,
    reports: int,
) -> Course:
    """Trains until about so many clients have reported."""
    of, (client_rate, rate) = WAYS[way], rates
    timing, server = of.timing(rate), {}
    if not isinstance(timing, FedAsync):
        server = {'server_optimizer': 'sgd', 'server_learning_rate': rate}
        server['weighting'] = 'uniform'
    training = tt.TrainingConfig(
        rounds=reports // of.reports,
        client_learning_rate=client_rate,
        evaluate_every=max(round(AT_ONCE / of.reports), 1),
        seed=seed,
        **of.training,
        **server,
    )
    config = tt.Config(
        tt.DataConfig(split_seed=seed),
        training=training,
        fleet=FLEET,
        timing=timing,
    )
    rows = tt.train(config, data=data).rows
    senders = AT_ONCE if isinstance(timing, Synchronous) else of.reports
    message = rows[1]['bytes/up'] / senders
    sent = np.cumsum([row['bytes/up'] or 0 for row in rows]) / message
    kept = [n for n, row in enumerate(rows) if row['unseen/accuracy'] is not None]
    columns = ('seen/accuracy', 'unseen/accuracy', SIMULATED)
    found = [np.array([rows[n][name] for n in kept]) for name in columns]
    return Course(*found, sent[kept])


def best_rates(data: FederatedData, way: str, reports: int) -> tuple[float, float]:
    """Returns the rates that reach the last target first, on a split of its own.

    That is by test examples of writers that train; of rates that do not reach it, those
    of the best accuracy at the end.
    """

    def late(rates):
        course = run(data, way, rates, synthetic.OF_CHOICES, reports)
        return course.when(TARGETS[-1], 'seen')[0], -course.seen[-1]

    return min(itertools.product(CLIENT_RATES, WAYS[way].rates), key=late)


def measure(data: FederatedData, seeds: list[int], rounds: int) -> study.Found:
    """Returns time and reports to each target, by when the server steps."""
    reports, curves = rounds * AT_ONCE, {}
    told = [f'{what} to {t:.1%}' for t in TARGETS for what in ('seconds', 'reports')]
    table = [['', *told, 'rates']]
    for way in WAYS:
        rates = best_rates(data, way, reports)
        courses = [run(data, way, rates, seed, reports) for seed in seeds]
        cells = []
        for target in TARGETS:
            seconds, sent = zip(*(c.when(target) for c in courses), strict=True)
            longest = int(max(course.seconds[-1] for course in courses))
            cells.append(study.needed(seconds, longest, '.1f'))
            cells.append(study.needed(sent, reports, '.0f'))
        table.append([way, *cells, ', '.join(f'{rate:g}' for rate in rates)])
        print('  '.join(table[-1]), flush=True)
        first = courses[0]
        curves[way] = list(zip(first.seconds, first.unseen, strict=True))
    figure = plots.compared(
        curves, 'accuracy on unseen writers', by='simulated seconds'
    )
    return study.Found(table, figure)


if __name__ == '__main__':
    flags.DEFINE_string('data_path', None, 'Digits by client.', required=True)
    study.run(
        lambda *sizes: measure(by_client.load(flags.FLAGS.data_path), *sizes),
        rounds=30,
        seeds=3,
    )
