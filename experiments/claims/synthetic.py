"""Logistic regression on synthetic(1, 1), of which several papers tell."""

import tff_transfer as tt

# The seed of data on which rates and the like are chosen.
OF_CHOICES = 100

# A server that takes the clients' mean weights.
MEAN = {'server_optimizer': 'sgd', 'server_learning_rate': 1.0}


def train(method, *, clients: int, seed: int, **training) -> tt.Result:
    """Trains on the data, and with the draws, of a seed.

    Args:
      method: A method's options.
      clients: How many clients there are; a fifth of the examples of each are test
        examples.
      seed: The seed of all draws, those of the data too.
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
    return tt.train(tt.Config(data, tt.ModelConfig(model='mlp'), training, method))
