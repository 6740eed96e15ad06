"""Runs that fine-tune a backbone, to what they leave behind."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import walks

from tff_transfer import backbones, features, models, runtime
from tff_transfer.algorithms import compose
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.data import synthetic_writers
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.features import extraction
from tff_transfer.records import checkpoints
from tff_transfer.training import client_states, evaluation, loop, methods, stages
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.rounds import evaluated_rows
from tff_transfer.training.training_config import TrainingConfig


@pytest.fixture
def data():
    return synthetic_writers.generate(6, 8, seed=1, classes=10)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))


def fed_avg_process(config, model):
    context = methods.context_of(config, model, 1)
    return compose.compose(FedAvg().build(context), context).process


def config(**model):
    return Config(
        model=ModelConfig(image_size=32, **model),
        training=TrainingConfig(
            rounds=2, clients_per_round=2, evaluate_every=2, server_optimizer='sgd'
        ),
    )


def small_network():
    images = tf.keras.Input((8, 8, 3))
    x = tf.keras.layers.Conv2D(4, 3, 2, activation='relu', name='first')(images)
    x = tf.keras.layers.Conv2D(6, 1)(x)
    x = tf.keras.layers.BatchNormalization()(x)
    network = tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(x))
    draw = np.random.default_rng(1)
    for weight in network.weights:
        weight.assign(np.abs(draw.normal(size=weight.shape)) + 0.1)
    return network


@pytest.fixture
def small_backbone(monkeypatch):
    """Has runs load a small network where they would load a MobileNetV2."""
    load = backbones.load
    monkeypatch.setattr(backbones, 'load', lambda *_, **named: load(small_network()))


@pytest.mark.slow
@pytest.mark.parametrize(
    'model',
    [
        {'finetune': 'all'},
        pytest.param(
            {'finetune': 'adapters', 'adapter_rank': 1}, marks=pytest.mark.walk
        ),
        {'finetune': 'adapters', 'adapter_rank': 1, 'batch_norm': 'aggregate'},
        {'finetune': 'all', 'batch_norm': 'group_norm'},
    ],
    ids=lambda model: '-'.join(map(str, model.values())),
)
def test_a_run_of_a_small_network_leaves_its_trained_weights(
    model, data, tmp_path, small_backbone
):
    check_what_is_left(model, data, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    'model',
    [
        pytest.param({'finetune': 'bias_norm'}, marks=pytest.mark.walk),
        {'finetune': 'top', 'cut_layer': 'block_15_add'},
        {'finetune': 'top', 'top_layers': 2, 'batch_norm': 'aggregate'},
        pytest.param(
            {
                'finetune': 'all',
                'batch_norm': 'group_norm',
                'backbone': 'MobileNetV2_035',
                'backbone_weights': 'random',
            },
            marks=pytest.mark.walk,
        ),
    ],
    ids=lambda model: '-'.join(map(str, model.values())),
)
def test_a_run_leaves_its_trained_weights(model, data, tmp_path):
    check_what_is_left(model, data, tmp_path)


def check_what_is_left(model, data, tmp_path):
    result = loop.train(config(**model), tmp_path / 'run', data=data)
    model = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    images = data.x[:5]
    logits = model(images)['logits'].numpy()
    initial = result.setup.model.functional.initial_weights[0]
    assert not all(
        np.array_equal(a, b) for a, b in zip(initial, result.weights, strict=True)
    )
    inputs = result.setup.transform(result.setup.data.x[:5])
    exported = tf.function(result.setup.model.logits)(result.weights, inputs)
    np.testing.assert_allclose(logits, exported, rtol=1e-4, atol=1e-4)
    rows = evaluated_rows(result.setup)['unseen']
    right = model(data.x[rows])['logits'].numpy().argmax(axis=1) == data.y[rows]
    assert result.rows[-1]['unseen/accuracy'] == pytest.approx(right.mean())
    # What travels and what is kept is what is trained, four bytes each.
    sent = 4 * sum(w.size for w in result.weights)
    assert result.rows[-1]['bytes/down'] == 2 * sent
    (stored,) = (tmp_path / 'run' / 'checkpoints').glob('*.npz')
    assert checkpoints.rounds(stored.parent) == [2]
    stored = np.load(stored)
    kept = sum(stored[name].nbytes for name in stored.files if 'leaf' in name)
    assert sent <= kept < sent + 200


@pytest.mark.parametrize(
    ('model', 'part'),
    [
        ({'model': 'cnn', 'finetune': 'all'}, '--finetune is for --model=backbone'),
        (
            {'finetune': 'top', 'cut_layer': 'x', 'top_layers': 2},
            '--cut_layer and --top_layers are two',
        ),
        ({'finetune': 'all', 'top_layers': 2}, 'is for --finetune=top'),
        ({'finetune': 'head_then_all', 'head_rounds': 150}, 'leaves none'),
        ({'finetune': 'adapters', 'adapter_rank': 0}, '--adapter_rank'),
        (
            {'finetune': 'all', 'cache_dtype': 'uint8'},
            '--cache_dtype is for --finetune',
        ),
        ({'finetune': 'bias_norm', 'cache_dtype': 'float16'}, 'but --finetune is bias'),
        ({'finetune': 'adapters', 'cache_dtype': 'uint8'}, 'but --finetune is adapt'),
        ({'batch_norm': 'local'}, 'trains none of the backbone'),
        ({'model': 'cnn', 'batch_norm': 'group_norm'}, 'is for --model=backbone'),
        ({'unseen_statistics': 'pretrained'}, 'is for --batch_norm=local'),
    ],
)
def test_what_does_not_fit_is_said(model, part):
    with pytest.raises(UserError, match=part):
        Config(model=ModelConfig(**model)).check()


@pytest.mark.slow
@pytest.mark.parametrize('unseen', walks.over(['own', 'pretrained'], ['own']))
def test_with_fed_bn_a_client_is_evaluated_with_its_own_layers(
    unseen, tmp_path, small_backbone
):
    data = synthetic_writers.generate(6, 8, seed=1, classes=10, test_fraction=0.25)
    chosen = config(
        finetune='top',
        cut_layer='first',
        batch_norm='local',
        unseen_statistics=unseen,
    )
    training = dataclasses.replace(chosen.training, checkpoint_every=1)
    chosen = dataclasses.replace(chosen, training=training)
    whole = loop.train(chosen, tmp_path / 'run', data=data)
    (stage,) = stages.stages(chosen, whole.setup, tmp_path / 'run')
    folder = tmp_path / 'run' / 'checkpoints'
    with runtime.use_compiled():
        start = stage.initialize()
    state, _ = checkpoints.load(folder, 2, start)
    shared = state['server'].server.weights
    # Scales stay at home: fewer bytes travel than are trained. Up goes a weight too.
    assert whole.rows[-1]['bytes/down'] == 2 * sum(w.nbytes for w in shared)
    assert whole.rows[-1]['bytes/up'] == whole.rows[-1]['bytes/down'] + 2 * 4
    model, setup = whole.setup.model, whole.setup
    rows = evaluated_rows(setup)

    def logits(weights, mine):
        inputs = tf.constant(setup.data.x[mine])
        return tf.function(model.logits)(list(map(tf.constant, weights)), inputs)

    holders = setup.data.client_of_row[rows['seen']]
    number = next(
        number
        for number, client in enumerate(setup.seen)
        if state['kept'][number, 0] >= 0 and client in holders
    )
    mine = rows['seen'][holders == setup.seen[number]]
    context = methods.context_of(chosen.training, model, len(setup.seen))
    initial = compose.compose(FedAvg().build(context), context).kept
    kept = client_states.ClientStates(initial, tmp_path / 'run' / 'clients_1')
    (kept,) = kept.take(state['kept'], [number])
    own = [*context.join(shared, kept.personal), *kept.statistics]
    with runtime.use_compiled():
        predicted = stage.per_example(state, mine)['predicted']
    np.testing.assert_array_equal(predicted, np.argmax(logits(own, mine), axis=1))
    # An unseen client has the mean of the scales and the statistics asked for.
    mine = rows['unseen']
    trained, _ = model.split(whole.weights)
    _, statistics = model.functional.initial_weights
    if unseen == 'own':
        inputs = tf.constant(setup.data.x[setup.data.train_rows(setup.unseen[0])])
        weights = list(map(tf.constant, whole.weights))
        statistics = tf.function(model.measured)(weights, inputs)
    with runtime.use_compiled():
        loss = stage.per_example(state, mine)['loss']
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(
        setup.data.y[mine], logits([*trained, *statistics], mine)
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-4, atol=1e-5)
    # A run that was killed in the second round goes on to the same end.
    checkpoints.path_of(folder, 2).unlink()
    again = loop.train(chosen, tmp_path / 'run', data=data)
    assert checkpoints.rounds(folder) == [1, 2]
    after_first, _ = checkpoints.load(folder, 1, start)
    assert not np.array_equal(after_first['kept'], state['kept'])
    for ours, theirs in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_the_head_first_and_all_then(data, tmp_path, small_backbone):
    chosen = config(finetune='head_then_all', head_rounds=2)
    training = dataclasses.replace(chosen.training, rounds=3)
    chosen = dataclasses.replace(chosen, training=training)
    whole = loop.train(chosen, tmp_path / 'run', data=data)
    head, together = whole.rows[1]['bytes/down'], whole.rows[3]['bytes/down']
    assert whole.rows[2]['bytes/down'] == head == 2 * 4 * (6 * 10 + 10)
    assert together == 2 * 4 * sum(w.size for w in whole.weights) > 2 * head
    # The third round starts from the second's head, of the same accuracy.
    rows = evaluated_rows(whole.setup)['unseen']
    run = stages.stages(chosen, whole.setup)
    folder = tmp_path / 'run' / 'checkpoints'
    with runtime.use_compiled():
        state, _ = checkpoints.load(folder, 2, run[0].initialize())
        started = run[1].after(run[0].weights(state), state['observed'])
        per_example = run[1].per_example(started, rows)
    setup = whole.setup
    found = evaluation.summary(setup.model.task, setup.data, rows, per_example)
    assert found['loss'] == pytest.approx(whole.rows[2]['unseen/loss'], rel=1e-4)
    # A run that was killed in the third round goes on to the same weights.
    checkpoints.path_of(folder, 3).unlink()
    again = loop.train(chosen, tmp_path / 'run', data=data)
    for ours, theirs in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def sgd(forward, x, y, variables, rate):
    with tf.GradientTape() as tape:
        logits = forward(tf.constant(x))
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(y.astype(np.int32), logits)
        )
    for variable, gradient in zip(
        variables, tape.gradient(loss, variables), strict=True
    ):
        variable.assign_sub(rate * gradient)


@pytest.mark.parametrize(
    'finetune', ['head', pytest.param('top', marks=pytest.mark.slow), 'head_then_all']
)
def test_one_client_trains_as_keras_does(finetune, monkeypatch):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (10, 8, 8, 3)).astype(np.uint8)
    y = np.arange(10).astype(np.int32) % 3
    one = FederatedData('one', x, y, ('a',), np.array([10]), np.array([0]), 3)
    keras = small_network()
    start = keras.get_weights()
    monkeypatch.setattr(loop, 'load_backbone', lambda config: backbones.load(keras))
    both = finetune == 'head_then_all'
    result = loop.train(
        Config(
            DataConfig(unseen_fraction=0.0),
            ModelConfig(
                finetune=finetune,
                hidden_units=(4,),
                head_rounds=1 if both else None,
                cut_layer='first' if finetune == 'top' else None,
            ),
            TrainingConfig(
                rounds=2,
                clients_per_round=1,
                batch_size=10,
                client_learning_rate=0.1,
                server_optimizer='sgd',
                server_learning_rate=1.0,
            ),
        ),
        data=one,
    )
    # The same in Keras: two steps on all examples.
    images = x / np.float32(255)
    found = keras(images, training=False).numpy()
    mean, deviation = found.mean(0), found.std(0)
    if finetune != 'head':
        deviation = np.sqrt(np.mean(deviation**2))
    head = models.mlp((6,), 3, (4,), seed=0).network
    trained = {
        'head': [],
        'top': keras.trainable_variables[2:],
        'head_then_all': keras.trainable_variables,
    }[finetune]

    def forward(images):
        return head((keras(images, training=False) - mean) / deviation)

    for step in (1, 2):
        below = [] if both and step == 1 else trained
        sgd(forward, images, y, [*below, *head.trainable_variables], 0.1)
    expected = [v.numpy() for v in [*trained, *head.trainable_variables]]
    assert len(expected) == len(result.weights)
    for ours, theirs in zip(result.weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    if trained:  # It was trained at all.
        before = {v.name: w for v, w in zip(keras.weights, start, strict=True)}
        for variable in trained:
            assert np.abs(variable - before[variable.name]).max() > 1e-5


@pytest.mark.slow
def test_both_runtimes_train_a_backbone_alike(data):
    chosen = config(finetune='all', hidden_units=(4,))
    backbone = backbones.load(small_network())
    with runtime.use_compiled():
        head = loop.head_or_network(chosen, data, backbone)
        setup = loop.prepare(chosen, data, backbone, head)
    training = dataclasses.replace(chosen.training, server_learning_rate=1.0)
    process = fed_avg_process(training, setup.model)
    found = {}
    for name in ('compiled', 'stock'):
        with getattr(runtime, f'use_{name}')():
            state = process.initialize()
            for number in (1, 2):
                cohort = training_cohort(
                    data, [0, 2], batch_size=3, epochs=1, seed=0, round_number=number
                )
                state = process.next(state, list(cohort)).state
            found[name] = process.get_model_weights(state).trainable
    initial = setup.model.functional.initial_weights[0]
    for ours, stock, start in zip(*found.values(), initial, strict=True):
        np.testing.assert_allclose(ours, stock, rtol=1e-5, atol=1e-6)
        assert np.abs(ours - start).max() > 1e-5


def test_the_scale_of_features_is_that_of_a_sample(data, monkeypatch):
    backbone = backbones.load(small_network())
    seen = np.array([0, 2, 3])
    rows = np.concatenate([np.r_[data.train_rows(client)] for client in seen])
    every = backbone(data.x[rows]).numpy()
    sample = features.of_sample(backbone, data, seen, seed=0)
    np.testing.assert_array_equal(sample.num_train, [8, 0, 8, 8, 0, 0])
    np.testing.assert_allclose(sample.x, every, rtol=1e-5)
    np.testing.assert_array_equal(sample.y, data.y[rows])
    with runtime.use_compiled():
        scale = features.standardisation(sample, seen)
    np.testing.assert_allclose(scale.mean, every.mean(0), rtol=1e-5)
    np.testing.assert_allclose(scale.deviation, every.std(0), rtol=1e-3)
    monkeypatch.setattr(extraction, 'SAMPLE', 5)
    some, again, other = (
        features.of_sample(backbone, data, seen, seed).x for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(some, again)
    assert some.shape == (5, 6) and not np.array_equal(some, other)
    assert all((np.abs(every - row).max(1) < 1e-4).any() for row in some)


def test_no_more_features_than_a_sample_are_made(data, monkeypatch):
    def refuse(*arguments, **named):
        raise AssertionError('all features are extracted')

    monkeypatch.setattr(features, 'extract', refuse)
    backbone = backbones.load(small_network())
    chosen = config(finetune='bias_norm')
    with runtime.use_compiled():
        head = loop.head_or_network(chosen, data, backbone)
        setup = loop.prepare(chosen, data, backbone, head)
    assert setup.data is data
