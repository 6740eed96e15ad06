"""Every method as a run: its flags, what it leaves, and killed in the middle."""

import dataclasses
import itertools
import shutil

import killing
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
import walks
from absl import flags
from test_loop import CLASSES, SIZE, make_config, make_data, numpy_round

from tff_transfer import options
from tff_transfer.algorithms import registry
from tff_transfer.data import validation
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

QUICK = ('scaffold',)
# In this order pytest runs both tests of a method, which share a run, one after the
# other: it goes by their places in the lists.
METHODS = (
    *registry.BY_OWN_MODELS,
    *(name for name in registry.NAMES if name not in registry.BY_OWN_MODELS),
)
# Those of test_gan_runs.py train on images.
METHODS = tuple(name for name in METHODS if name not in registry.OF_GANS)
WITH_BODY = (*registry.BY_REPRESENTATION, 'fedbabu', 'fedrecon')
STAND = (*walks.OF_EACH_KIND, 'fedrecon', 'central', 'jointft')


def config(name, **training):
    if name not in registry.BY_SERVER_OPTIMIZER:
        training |= {'server_optimizer': 'adam', 'server_learning_rate': 0.02}
    if name in registry.IN_ONE_PLACE:
        training |= {'clients_per_round': 20}
    if name in registry.BY_OWN_MODELS:
        training = {'baselines': False, **training}
    made = make_config(checkpoint_every=1, **training)
    if name in registry.OF_ONE_ROUND:
        given = TrainingConfig(baselines=made.training.baselines)
        made = dataclasses.replace(made, training=given)
    chosen = registry.options(name)()
    if hasattr(chosen, 'parts') or name in WITH_BODY:  # There is a body under the head.
        made = dataclasses.replace(made, model=ModelConfig('mlp', hidden_units=(6,)))
    if name in registry.OF_GANS:
        made = dataclasses.replace(made, model=ModelConfig('gan'))
    return dataclasses.replace(made, algorithm=chosen)


def whole_config(name):
    """Returns a method's run whose clients do unequal work, where they may."""
    epochs = {'client_epochs': 3, 'min_client_epochs': 1, 'straggler_fraction': 0.5}
    if name in (*registry.IN_ONE_PLACE, *registry.BY_OWN_PASSES):
        epochs = {'client_epochs': 3}
    if name in registry.BY_OWN_MODELS and name not in registry.IN_ONE_PASS:
        epochs['adaptation_epochs'] = (1, 4)
    return config(name, **epochs)


@pytest.fixture(scope='module')
def whole(request):
    """A method's name, and its run that nothing interrupted, for both its tests."""
    return request.param, loop.train(whole_config(request.param), data=make_data())


@pytest.mark.parametrize(
    'whole',
    walks.slow(METHODS, QUICK, STAND),
    indirect=True,
)
def test_a_killed_run_goes_on_to_the_same_bits(whole, tmp_path, monkeypatch):
    name, whole = whole
    made = whole_config(name)
    last = whole.rows[-1]['round']
    killed = min(3, last)

    seen = killing.at(monkeypatch, killed)
    with pytest.raises(killing.Killed):
        loop.train(made, tmp_path / 'killed', data=make_data())
    resumed = loop.train(made, tmp_path / 'killed', data=make_data())
    assert seen == [*range(1, killed + 1), *range(killed, last + 1)]
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed.per_client == whole.per_client
    timeless = [
        [{k: v for k, v in row.items() if 'time/' not in k} for row in result.rows]
        for result in (resumed, whole)
    ]
    assert timeless[0] == timeless[1]
    assert resumed.chosen == whole.chosen
    if name not in registry.BY_OWN_MODELS:
        # What was exported is what was evaluated on unseen clients.
        model = tf.saved_model.load(str(tmp_path / 'killed' / 'model'))
        found = resumed.predictions['unseen']
        logits = model(make_data().x[found.rows])['logits']
        np.testing.assert_array_equal(np.argmax(logits, axis=1), found.predicted)


@pytest.mark.slow
def test_bytes_of_features_are_those_of_examples():
    made = config('fedgkt', rounds=1, client_epochs=2, max_examples=7)
    result = loop.train(made, data=make_data())
    row = result.rows[-1]
    examples = 3 * 7  # Of three clients, once, however long they train.
    assert row['bytes/up'] == examples * 4 * (SIZE + CLASSES + 1)
    assert row['bytes/down'] == examples * 4 * CLASSES


