"""Public examples of a file."""

import dataclasses

import numpy as np
import pytest
from test_algorithms import config as config_of
from test_loop import SIZE, make_data

from tff_transfer import backbones
from tff_transfer.algorithms.fed_df import FedDF
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import assembled, loop, public_data
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.training_config import TrainingConfig


def drawn(seed=0, rows=30):
    return np.random.default_rng(seed).normal(size=(rows, SIZE)).astype(np.float32)


def with_file(path, options=None, **training):
    made = config_of('feddf', **training)
    options = dataclasses.replace(options or made.algorithm, public_data=str(path))
    return dataclasses.replace(made, algorithm=options)


def same(one, other):
    pairs = zip(one.weights, other.weights, strict=True)
    return all(np.array_equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.slow
def test_examples_of_the_file_teach_and_its_labels_do_not(tmp_path):
    path, data = tmp_path / 'public.npz', make_data()
    made = with_file(path, rounds=1, clients_per_round=8)
    found = []
    for x, y in ((drawn(), 0), (drawn(), 1), (drawn(1), 0)):
        np.savez(path, x=x, y=np.full(len(x), y), client=np.arange(len(x)) % 2)
        found.append(loop.train(made, data=data))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])
    # All eight seen clients took part.
    assert found[0].rows[-1]['train/clients'] == len(found[0].setup.seen) == 8


@pytest.mark.slow
def test_without_a_step_of_the_server_it_is_federated_averaging(tmp_path):
    path, data = tmp_path / 'public.npz', make_data()
    np.savez(path, x=drawn())
    still = FedDF(learning_rate=0.0)
    sgd = {'server_optimizer': 'sgd', 'server_learning_rate': 1.0}
    made = with_file(path, still, rounds=2, clients_per_round=8)
    plain = config_of('fedavg', rounds=2, clients_per_round=8, **sgd)
    ours, theirs = loop.train(made, data=data), loop.train(plain, data=data)
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_images_become_what_the_model_takes(tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (24, 32, 32)).astype(np.uint8)
    y = np.arange(24).astype(np.int32) % 2
    data = FederatedData(
        'toy', pixels[..., None], y, ('a', 'b', 'c'), np.full(3, 6), np.full(3, 2), 2
    )
    backbone = backbones.load('embedded')
    given = draw.random((7, 32, 32))
    np.savez(tmp_path / 'public.npz', generated_images=given)
    config = Config(
        DataConfig(unseen_fraction=0),
        ModelConfig(hidden_units=(4,)),
        TrainingConfig(rounds=1, clients_per_round=3),
        FedDF(public_data=str(tmp_path / 'public.npz')),
    )
    images = public_data.read(config, data)
    np.testing.assert_array_equal(images[..., 0], np.rint(255 * given))
    assert images.dtype == np.uint8
    model = loop.head_or_network(config, data, backbone)
    with use_runtime(config.training):
        setup = loop.prepare(config, data, backbone, model)
    setup = public_data.with_examples(setup, images)
    made = assembled.assemble(config, setup)
    expected = setup.transform(backbone(images).numpy())
    found = np.asarray(made.context.public.examples['x'])
    # In another order, as clients' rows are.
    order, theirs = np.lexsort(found.T), np.lexsort(np.asarray(expected).T)
    np.testing.assert_allclose(found[order], expected[theirs], atol=1e-4)
    assert len(made.participants.setup.seen) == 3


def test_a_file_that_does_not_suit_is_one_line(tmp_path):
    path, data = tmp_path / 'public.npz', make_data()
    with pytest.raises(UserError, match='public.npz: no such file'):
        loop.train(with_file(path), data=data)
    np.savez(path, x=drawn()[:, 1:])
    with pytest.raises(UserError, match=rf'30 public examples of shape \[{SIZE - 1}\]'):
        loop.train(with_file(path), data=data)
    two_ways = with_file(path, FedDF(public_clients=3))
    with pytest.raises(UserError, match='public_clients are two ways'):
        loop.train(two_ways, data=data)


@pytest.mark.slow
def test_another_file_does_not_go_on_with_a_run(tmp_path):
    path, data = tmp_path / 'public.npz', make_data()
    np.savez(path, x=drawn())
    made = with_file(path, rounds=1, clients_per_round=8)
    loop.train(made, tmp_path / 'run', data=data)
    np.savez(path, x=drawn(1))
    with pytest.raises(UserError, match='public'):
        loop.train(made, tmp_path / 'run', data=data)
