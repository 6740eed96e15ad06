"""What clients could have had instead of their own models, beside NumPy."""

import dataclasses

import killing
import numpy as np
import pytest
import tensorflow as tf
import walks
from test_algorithms import config
from test_finetuned_runs import small_network
from test_loop import CLASSES, SIZE, make_data, numpy_round

from tff_transfer import backbones
from tff_transfer.algorithms import FedAvg, registry
from tff_transfer.data import synthetic_writers, validation
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.errors import UserError
from tff_transfer.records import personalization
from tff_transfer.training import baselines, exports, loop
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

ZERO = [np.zeros([SIZE, CLASSES]), np.zeros(CLASSES)]
TRAIN = {'client_learning_rate': 0.3, 'baselines': True}


def made(name='local', **training):
    return config(name, **{**TRAIN, **training})


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'run'
    chosen = made(export_client=('client 3',))
    return loop.train(chosen, folder, data=make_data())


def predicted(weights, data, rows):
    return np.argmax(data.x[rows] @ weights[0] + weights[1], axis=1)


def test_the_global_model_is_that_of_federated_averaging(run):
    alone = dataclasses.replace(made(), algorithm=FedAvg())
    training = dataclasses.replace(alone.training, baselines=True)
    alone = dataclasses.replace(alone, training=training)
    weights = loop.train(alone, data=make_data()).weights
    for part, found in run.personalization.predictions['global'].items():
        rows = run.predictions[part].rows
        np.testing.assert_array_equal(found.rows, rows)
        expected = predicted(weights, make_data(), rows)
        np.testing.assert_array_equal(found.predicted, expected)


def test_the_central_model_has_passes_over_all_examples(run):
    data, setup, weights = make_data(), run.setup, ZERO
    for number in range(1, 11):
        cohort = training_cohort(
            data,
            setup.seen,
            batch_size=5,
            epochs=1,
            seed=0,
            round_number=number,
            pooled=True,
        )
        weights = numpy_round(weights, cohort, 0.3)
    for found in run.personalization.predictions['central'].values():
        expected = predicted(weights, data, found.rows)
        np.testing.assert_array_equal(found.predicted, expected)


@pytest.mark.slow
def test_the_central_rate_is_the_best_on_held_out_examples():
    chosen = made(client_learning_rate=6.0)
    run = loop.train(chosen, data=make_data())
    held = validation.held_out(make_data(), run.setup.seen, fraction=0.2, seed=0)
    rows, right = np.flatnonzero(~held.is_train), []
    for rate in (6.0, 1.5, 0.375):
        weights = ZERO
        for number in range(1, 11):
            cohort = training_cohort(
                held,
                range(len(held)),
                batch_size=5,
                epochs=1,
                seed=0,
                round_number=number,
                pooled=True,
            )
            weights = numpy_round(weights, cohort, rate)
        right.append(np.mean(predicted(weights, held, rows) == held.y[rows]))
    assert max(right) > right[0]
    best = (6, 1.5, 0.375)[int(np.argmax(right))]
    assert f'at rate {best:g}' in run.personalization.trained['central']


def test_each_client_alone_starts_from_the_start(run):
    data = make_data()
    _, epochs, *_ = run.personalization.trained['alone'].split(', ')
    epochs = int(epochs.split()[0])
    assert epochs in baselines.EPOCHS_ALONE
    for found in run.personalization.predictions['alone'].values():
        holders = data.client_of_row[found.rows]
        for client in np.unique(holders):
            cohort = training_cohort(
                data, [client], batch_size=5, epochs=epochs, seed=0, round_number=0
            )
            weights = numpy_round(ZERO, cohort, 0.3)
            mine = holders == client
            expected = predicted(weights, data, found.rows[mine])
            np.testing.assert_array_equal(found.predicted[mine], expected)


def test_the_personal_model_is_the_run(run):
    assert run.personalization.predictions['personal'] is run.predictions
    every = {**run.per_client['seen'], **run.per_client['unseen']}
    found = run.personalization
    assert dict(zip(found.client_ids, found.values['personal'], strict=True)) == every


def test_they_are_in_the_report(run):
    page = (run.run_dir / 'report.html').read_text()
    for words in ('What personalisation brings', 'Gain by size', 'Gain by label skew'):
        assert words in page
    assert run.personalization.hurt()[0] in page
    assert repr(run.personalization) in repr(run)


