"""Runs whose clients send compressed updates."""

import dataclasses

import killing
import numpy as np
import pytest
import walks
from test_algorithms import config as config_of
from test_algorithms import from_command_line
from test_loop import (
    CLASSES,
    SIZE,
    cohorts,  # noqa: F401
    make_config,
    make_data,
    numpy_round,
)

from tff_transfer import runtime
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import Local, processes, registry
from tff_transfer.compression import registry as schemes
from tff_transfer.compression.federated_dropout import FederatedDropout
from tff_transfer.compression.float16 import Float16
from tff_transfer.compression.power_sgd import PowerSGD
from tff_transfer.compression.sparse import RandomK, TopK
from tff_transfer.compression.uniform import Uniform, Uniform8
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError
from tff_transfer.models import mlp
from tff_transfer.models.generative.adversaries import build
from tff_transfer.models.generative.gan import GAN
from tff_transfer.privacy.accounting import SampledGaussian
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.per_example import PerExample
from tff_transfer.training import loop, stages
from tff_transfer.training.combinations import compression
from tff_transfer.training.model_config import ModelConfig

NUMBERS = SIZE * CLASSES + CLASSES


def compressed(scheme, down=None, **training):
    made = make_config(**training)
    if down is not None:
        made = dataclasses.replace(made, compression_down=down)
    return dataclasses.replace(made, compression=scheme)


def clients_of(cohort):
    for first, last in zip(cohort.row_splits, cohort.row_splits[1:], strict=False):
        examples = {n: array[first:last] for n, array in cohort.examples.items()}
        yield Cohort(examples, np.array([0, last - first]), cohort.batch_size)


def flat(weights):
    return np.concatenate([np.ravel(weight) for weight in weights])


def tensors(vector):
    split = SIZE * CLASSES
    return [vector[:split].reshape(SIZE, CLASSES), vector[split:]]


def test_top_k_with_what_was_lost_of_clients_that_come_again(cohorts):  # noqa: F811
    result = loop.train(compressed(TopK(fraction=0.2), rounds=5), data=make_data())
    count = round(0.2 * NUMBERS)
    data = make_data()
    who = {row.tobytes(): data.client_of_row[i] for i, row in enumerate(data.x)}
    weights, lost, again = np.zeros(NUMBERS), {}, 0
    assert len(cohorts) == 5
    for cohort in cohorts:
        moved = []
        for one in clients_of(cohort):
            client = who[one.examples['x'][0].tobytes()]
            again += client in lost
            after = flat(numpy_round(tensors(weights), one, 0.1))
            due = after - weights + lost.get(client, 0)
            least = np.sort(np.abs(due))[-count]
            sent = np.where(np.abs(due) >= least, due, 0)
            lost[client] = due - sent
            moved.append(sent)
        weights = weights + np.mean(moved, axis=0)
    assert again > 3
    np.testing.assert_allclose(flat(result.weights), weights, rtol=1e-4, atol=1e-6)


def test_what_comes_down_is_what_clients_begin_with(cohorts):  # noqa: F811
    result = loop.train(compressed(Float16(), Uniform8(), rounds=3), data=make_data())
    weights = np.zeros(NUMBERS)
    for cohort in cohorts:
        got = []
        for tensor in tensors(weights):
            step = (tensor.max() - tensor.min()) / 255
            levels = np.floor((tensor - tensor.min()) / (step or 1) + 0.5)
            got.append(tensor.min() + step * levels)
        after = [flat(numpy_round(got, one, 0.1)) for one in clients_of(cohort)]
        moved = [(a - flat(got)).astype(np.float16).astype(float) for a in after]
        weights = weights + np.mean(moved, axis=0)
    np.testing.assert_allclose(flat(result.weights), weights, rtol=5e-3, atol=2e-4)
    assert np.abs(flat(result.weights) - weights).mean() < 5e-5
    row = result.rows[-1]
    # Two tensors down, each with its least level and a step; a client's weight up.
    assert row['bytes/down'] == 3 * (NUMBERS + 2 * 8)
    assert row['bytes/up'] == row['bytes/up_coded'] == 3 * (2 * NUMBERS + 4)
    assert row['bytes/down'] < row['bytes/down_coded'] <= row['bytes/down'] + 6


