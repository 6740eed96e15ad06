"""Generated images as the public examples of FedDF."""

import pathlib
from collections.abc import Mapping

import numpy as np

from experiments import pieces
from tff_transfer import files, randomness
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.algorithms.fed_df import FedDF
from tff_transfer.data import partition
from tff_transfer.data.federated import FederatedData
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

# Clients, how unlike their classes are, and examples of all of them.
CLIENTS, ALPHA, EXAMPLES = 20, 0.5, 6000
PUBLIC = 500
ROUNDS, COHORT, EPOCHS = 8, 8, 20
# Passes of the server in a round.
PASSES = 30
# What names draws and pieces, by which studies of before go on.
_NAMED = 'circle'
NOBODY, NOISE, REAL = 'FedAvg', 'FedDF, noise', 'FedDF, real images'


def skewed(data: FederatedData) -> FederatedData:
    """Returns examples of a population, dealt to clients of unlike classes.

    Whose they were does not count any more. Such clients averaging serves ill, most of
    all after many passes over their own examples.
    """
    rows = np.sort(_drawn(data)[:EXAMPLES])
    return partition.dirichlet(
        data.x[rows],
        data.y[rows],
        CLIENTS,
        alpha=ALPHA,
        is_test=~data.is_train[rows],
        name=f'{data.name}, dealt by class',
    )


def real(data: FederatedData) -> np.ndarray:
    """Returns real images that none of `skewed` has."""
    return data.x[_drawn(data)[EXAMPLES : EXAMPLES + PUBLIC]]


def _drawn(data: FederatedData) -> np.ndarray:
    """Returns all rows in the order in which clients, and then the server, get them."""
    draw = randomness.generator(0, f'examples of the {_NAMED}')
    return draw.permutation(len(data.y))


def noise(data: FederatedData) -> np.ndarray:
    """Returns images of which each pixel is any image's, uint8."""
    draw = randomness.generator(0, 'noise as public examples')
    pixels = data.x[draw.integers(0, len(data.x), PUBLIC)]
    return draw.permuted(pixels, axis=0)


def measured(
    folder: pathlib.Path, data: FederatedData, public: Mapping[str, np.ndarray], bar
) -> dict[str, dict]:
    """Returns accuracy by round, with each set of public images and with none.

    Args:
      folder: Where pieces and the files of images are.
      data: The population that models were trained on.
      public: Generated images by name, float32 in [0, 1] or uint8.
      bar: Is told of each that is done.

    Returns:
      `round` and `accuracy` on test examples, by name.
    """
    sets = {NOISE: noise(data), REAL: real(data), **public}
    found = {}
    for name in (NOBODY, *sets):

        def made(name=name) -> dict:
            method = FedAvg()
            if name != NOBODY:
                path = folder / 'public' / f'{name}.npz'
                with files.replacing(path) as new, open(new, 'wb') as file:
                    np.savez(file, image=sets[name])
                method = FedDF(public_data=str(path), epochs=PASSES)
            return _trained(method, skewed(data))

        found[name] = pieces.piece(folder / 'figures', f'{_NAMED}, {name}', made)
        bar.update()
        bar.set_postfix_str(name)
    return found


def _trained(method, data: FederatedData) -> dict:
    mean = {}
    if isinstance(method, FedAvg):
        mean = {'server_optimizer': 'sgd', 'server_learning_rate': 1.0}
    training = TrainingConfig(
        rounds=ROUNDS,
        clients_per_round=COHORT,
        client_epochs=EPOCHS,
        client_learning_rate=0.05,
        evaluate_every=1,
        **mean,
    )
    config = Config(
        DataConfig(unseen_fraction=0.0),
        ModelConfig('mlp', hidden_units=(100,)),
        training,
        method,
    )
    rows = loop.train(config, data=data).rows
    rows = [row for row in rows if row['seen/accuracy'] is not None]
    return {
        'round': [row['round'] for row in rows],
        'accuracy': [row['seen/accuracy'] for row in rows],
    }
