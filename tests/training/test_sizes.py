"""What cannot fit in memory is said before it is tried."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from test_loop import CLIENTS, SIZE, TRAIN, make_config, make_data

from tff_transfer import machine, models
from tff_transfer.data import synthetic_alpha_beta, synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.models.generative.cvae import CVAE
from tff_transfer.training import loop, sizes
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


@pytest.fixture
def limit(monkeypatch):
    """Sets the bytes that are free."""

    def set_to(free):
        given = machine.Memory(1 << 40, free)
        monkeypatch.setattr(machine, 'memory', lambda: given)

    return set_to


def refused(call, *parts):
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert '\n' not in message
    for part in parts:
        assert part in message, message


def test_the_weights_of_a_network_are_counted_first(limit):
    # 784 x 1e9 + 1e9 x 10 weights of 4 bytes, four times: 12,704e9 bytes.
    def huge():
        models.mlp((28, 28), 10, (10**9,))

    refused(huge, '794,000,000,000 weights', '11,831.5 GiB', '--hidden_units')
    limit(4 * 4 * (5 * 8 + 8 * 3) - 1)
    refused(lambda: models.mlp((5,), 3, (8,)), 'a network of 64 weights')
    limit(4 * 4 * (5 * 8 + 8 * 3))
    models.mlp((5,), 3, (8,))
    refused(lambda: models.cnn((4000, 4000, 1), 10), '8,192,000,000 weights')


def test_weights_of_a_model_that_generates_are_counted_first():
    # 2 x 10,000 x 10,000 x 32 x 128 of the two dense layers.
    made = CVAE()
    refused(lambda: made.networks((40_000, 40_000, 1), 2, 0), '819,200,000,000 weights')


def test_what_networks_within_a_network_give_is_counted(limit):
    inner = models.mlp((SIZE,), 3, (1000,)).network
    inputs = tf.keras.Input((SIZE,))
    outer = tf.keras.Model(inputs, inner(inputs))
    config = TrainingConfig(clients_per_round=1, batch_size=10)
    # The inputs twice, 1,000 hidden units and 3 outputs.
    limit(10 * 4 * (2 * SIZE + 1003))
    sizes.check_rounds(config, np.array([10]), 1, [outer])
    limit(10 * 4 * (2 * SIZE + 1003) - 1)
    with pytest.raises(UserError, match='a batch of 10 examples'):
        sizes.check_rounds(config, np.array([10]), 1, [outer])


def test_images_that_the_cnn_cannot_halve_twice_are_refused():
    for shape in ((1, 1, 1), (3, 28, 3), (28, 3, 1)):
        refused(lambda shape=shape: models.cnn(shape, 3), 'too small', 'at least 4 x 4')
    assert models.cnn((4, 5, 1), 3).network.output_shape == (None, 3)


def test_a_cohort_and_a_batch_are_measured_first(limit):
    network = models.mlp((SIZE,), 3, (7,)).network
    examples = np.array([10, 20, 30])

    def check(**training):
        config = TrainingConfig(**training)
        sizes.check_rounds(config, examples, 4 * SIZE, [network])

    # Two clients of 20 on average, three times: 120 rows of 20 bytes.
    limit(2399)
    cohort = {'clients_per_round': 2, 'client_epochs': 3}
    refused(lambda: check(**cohort), 'a cohort of 2 clients, 120 examples', 'epochs')
    limit(2400)
    check(**cohort, batch_size=1)
    check(clients_per_round=6, client_epochs=10, max_examples=2, batch_size=1)
    # A batch of the 90 of the largest client, of 5 + 2 key + 7 + 3 numbers at most.
    limit(90 * 4 * (5 + 7 + 3) - 1)
    refused(lambda: check(**cohort, batch_size=10**9), 'a batch of 90 examples')
    limit(90 * 4 * (5 + 7 + 3))
    check(**cohort, batch_size=10**9)


def test_a_run_that_cannot_fit_does_not_begin(tmp_path):
    config = make_config(client_epochs=10**12)
    rows = 3 * TRAIN * 10**12
    assert CLIENTS >= 3
    gib = math.floor(rows * 4 * SIZE / 2**30 * 10 + 0.5) / 10
    refused(
        lambda: loop.train(config, tmp_path / 'run', data=make_data()),
        f'{rows:,} examples in',
        f'{gib:,.1f} GiB',
    )
    hidden = ModelConfig(model='mlp', hidden_units=(10**12,))
    config = dataclasses.replace(make_config(), model=hidden)
    refused(lambda: loop.train(config, data=make_data()), '--hidden_units')
    assert not (tmp_path / 'run' / 'metrics.csv').exists()


def test_synthetic_clients_that_cannot_fit_are_refused():
    refused(
        lambda: synthetic_writers.generate(10**9, 100, 0),
        '100,000,000,000 examples would take at least 73,015.7 GiB',
    )
    refused(
        lambda: synthetic_alpha_beta.generate(1, 1, num_clients=10**9),
        '50,000,000,000 examples would take at least 22,351.7 GiB',
    )
