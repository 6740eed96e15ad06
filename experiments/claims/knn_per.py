"""What kNN-Per gains grows with the examples that a client keeps.

Marfoq et al. 2022, "Personalized federated learning through local memorization",
section 5: the global model's predictions are mixed with those of the nearest examples
that a client keeps itself, and the more it keeps, the more that brings. Here clients of
CIFAR-10 with skewed labels keep all of their training examples, a half, a quarter or a
tenth; a head with a hidden layer on the features of a backbone is trained on these.

  python -m experiments.claims.knn_per --data_path=cifar10_5k_1k.npz \\
      --backbone=mobilenet_v2_035_feature_vector --output=knn_per.png
"""

import dataclasses

import numpy as np
from absl import flags
from matplotlib.figure import Figure

import tff_transfer as tt
from experiments import personalization
from experiments.claims import study
from tff_transfer import randomness
from tff_transfer.data.federated import FederatedData
from tff_transfer.records.personalization import ALONE, GLOBAL, PERSONAL

CLIENTS, ALPHA, USED = 100, 0.3, 20
UNMIXED, MIXED = 'global model', 'kNN-Per'
SHARES = (0.1, 0.25, 0.5, 1.0)
# That which held-out examples chose in the study of personalisation.
RATE = 0.2


def thinned(data: FederatedData, seed: int) -> FederatedData:
    """Returns data whose clients keep each of `SHARES` of their training examples.

    Args:
      data: The population; its clients get the shares by turns.
      seed: Who gets which first, and the seed of which examples stay.
    """
    rows, counts = [], []
    for client in range(len(data)):
        own, test = (np.r_[of(client)] for of in (data.train_rows, data.test_rows))
        count = max(1, round(SHARES[(client + seed) % len(SHARES)] * len(own)))
        draw = randomness.generator(seed, 'kept examples', client)
        rows += [draw.permutation(own)[:count], test]
        counts.append(count)
    rows = np.concatenate(rows)
    return dataclasses.replace(
        data, x=data.x[rows], y=data.y[rows], num_train=np.array(counts)
    )


def accuracies(
    data: FederatedData, backbone: str, seed: int, rounds: int
) -> dict[float, dict[str, float]]:
    """Returns the mean accuracy of seen clients, by the share that they keep."""
    common = tt.Config(
        tt.DataConfig(split_seed=seed),
        dataclasses.replace(personalization.MODEL, backbone=backbone),
        tt.TrainingConfig(rounds=rounds, clients_per_round=USED),
    )

    def trained(name: str, **more):
        more |= personalization.epochs_of(name, personalization.EPOCHS)
        config = personalization.configured(common, name, RATE, seed=seed, **more)
        return tt.train(config, data=data)

    first = trained(personalization.FIRST).personalization
    mixed = trained('knnper', baselines=False)
    mixed = personalization.with_models_of(first, mixed)
    values = {
        'clients alone': first.values[ALONE],
        UNMIXED: first.values[GLOBAL],
        'fine-tuned': first.values[PERSONAL],
        MIXED: mixed.values[PERSONAL],
    }
    numbers = np.array([data.number_of(name) for name in first.client_ids])
    groups = {
        share: first.seen & ((numbers + seed) % len(SHARES) == place)
        for place, share in enumerate(SHARES)
    }
    return {
        share: {name: float(np.mean(of[those])) for name, of in values.items()}
        for share, those in groups.items()
    }


def measure(path: str, backbone: str, seeds: list[int], rounds: int) -> study.Found:
    """Returns accuracies by the share of its examples that a client keeps."""
    config = tt.Config(tt.DataConfig('by_client', data_path=path))
    data = personalization.load(config, CLIENTS, ALPHA)
    found = []
    for seed in seeds:
        found.append(accuracies(thinned(data, seed), backbone, seed, rounds))
        print(f'seed {seed} is done', flush=True)
    names = list(found[0][SHARES[0]])
    table = [['examples kept', *names, 'kNN-Per above the global model']]
    figure = Figure((5, 3.5), layout='constrained')
    axes = figure.subplots()
    size = np.mean(data.num_train)
    for name in names:
        means = [100 * np.mean([of[share][name] for of in found]) for share in SHARES]
        axes.plot([share * size for share in SHARES], means, 'o-', label=name)
    axes.set(xscale='log', xlabel='training examples', ylabel='accuracy, percent')
    axes.legend()
    for share in SHARES:
        cells = [study.spread([of[share][name] for of in found]) for name in names]
        gain = study.spread([of[share][MIXED] - of[share][UNMIXED] for of in found])
        table.append([f'{share * size:.0f}', *cells, gain])
    return study.Found(table, figure)


if __name__ == '__main__':
    flags.DEFINE_string('data_path', None, 'CIFAR-10, an npz file.', required=True)
    flags.DEFINE_string('backbone', 'embedded', 'As of experiments.emnist_fedavg.')
    study.run(
        lambda *sizes: measure(flags.FLAGS.data_path, flags.FLAGS.backbone, *sizes),
        rounds=40,
        # So that each client keeps each share once.
        seeds=4,
    )
