"""Logistic regression on synthetic(1, 1), of which several papers tell."""

import tff_transfer as tt
from tff_transfer.simulation.selection.rule import Rule
from tff_transfer.simulation.selection.uniform import Uniform

# The seed of data on which rates and the like are chosen.
OF_CHOICES = 100

UNIFORM = Uniform()

# A server that takes the clients' mean weights.
MEAN = {'server_optimizer': 'sgd', 'server_learning_rate': 1.0}


def train(
    method, *, clients: int, seed: int, selection: Rule = UNIFORM, **training
) -> tt.Result:
    """Trains on the data, and with the draws, of a seed.

    Args:
      method: A method's options.
      clients: How many clients there are; a fifth of the examples of each are test
        examples.
      seed: The seed of all draws, those of the data too.
      selection: The rule by which the clients of a round are chosen.
      **training: Fields of the `TrainingConfig`.
    """
    data = tt.DataConfig(
        dataset='synthetic_alpha_beta',
        num_writers=clients,
        data_seed=seed,
        split_seed=seed,
        test_fraction=0.2,
        unseen_fraction=0.0,
    )
    training = tt.TrainingConfig(seed=seed, **training)
    model = tt.ModelConfig(model='mlp')
    return tt.train(tt.Config(data, model, training, method, selection=selection))