@pytest.mark.slow
def test_no_test_label_reaches_anything(run):
    data = make_data()
    changed = np.where(data.is_train, data.y, (data.y + 1) % CLASSES)
    others = dataclasses.replace(data, y=changed.astype(np.int32))
    again = loop.train(made(), data=others)
    assert again.personalization.trained == run.personalization.trained
    for model, before in run.personalization.predictions.items():
        for part, found in again.personalization.predictions[model].items():
            assert (found.labels != before[part].labels).all()
            np.testing.assert_array_equal(found.predicted, before[part].predicted)
            # What is measured did change.
            assert not (found.correct & before[part].correct).any()


# Rounds of central training by each rate that is tried.
TRIES = [*range(1, 11)] * len(baselines.RATE_DIVISORS)


@pytest.mark.slow
@pytest.mark.parametrize(
    'killed', [6, pytest.param(8 + len(TRIES) + 5, marks=pytest.mark.walk)]
)
def test_killed_in_a_baseline_it_goes_on_to_the_same_bits(
    run, killed, tmp_path, monkeypatch
):
    # Four rounds of the run, four of federated averaging, ten of central training, of
    # which the tries are done again.
    seen = killing.at(monkeypatch, killed)
    chosen = made(export_client=('client 3',))
    with pytest.raises(killing.Killed):
        loop.train(chosen, tmp_path, data=make_data())
    assert not (tmp_path / personalization.FILE).exists()
    resumed = loop.train(chosen, tmp_path, data=make_data())
    rounds = [*range(1, 5), *range(1, 5), *TRIES, *range(1, 11)]
    again = rounds[killed - 1 :] if killed < 8 else [*TRIES, *rounds[killed - 1 :]]
    assert seen == [*rounds[:killed], *again]
    files = [folder / personalization.FILE for folder in (tmp_path, run.run_dir)]
    assert files[0].read_bytes() == files[1].read_bytes()
    for model, before in run.personalization.predictions.items():
        for part, found in resumed.personalization.predictions[model].items():
            losses = found.measured['loss']
            np.testing.assert_array_equal(losses, before[part].measured['loss'])


@pytest.mark.slow
@pytest.mark.walk
def test_a_finished_run_may_get_them_later(tmp_path):
    without = loop.train(
        made('ditto', rounds=1, baselines=False), tmp_path, data=make_data()
    )
    assert without.personalization is None
    assert not (tmp_path / personalization.FILE).exists()
    found = loop.train(made('ditto', rounds=1), tmp_path, data=make_data())
    assert len(found.personalization.client_ids) == 10
    # Ditto's shared model is that of federated averaging.
    assert not (tmp_path / 'baselines' / 'fedavg').exists()
    assert (tmp_path / 'baselines' / 'central' / 'metrics.csv').exists()


def test_what_is_exported_of_a_client_predicts_what_was_evaluated(run):
    data = make_data()
    model = tf.saved_model.load(str(exports.client_model(run.run_dir, 'client 3')))
    number = data.number_of('client 3')
    (part,) = (p for p, of in run.per_client.items() if 'client 3' in of)
    found = run.predictions[part]
    mine = data.client_of_row[found.rows] == number
    logits = model(data.x[found.rows[mine]])['logits']
    np.testing.assert_array_equal(np.argmax(logits, axis=1), found.predicted[mine])
    for weights in (run.weights, run.weights_of('client 4')):
        others = predicted(weights, data, np.arange(len(data.y)))
        ours = np.argmax(model(data.x)['logits'], axis=1)
        assert (others != ours).any()


@pytest.mark.parametrize(
    'name',
    walks.slow(
        [n for n in registry.BY_OWN_MODELS if n not in registry.BEYOND_WEIGHTS],
        ['apfl'],
        (*walks.OF_EACH_KIND, 'fedrecon', 'personalridge'),
    ),
)
def test_weights_of_each_client_give_what_was_evaluated(name):
    data = make_data()
    result = loop.train(made(name, rounds=2, baselines=False), data=data)
    for found in result.predictions.values():
        holders = data.client_of_row[found.rows]
        for client in np.unique(holders):
            weights = result.weights_of(data.client_ids[client])
            logits = result.setup.model.logits(
                list(map(tf.constant, weights)), data.x[found.rows[holders == client]]
            )
            np.testing.assert_array_equal(
                np.argmax(logits, axis=1), found.predicted[holders == client]
            )


@pytest.mark.slow
def test_the_best_round_in_memory_keeps_what_its_clients_had(tmp_path):
    chosen = config(
        'ditto', rounds=6, evaluate_every=1, export='best', adaptation_epochs=(1,)
    )
    on_disk = loop.train(chosen, tmp_path, data=make_data())
    assert on_disk.exported_round == 3
    in_memory = loop.train(chosen, data=make_data())
    assert in_memory.exported_round == on_disk.exported_round
    assert in_memory.per_client == on_disk.per_client
    np.testing.assert_array_equal(
        in_memory.weights_of('client 3')[0], on_disk.weights_of('client 3')[0]
    )