def test_clients_alone_are_judged_by_their_own_models():
    rate = {'client_learning_rate': 0.5}
    result = loop.train(config('local', rounds=9, **rate), data=make_data())
    assert not any(map(np.any, result.weights))
    data, setup = make_data(), result.setup
    unseen = np.isin(data.client_of_row, setup.unseen)
    tested = data.y[~unseen & ~data.is_train]
    row = result.rows[-1]
    assert row['seen/accuracy'] > np.mean(tested == 0) + 0.1


def test_examples_in_one_place_are_those_of_a_single_client():
    data = make_data()
    one = dataclasses.replace(
        data,
        client_ids=('all',),
        num_train=data.num_train.sum(keepdims=True),
        num_test=data.num_test.sum(keepdims=True),
    )
    alone = dataclasses.replace(
        config('fedavg', clients_per_round=1, client_epochs=2),
        data=DataConfig(unseen_fraction=0),
    )
    expected = loop.train(alone, data=one)
    chosen = config('central', client_epochs=2)
    found = loop.train(dataclasses.replace(chosen, data=alone.data), data=one)
    for ours, theirs in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert found.rows[-1]['bytes/up'] == found.rows[-1]['bytes/down'] == 0


def test_an_unseen_client_adapts_on_its_training_examples_alone():
    rate = {'client_learning_rate': 0.1, 'adaptation_epochs': (3,)}
    data = make_data()
    result = loop.train(config('local', rounds=2, **rate), data=data)
    found = result.predictions['unseen']
    assert not data.is_train[found.rows].any()
    for client in result.setup.unseen:
        # The client alone trains from the start, which is zero.
        cohort = training_cohort(
            data, [client], batch_size=5, epochs=3, seed=0, round_number=2
        )
        weights = numpy_round(
            [np.zeros([SIZE, CLASSES]), np.zeros(CLASSES)], cohort, 0.1
        )
        mine = data.client_of_row[found.rows] == client
        scores = data.x[found.rows[mine]] @ weights[0] + weights[1]
        np.testing.assert_array_equal(np.argmax(scores, axis=1), found.predicted[mine])


def test_the_number_of_epochs_is_chosen_on_held_out_training_examples():
    rate = {'client_learning_rate': 0.1, 'adaptation_epochs': (1, 4)}
    data = make_data()
    result = loop.train(config('fedavgft', rounds=2, **rate), data=data)
    chosen = int(result.chosen['epochs of adaptation'])
    unseen = result.setup.unseen
    held = validation.held_out(data, unseen, fraction=0.2, seed=0)
    right = {1: [], 4: []}
    for epochs, client in itertools.product(right, range(len(unseen))):
        cohort = training_cohort(
            held, [client], batch_size=5, epochs=epochs, seed=0, round_number=2
        )
        weights = numpy_round(result.weights, cohort, 0.1)
        rows = held.test_rows(client)
        scores = held.x[rows] @ weights[0] + weights[1]
        right[epochs] += [*(np.argmax(scores, axis=1) == held.y[rows])]
    means = [np.mean(each) for each in right.values()]
    assert means[0] != means[1]
    assert chosen == (1, 4)[np.argmax(means)]
    # All clients are judged by models of the chosen number, on test examples alone.
    for part, clients in (('seen', result.setup.seen), ('unseen', unseen)):
        found = result.predictions[part]
        assert not data.is_train[found.rows].any()
        for client in clients:
            cohort = training_cohort(
                data, [client], batch_size=5, epochs=chosen, seed=0, round_number=2
            )
            weights = numpy_round(result.weights, cohort, 0.1)
            mine = data.client_of_row[found.rows] == client
            scores = data.x[found.rows[mine]] @ weights[0] + weights[1]
            np.testing.assert_array_equal(
                np.argmax(scores, axis=1), found.predicted[mine]
            )