@pytest.mark.slow
@pytest.mark.parametrize(
    'scheme',
    [
        RandomK(fraction=0.2),  # It draws, and it remembers.
        pytest.param(Uniform(4, rotate=True), marks=pytest.mark.walk),
        pytest.param(PowerSGD(), marks=pytest.mark.walk),
    ],
    ids=lambda scheme: type(scheme).__name__,
)
def test_a_killed_run_draws_and_remembers_the_same(scheme, tmp_path, monkeypatch):
    config = compressed(scheme, Uniform8(), rounds=3, checkpoint_every=1, seed=5)
    whole = loop.train(config, data=make_data())
    seen = killing.at(monkeypatch, 2)
    with pytest.raises(killing.Killed):
        loop.train(config, tmp_path, data=make_data())
    resumed = loop.train(config, tmp_path, data=make_data())
    assert seen == [1, 2, 2, 3]
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    ours, theirs = (
        [(row['bytes/up_coded'], row['bytes/down_coded']) for row in result.rows[1:]]
        for result in (resumed, whole)
    )
    assert ours == theirs


@pytest.mark.slow
def test_both_runtimes_agree_where_nothing_is_drawn():
    made = compressed(TopK(fraction=0.2), Uniform8())
    found, stock = (
        loop.train(
            dataclasses.replace(
                made, training=dataclasses.replace(made.training, runtime=name)
            ),
            data=make_data(),
        )
        for name in ('compiled', 'stock')
    )
    for ours, theirs in zip(found.weights, stock.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for column in ('bytes/up', 'bytes/up_coded', 'bytes/down', 'bytes/down_coded'):
        assert found.rows[-1][column] == stock.rows[-1][column]


def test_a_client_that_counts_for_nothing_keeps_what_it_had():
    config = compressed(TopK(fraction=0.1), clients_per_round=8, rounds=1)
    data = make_data()
    x = data.x.copy()
    x[data.train_rows(2)] = np.inf
    data = dataclasses.replace(data, x=x)
    setup = loop.prepare(config, data, None, mlp((SIZE,), CLASSES))
    stage = stages.Stage(config, setup, range(1, 2))
    with runtime.use_compiled(seed=0):
        state, row = stage.next(stage.initialize(), 1)
    (place,) = np.flatnonzero(setup.seen == 2)
    kept = stage._states.take(state['kept'], range(8)).arrays
    lost = kept.memory[0].lost
    assert not lost[place].any()
    assert np.all(np.abs(np.delete(lost, place, axis=0)).sum(axis=1) > 0)
    # And none of its bytes is coded; beside the update each sends its weight.
    assert row['train/clients'] == 7
    assert row['bytes/up_coded'] == 7 * (1 + 2 + 2 * 4) + 8 * 4
    assert row['bytes/up'] == 8 * (2 + 2 * 4 + 4)


def test_a_private_run_tells_no_bytes_that_hang_on_clients(monkeypatch):
    # What it costs is computed elsewhere.
    monkeypatch.setattr(SampledGaussian, 'epsilon', lambda mechanism, rounds: 0.0)
    private = dataclasses.replace(
        compressed(TopK(fraction=0.2), Uniform8(), weighting='uniform', rounds=2),
        privacy=Central(noise_multiplier=0.5, clip=0.2),
    )
    result = loop.train(private, data=make_data())
    assert not {name for name in result.rows[-1] if 'coded' in name}
    assert {row['bytes/up'] for row in result.rows[1:]} == {3 * (4 * 4 + 3)}


def test_a_method_that_sends_no_weights_cannot_be_composed():
    model = mlp((SIZE,), CLASSES)
    with pytest.raises(UserError, match='there is nothing to compress where'):
        processes.process(Local(), model, compression=TopK())


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(['fedavgft', 'fedper'], ['fedper']))
def test_own_models_are_the_same_where_nothing_is_lost(name):
    # What clients remember of what they sent is no part of their models.
    plain = config_of(name, rounds=2)
    lossless = dataclasses.replace(plain, compression=TopK(fraction=1.0))
    found, expected = (loop.train(each, data=make_data()) for each in (lossless, plain))
    for part in ('seen', 'unseen'):
        ours, theirs = (result.predictions[part] for result in (found, expected))
        for measure, values in theirs.measured.items():
            np.testing.assert_allclose(ours.measured[measure], values, rtol=1e-4)


