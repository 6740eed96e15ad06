"""Runs of generative adversarial networks: killed, private, exported, refused."""

import dataclasses

import killing
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from test_algorithms import from_command_line
from test_loop import CLASSES, CLIENTS, TEST, TRAIN, make_config

from tff_transfer.algorithms.fed_gan import FedGAN
from tff_transfer.algorithms.method import Context
from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models.generative.adversaries import build
from tff_transfer.models.generative.gan import GAN
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.training import loop, methods
from tff_transfer.training.model_config import ModelConfig

slow = pytest.mark.slow
SHAPE, LATENTS = (8, 8, 1), 3
SERVER = FedGAN('server', generator_steps=2, generator_batch=4)


def make_data():
    draw = np.random.default_rng(0)
    n = CLIENTS * (TRAIN + TEST)
    return FederatedData(
        'spots',
        draw.integers(0, 256, (n, *SHAPE)).astype(np.uint8),
        draw.integers(0, CLASSES, n).astype(np.int32),
        tuple(f'client {i}' for i in range(CLIENTS)),
        np.full(CLIENTS, TRAIN),
        np.full(CLIENTS, TEST),
        CLASSES,
    )


def config(algorithm, model=None, **training):
    made = make_config(checkpoint_every=1, **training)
    model = model or ModelConfig('gan', latent_size=LATENTS)
    return dataclasses.replace(made, algorithm=algorithm, model=model)


def timeless(result):
    return [{k: v for k, v in row.items() if 'time/' not in k} for row in result.rows]


@slow
@pytest.mark.parametrize(
    'algorithm', [FedGAN(), pytest.param(SERVER, marks=pytest.mark.walk)]
)
def test_a_killed_run_goes_on_to_the_same_bits(algorithm, tmp_path, monkeypatch):
    made = config(algorithm, rounds=3, server_momentum=0.5)
    whole = loop.train(made, data=make_data())
    killing.at(monkeypatch, 2)
    with pytest.raises(killing.Killed):
        loop.train(made, tmp_path / 'killed', data=make_data())
    resumed = loop.train(made, tmp_path / 'killed', data=make_data())
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert timeless(resumed) == timeless(whole)
    assert ('server/generator_loss' in whole.rows[1]) == (algorithm is SERVER)
    # What is exported makes the images of the last weights.
    exported = tf.saved_model.load(str(tmp_path / 'killed' / 'model'))
    labels, key = tf.constant([0, 2]), tf.constant([3, 4])
    expected = build(GAN(LATENTS), SHAPE, CLASSES).generate(
        resumed.weights, labels, key
    )
    found = exported(labels, key)['images']
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def parts(weights):
    """Returns the generator's and the discriminator's weights, as vectors."""
    count = len(build(GAN(LATENTS), SHAPE, CLASSES).parts['generator'])
    return (
        np.concatenate([np.ravel(w) for w in some])
        for some in (weights[:count], weights[count:])
    )


def private(algorithm, **training):
    """Returns a run in which nothing but noise moves what clients send."""
    made = config(
        algorithm,
        weighting='uniform',
        client_learning_rate=1e-20,
        **training,
    )
    return dataclasses.replace(
        made, privacy=Central(noise_multiplier=2.0, clip=0.3, delta=1e-5)
    )


@slow
@pytest.mark.parametrize(
    'algorithm', [pytest.param(FedGAN(), marks=pytest.mark.walk), SERVER]
)
def test_noise_is_added_to_what_clients_send_alone(algorithm):
    made = private(algorithm, rounds=1, seed=1)
    result = loop.train(made, data=make_data())
    start = result.setup.model.initial_weights
    (generator, discriminator), before = parts(result.weights), list(parts(start))
    # Of 3 clients' clipped updates on average.
    deviation = 2.0 * 0.3 / 3
    moved = discriminator - before[1]
    assert 0.9 * deviation < np.sqrt(np.mean(moved**2)) < 1.1 * deviation
    moved = generator - before[0]
    if algorithm is SERVER:
        # Two steps of Adam at 1e-3.
        assert 0 < np.abs(moved).max() < 2.1e-3
    else:
        assert 0.9 * deviation < np.sqrt(np.mean(moved**2)) < 1.1 * deviation
    assert 0 < result.rows[-1]['privacy/epsilon'] < np.inf


@slow
def test_updates_are_clipped_by_the_discriminator_alone():
    large = config(
        SERVER, rounds=1, weighting='uniform', client_learning_rate=10.0, seed=1
    )
    clipped = dataclasses.replace(
        large, privacy=Central(noise_multiplier=1e-7, clip=0.3, sampling='fixed')
    )
    result = loop.train(clipped, data=make_data())
    start = result.setup.model.initial_weights
    (_, discriminator), before = parts(result.weights), list(parts(start))
    assert 0.05 < np.linalg.norm(discriminator - before[1]) <= 0.3001


def test_noise_is_found_for_the_numbers_that_clients_send():
    of = build(GAN(LATENTS), SHAPE, CLASSES)
    sgd = tff.learning.optimizers.build_sgdm(1.0)
    made = dataclasses.replace(
        config(SERVER, weighting='uniform'), privacy=Distributed(noise_multiplier=1.0)
    )
    found = methods.mechanism_of(made, Context(of, sgd, sgd, population=8))
    assert len(of.parts['generator']) == 4
    assert found.size == sum(map(np.size, of.initial_weights[4:]))


@slow
@pytest.mark.walk
def test_a_run_starts_from_another_one(tmp_path):
    """From its generator, of which the stem stays; and is held near it."""
    first = loop.train(config(SERVER, rounds=1), tmp_path / 'first', data=make_data())
    start = str(tmp_path / 'first')
    model = ModelConfig('gan', latent_size=LATENTS, start_from=start)
    same = loop.train(config(SERVER, model, rounds=0), data=make_data())
    for ours, theirs in zip(same.weights, first.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    model = dataclasses.replace(model, frozen_parts=('stem',))
    held = dataclasses.replace(
        config(SERVER, model, rounds=1), distill_from=Pretrained(2.0)
    )
    found = loop.train(held, data=make_data())
    # Without the stem's kernel and bias.
    assert len(found.weights) == len(first.weights) - 2
    assert found.rows[0]['seen/distillation'] == 0
    assert 0 < found.rows[-1]['seen/distillation'] < 1
    assert found.rows[-1]['server/generator_loss'] > 0


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--algorithm=fedgan'], 'but --model is backbone; use --model=gan'),
        (
            ['--model=gan'],
            '--algorithm=fedavg makes one loss small; use --algorithm=fedgan',
        ),
        (
            ['--model=gan', '--algorithm=fedgan', '--fedgan.generator_steps=3'],
            '--fedgan.generator_steps is for --fedgan.generator=server, but'
            ' --fedgan.generator is averaged',
        ),
        (
            ['--model=gan', '--algorithm=fedgan', '--export=best'],
            'no value tells that images are good; leave it out',
        ),
        (
            ['--model=gan', '--algorithm=fedgan', '--early_stop_patience=2'],
            'no value tells that images are good; leave it out',
        ),
        (
            ['--model=gan', '--algorithm=fedgan', '--selection=oort'],
            'the loss is of two networks against each other; leave it out',
        ),
        (['--model=cnn', '--gan_loss=wasserstein'], 'is for --model=gan'),
        (
            [
                *('--model=gan', '--algorithm=fedgan', '--gan_loss=wasserstein'),
                '--label_smoothing=0.1',
            ],
            '--label_smoothing is for --gan_loss=nonsaturating',
        ),
    ],
)
def test_what_does_not_suit_a_gan_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        from_command_line(*arguments).check()
