"""From pretrained weights server optimizers differ less than from random ones.

Nguyen et al. 2023, "Where to begin? On the impact of pre-training and initialization
in federated learning", section 4. Here MobileNetV2 0.35 at 32 px, all of it trained,
BatchNorm's statistics averaged, on handwriting by writer.

  python -m experiments.claims.pretrained_start --data_path=handwriting_by_writer.npz \\
      --pretrained=mobilenet_v2_035_feature_vector --output=pretrained_start.png
"""

from collections.abc import Sequence

import numpy as np
from absl import flags

import tff_transfer as tt
from experiments import learning_rates
from experiments.claims import study
from tff_transfer.data import by_client
from tff_transfer.data.federated import FederatedData
from tff_transfer.records import plots

# By name: what makes a method of the server's rate, and the rates to choose from.
METHODS = {
    'FedAvg': (lambda rate: tt.algorithms.FedAvgM(rate, momentum=0.0), (1.0,)),
    'FedAvgM': (lambda rate: tt.algorithms.FedAvgM(rate, momentum=0.9), (0.3, 1.0)),
    'FedAdam': (lambda rate: tt.algorithms.FedAdam(rate), (0.003, 0.01)),
}
# Last rounds, whose evaluations are averaged.
LAST = 3


def train(data: FederatedData, weights: str, method, rounds: int, seed: int):
    """Trains from some weights; returns the rows of the evaluations."""
    rate = learning_rates.rate('all', 'aggregate', pretrained=weights != 'random')
    config = tt.Config(
        tt.DataConfig(split_seed=seed),
        tt.ModelConfig(
            backbone='MobileNetV2_035',
            backbone_weights=weights,
            image_size=32,
            finetune='all',
            batch_norm='aggregate',
        ),
        tt.TrainingConfig(
            rounds=rounds,
            clients_per_round=10,
            client_learning_rate=rate,
            evaluate_every=2,
            seed=seed,
        ),
        method,
    )
    rows = tt.train(config, data=data).rows
    return [row for row in rows if row['unseen/accuracy'] is not None]


def late(runs: Sequence, column: str) -> list[float]:
    """Returns of each run the mean of its last evaluations."""
    return [float(np.mean([row[column] for row in run[-LAST:]])) for run in runs]


def measure(
    data: FederatedData, pretrained: str, seeds: list[int], rounds: int
) -> study.Found:
    """Returns the accuracy on unseen writers by start and server optimizer."""
    table, curves = [['start', *METHODS, 'best minus worst', 'server rates']], {}
    for start, weights in (('random', 'random'), ('pretrained', pretrained)):
        told, rates = [], []
        for name, (make, tried) in METHODS.items():
            by_rate = {
                rate: [train(data, weights, make(rate), rounds, s) for s in seeds]
                for rate in tried
            }
            # Seen writers choose, unseen ones tell.
            rate = max(
                by_rate, key=lambda r: np.mean(late(by_rate[r], 'seen/accuracy'))
            )
            told.append(late(by_rate[rate], 'unseen/accuracy'))
            rates.append(f'{rate:g}')
            curves[f'{start}, {name}'] = [
                (row['round'], row['unseen/accuracy']) for row in by_rate[rate][0]
            ]
        gaps = np.max(told, axis=0) - np.min(told, axis=0)
        table.append(
            [start, *map(study.spread, told), study.spread(gaps), ', '.join(rates)]
        )
        print('  '.join(table[-1]), flush=True)
    return study.Found(table, plots.compared(curves, 'accuracy on unseen writers'))


if __name__ == '__main__':
    flags.DEFINE_string('data_path', None, 'Images by client.', required=True)
    flags.DEFINE_string(
        'pretrained', None, 'The SavedModel of a MobileNetV2_035.', required=True
    )
    study.run(
        lambda *sizes: measure(
            by_client.load(flags.FLAGS.data_path), flags.FLAGS.pretrained, *sizes
        ),
        rounds=16,
        seeds=1,
    )