def test_options_of_a_scheme_are_flags_under_its_name():
    found = from_command_line(
        '--compression=topk', '--topk.fraction=0.1', '--compression_down=float16'
    )
    assert found.compression == TopK(fraction=0.1)
    assert found.compression_down == Float16()
    with pytest.raises(UserError, match='--topk.fraction is for --compression=topk'):
        from_command_line('--topk.fraction=0.1')
    with pytest.raises(UserError, match='--topk.fraction is 2.0, but must be at most'):
        from_command_line('--compression=topk', '--topk.fraction=2').check()
    noisy = ('--privacy=distributed', '--distributed.target_epsilon=8')
    with pytest.raises(UserError, match='with --privacy=distributed clients change'):
        from_command_line('--compression=topk', '--weighting=uniform', *noisy).check()
    from_command_line(
        '--compression_down=float16', '--weighting=uniform', *noisy
    ).check()
    with pytest.raises(UserError, match='for --algorithm=local: nothing travels'):
        from_command_line('--compression=topk', '--algorithm=local').check()


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(registry.NAMES))
def test_every_method_takes_each_scheme_or_says_why_not(name):
    directions = {'compression': schemes.UP, 'compression_down': schemes.DOWN}
    refused = {d for d in directions if name in compression.UNCOMPRESSED[d]}
    for direction, known in directions.items():
        for scheme in map(known.options, known.NAMES[1:]):
            if scheme is FederatedDropout:  # For some methods alone, of hidden layers.
                continue
            made = dataclasses.replace(config_of(name), **{direction: scheme()})
            if direction not in refused:
                made.check()
                continue
            with pytest.raises(UserError, match=f'--{direction} is not for'):
                made.check()
    taken = {'compression': TopK(), 'compression_down': Uniform8()}
    taken = {d: scheme for d, scheme in taken.items() if d not in refused}
    if not taken:
        return
    # Built for the shapes that the method sends; top-k keeps as much.
    made = dataclasses.replace(config_of(name), **taken)
    data, model = make_data(), mlp((SIZE,), CLASSES, made.model.hidden_units)
    if name in registry.OF_GANS:
        data = data.with_x(np.zeros((len(data.y), 8, 8, 1), np.float32))
        model = build(GAN(), (8, 8, 1), CLASSES)
    setup = loop.prepare(made, data, None, model)
    stage = stages.Stage(made, setup, range(1, 2))
    assert len(stage.coded) == len(taken)
    assert stage.stored or 'compression' in refused


def dropped(name='fedavg', **changed):
    """Returns a run whose clients get a half of six hidden units."""
    made = dataclasses.replace(
        make_config(),
        model=ModelConfig('mlp', hidden_units=(6,)),
        compression_down=FederatedDropout(kept=0.5),
        algorithm=registry.options(name)(),
    )
    return dataclasses.replace(made, **changed)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_units(tmp_path, monkeypatch):
    whole = loop.train(dropped(), data=make_data())
    killing.at(monkeypatch, 3)
    with pytest.raises(killing.Killed):
        loop.train(dropped(), tmp_path / 'killed', data=make_data())
    resumed = loop.train(dropped(), tmp_path / 'killed', data=make_data())
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    numbers = SIZE * 3 + 3 + 3 * CLASSES + CLASSES
    assert whole.rows[-1]['bytes/up'] == 3 * 4 * (numbers + 1)
    assert whole.rows[-1]['bytes/down'] == 3 * (4 * numbers + 8)
    assert 'bytes/down_coded' not in whole.rows[-1]


@pytest.mark.parametrize('name', registry.NAMES)
def test_sub_networks_are_for_methods_of_which_weights_alone_travel(name):
    made = dataclasses.replace(config_of(name), compression_down=FederatedDropout())
    made = dataclasses.replace(made, model=ModelConfig('mlp', hidden_units=(6,)))
    if name in registry.BY_SUB_NETWORKS:
        made.check()
    else:
        with pytest.raises(UserError):
            made.check()


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'model': ModelConfig('mlp')}, 'leaves out units of hidden layers; give'),
        ({'compression': TopK()}, 'send what they got, which --compression would'),
        ({'aggregation': Secure()}, 'send unlike parts of an update'),
        (
            {'model': ModelConfig(hidden_units=(6,), finetune='head_then_all')},
            'another --finetune than head_then_all',
        ),
        ({'privacy': PerExample(noise_multiplier=1.0)}, 'perexample clients add noise'),
    ],
)
def test_what_does_not_go_with_sub_networks_is_refused(changed, words):
    with pytest.raises(UserError, match=words):
        dropped(**changed).check()