@pytest.mark.parametrize(
    'whole',
    walks.slow(registry.BY_OWN_MODELS, ('local', 'personalridge'), STAND),
    indirect=True,
)
def test_labels_of_test_examples_reach_nothing(whole):
    name, found = whole
    data = make_data()
    changed = np.where(data.is_train, data.y, (data.y + 1) % CLASSES)
    others = dataclasses.replace(data, y=changed.astype(np.int32))
    again = loop.train(whole_config(name), data=others)
    assert found.chosen == again.chosen
    for ours, theirs in zip(found.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for part in ('seen', 'unseen'):
        ours, theirs = (result.predictions[part] for result in (found, again))
        assert not data.is_train[ours.rows].any()
        np.testing.assert_array_equal(ours.predicted, theirs.predicted)
    # Own models are not that of all.
    if len(found.weights) == 2:
        ours, (kernel, bias) = found.predictions['seen'], found.weights
        scores = data.x[ours.rows] @ kernel + bias
        shares = scipy.special.softmax(scores, axis=1)
        of_all = -np.log(shares[np.arange(len(shares)), ours.labels])
        assert np.abs(ours.measured['loss'] - of_all).max() > 1e-3


def from_command_line(*arguments):
    values = flags.FlagValues()
    options.define_flags(Config, values)
    values(['program', *arguments])
    return options.from_flags(Config, values)


def test_options_of_a_method_are_flags_under_its_name():
    found = from_command_line('--algorithm=fedprox', '--fedprox.mu=0.5')
    assert found.algorithm == registry.options('fedprox')(mu=0.5)
    assert options.to_flags(found) == ['--algorithm=fedprox', '--fedprox.mu=0.5']
    assert options.from_dict(Config, options.to_dict(found)) == found


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['--fedprox.mu=0.5'], 'is for --algorithm=fedprox, but --algorithm is fedavg'),
        (
            ['--algorithm=fedexp', '--server_optimizer=sgd'],
            'is not for --algorithm=fedexp',
        ),
        (
            ['--algorithm=scaffold', '--client_optimizer=adam'],
            '--client_optimizer is not for --algorithm=scaffold; leave it out',
        ),
        (
            ['--algorithm=scaffold', '--client_momentum=0.9'],
            '--client_momentum is not for --algorithm=scaffold; leave it out',
        ),
        (['--algorithm=fedprox', '--fedprox.mu=-1'], '--fedprox.mu is -1.0, but must'),
        (['--finetune=head_then_all', '--algorithm=local'], 'each is alone'),
        (
            [
                '--finetune=head_then_all',
                '--hidden_units=8',
                '--algorithm=fedproto',
            ],
            'with --algorithm=fedproto each is alone',
        ),
        (
            ['--algorithm=feddistill', '--compression_down=float16'],
            '--compression_down is not for .* takes what it sent off the sums',
        ),
        (['--algorithm=fedproto'], 'none of them is trained; give --hidden_units, or'),
        (['--algorithm=moon'], 'none of them is trained; give --hidden_units, or'),
        (
            ['--algorithm=central', '--weighting=uniform'],
            '--weighting is not for --algorithm=central; leave it out',
        ),
        (
            ['--algorithm=central', '--finetune=all', '--batch_norm=local'],
            'no clients for layers to stay with',
        ),
        (
            ['--algorithm=feddf', '--finetune=all', '--batch_norm=aggregate'],
            'distils on public examples, for which BatchNorm layers',
        ),
        (['--algorithm=fedrod', '--head=cosine'], 'but --head is cosine; use --head=l'),
        (['--adaptation_epochs=3'], 'is not for --algorithm=fedavg'),
        (
            ['--algorithm=apfl', '--apfl.adaptive_alpha', '--client_optimizer=adam'],
            'adaptive_alpha is defined for SGD without momentum',
        ),
        (
            ['--algorithm=knnper', '--adaptation_epochs=3'],
            '--adaptation_epochs is not for --algorithm=knnper; leave it out',
        ),
        (['--finetune=head_then_all', '--algorithm=fedbabu'], 'it stays as it began'),
        (['--finetune=head_then_all', '--algorithm=fedper'], 'parts=head these stay'),
    ],
)
def test_flags_that_a_method_does_not_take_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        from_command_line(*arguments).check()


def test_a_state_of_clients_that_was_lost_is_told(tmp_path):
    loop.train(config('scaffold', rounds=2), tmp_path / 'run', data=make_data())
    shutil.copy(tmp_path / 'run' / 'config.json', tmp_path / 'run' / 'clients_1')
    with pytest.raises(UserError, match='what client number . keeps was changed'):
        loop.train(config('scaffold', rounds=3), tmp_path / 'run', data=make_data())


def test_a_run_whose_rates_hang_on_its_rounds_takes_no_more(tmp_path):
    first, more = (
        config('fedprox', client_schedule='linear', rounds=n) for n in (1, 2)
    )
    loop.train(first, tmp_path / 'run', data=make_data())
    with pytest.raises(UserError, match='--rounds=1, on which --client_schedule'):
        loop.train(more, tmp_path / 'run', data=make_data())