@pytest.mark.slow
def test_what_one_round_computes_of_all_is_global_and_central(tmp_path):
    chosen = config('personalprototype', baselines=True)
    chosen.check()
    found = loop.train(chosen, tmp_path, data=make_data())
    assert not (tmp_path / 'baselines').exists()
    by_model = found.personalization.predictions
    assert by_model['global'] is by_model['central']
    for those in by_model['global'].values():
        expected = predicted(found.weights, make_data(), those.rows)
        np.testing.assert_array_equal(those.predicted, expected)


@pytest.mark.slow
@pytest.mark.walk
def test_one_model_for_all_has_the_statistics_of_all(tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.setattr(
        loop, 'load_backbone', lambda config: backbones.load(small_network())
    )
    data = synthetic_writers.generate(10, 20, seed=1, classes=10)
    network = ModelConfig(finetune='top', cut_layer='first', batch_norm='local')
    chosen = made('fedavgft', rounds=2, client_learning_rate=0.01)
    chosen = dataclasses.replace(chosen, model=network)
    found = loop.train(chosen, data=data).personalization.predictions['global']
    alike = dataclasses.replace(network, batch_norm='aggregate')
    training = dataclasses.replace(chosen.training, baselines=True)
    fedavg = dataclasses.replace(
        chosen, model=alike, training=training, algorithm=FedAvg()
    )
    expected = loop.train(fedavg, data=data).predictions
    for part, those in found.items():
        np.testing.assert_array_equal(
            those.measured['loss'],
            expected[part].of_rows(those.rows).measured['loss'],
        )


@pytest.mark.slow
def test_who_has_no_model_is_told():
    result = loop.train(config('fedavg', rounds=1), data=make_data())
    with pytest.raises(UserError, match='have no models of their own'):
        result.weights_of('client 1')
    wrong = made(export_client=('client 33',))
    with pytest.raises(UserError, match="no client 'client 33'; one of its clients is"):
        loop.train(wrong, data=make_data())
    for name in ('fedavg', 'knnper'):
        with pytest.raises(UserError, match=f'--export_client is not .*={name};'):
            config(name, export_client=('client 1',)).check()
    result = loop.train(config('knnper', rounds=1), data=make_data())
    with pytest.raises(UserError, match='or none that are weights alone'):
        result.weights_of('client 1')


def test_names_of_clients_stay_within_their_folder(tmp_path):
    for name, folder in (
        ('f0000_14', 'f0000_14'),
        ('ward 3/7', 'ward 3%2F7'),
        ('..', '%2E%2E'),
    ):
        expected = tmp_path / 'clients' / folder / 'model'
        assert exports.client_model(tmp_path, name) == expected


@pytest.mark.parametrize(
    'name', sorted({*registry.BY_OWN_MODELS} - {*registry.OF_ONE_ROUND})
)
def test_baselines_take_the_flags_that_are_theirs(name):
    unequal = {'client_epochs': 3, 'min_client_epochs': 1, 'straggler_fraction': 0.5}
    chosen = made(name, weighting='uniform', **unequal)
    central = baselines.of_central(chosen, 8)
    for baseline in (
        baselines.of_fedavg(chosen),
        central,
        baselines.of_alone(chosen, 8),
    ):
        baseline.check()
        assert baseline.training.client_learning_rate == 0.3
    assert baselines.of_fedavg(chosen).training.straggler_fraction == 0.5
    assert central.training.straggler_fraction == 1.0


def test_central_training_and_clients_alone_do_as_much_as_the_run_at_least():
    def of(**training):
        defaults = TrainingConfig(clients_per_round=20, baselines=True)
        chosen = dataclasses.replace(
            made('ditto'), training=dataclasses.replace(defaults, **training)
        )
        central = baselines.of_central(chosen, 360)
        epochs = baselines.of_alone(chosen, 360).training.adaptation_epochs
        return central.training.rounds, epochs[-1]

    # 60 rounds of 20 clients of 360 meet each example 3.3 times.
    assert of(rounds=60) == (10, 30)
    # 900 of them, each of 3 epochs, 150 times.
    assert of(rounds=900, client_epochs=3) == (150, 100)
    assert of(rounds=901, client_epochs=3) == (151, 100)


def test_central_training_of_two_stages_has_two():
    chosen = dataclasses.replace(
        made('ditto', rounds=100, clients_per_round=4, client_warmup=6),
        model=ModelConfig(finetune='head_then_all', head_rounds=30),
    )
    central = baselines.of_central(chosen, 8)
    assert central.model.head_rounds == 15
    assert central.training.rounds == 15 + 35
    assert central.training.client_warmup == 3
