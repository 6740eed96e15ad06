"""Oort reaches an accuracy in less time than clients by chance.

Lai et al. 2021, "Oort: Efficient federated learning via guided participant selection",
section 7: both ask 1.3 times as many clients as they use, on devices of unlike speeds.
Here a linear head on the features of a backbone, on the digits of real writers, and
devices whose speeds and bandwidths are log-normal.

  python -m experiments.claims.oort --data_path=handwriting_by_writer.npz \\
      --backbone=mobilenet_v2_035_feature_vector --output=oort.png
"""

from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags

import tff_transfer as tt
from experiments.claims import study
from tff_transfer.data import by_client
from tff_transfer.data.federated import FederatedData
from tff_transfer.records import plots
from tff_transfer.records.metrics import SIMULATED
from tff_transfer.simulation.fleet.drawn import Drawn
from tff_transfer.simulation.selection.oort import Oort
from tff_transfer.simulation.selection.power_of_choice import PowerOfChoice
from tff_transfer.simulation.selection.uniform import Uniform

USED, OVER_SELECTION = 20, 1.3
# Without a latency that all have alike.
FLEET = Drawn(latency=0.0)
RATE = 0.03
TARGETS = (0.9, 0.92)
RULES = {
    'by chance': Uniform(),
    'Oort': Oort(),
    'Oort, by examples and losses alone': Oort(alpha=0.0),
    # Of twice as many candidates as are asked.
    'power-of-choice': PowerOfChoice(d=52),
}
ACCURACY = 'unseen/accuracy'


def run(
    data: FederatedData, backbone: str, rule, seed: int, rounds: int
) -> list[Mapping]:
    """Returns the rows of a run that have an accuracy."""
    config = tt.Config(
        tt.DataConfig(split_seed=seed),
        tt.ModelConfig(backbone=backbone),
        tt.TrainingConfig(
            rounds=rounds,
            clients_per_round=USED,
            over_selection=OVER_SELECTION,
            client_learning_rate=RATE,
            server_optimizer='sgd',
            server_learning_rate=1.0,
            evaluate_every=2,
            seed=seed,
        ),
        selection=rule,
        fleet=FLEET,
    )
    rows = tt.train(config, data=data).rows
    return [row for row in rows if row[ACCURACY] is not None]


def when(rows: Sequence[Mapping], target: float, column: str) -> float:
    """Returns a column's value where the accuracy first is the target, or infinity."""
    return next((row[column] for row in rows if row[ACCURACY] >= target), np.inf)


def measure(
    data: FederatedData, backbone: str, seeds: list[int], rounds: int
) -> study.Found:
    """Returns time and rounds to each target, by how clients are chosen."""
    whats = {'seconds': SIMULATED, 'rounds': 'round'}
    told = [f'{what} to {t:.0%}' for t in TARGETS for what in whats]
    table, curves = [['', *told, 'seconds a round', 'last accuracy']], {}
    for name, rule in RULES.items():
        runs = [run(data, backbone, rule, seed, rounds) for seed in seeds]
        last = [rows[-1] for rows in runs]
        limits = {'seconds': int(max(r[SIMULATED] for r in last)), 'rounds': rounds}
        cells = [
            study.needed([when(rows, target, column) for rows in runs], limits[what], f)
            for target in TARGETS
            for (what, column), f in zip(whats.items(), ('.1f', '.0f'), strict=True)
        ]
        each = [row[SIMULATED] / row['round'] for row in last]
        accuracies = study.spread([row[ACCURACY] for row in last])
        table.append([name, *cells, f'{np.median(each):.2f}', accuracies])
        print('  '.join(table[-1]), flush=True)
        curves[name] = [(row[SIMULATED], row[ACCURACY]) for row in runs[0]]
    figure = plots.compared(
        curves, 'accuracy on unseen writers', by='simulated seconds'
    )
    return study.Found(table, figure)


if __name__ == '__main__':
    flags.DEFINE_string('data_path', None, 'Digits by client.', required=True)
    flags.DEFINE_string('backbone', 'embedded', 'As of experiments.emnist_fedavg.')
    study.run(
        lambda *sizes: measure(
            by_client.load(flags.FLAGS.data_path), flags.FLAGS.backbone, *sizes
        ),
        rounds=100,
        seeds=3,
    )
