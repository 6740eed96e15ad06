"""Studies of published claims: each runs, and says what it is to say."""

import math

import numpy as np
import pytest

from experiments.claims import (
    dp_fedavg_gan,
    fedbuff,
    fedexp,
    fednova,
    fedprox,
    knn_per,
    oort,
    power_of_choice,
    pretrained_start,
    qfedavg,
    scaffold,
    study,
)
from tff_transfer import runtime
from tff_transfer.data import federated, synthetic_writers


def test_rounds_are_told_by_median_and_range():
    assert study.first([False, True, False, True]) == 1
    assert study.first([False, False]) == math.inf
    assert study.rounds_needed([4, 9, 5], 20) == '5 (4 to 9)'
    assert study.rounds_needed([4, 4, 4], 20) == '4'
    assert study.rounds_needed([7, math.inf, math.inf], 20) == '>20 (7 to >20)'
    assert study.spread([0.5, 0.7]) == '60.0% ± 10.0%'


@pytest.mark.slow
def test_fedexp_needs_fewer_rounds_by_steps_above_1(monkeypatch):
    monkeypatch.setattr(fedexp, 'SERVER_RATES', (1,))
    with runtime.use_compiled():
        _, exp, avg = fedexp.measure([0], 40).table
    assert (exp[0], avg[0]) == ('FedExP', 'FedAvg, server rate 1')
    assert int(exp[1]) < 20 and avg[1] == '>40'
    assert float(exp[3].split()[0]) > 1


def images(clients: int, classes: int = 10):
    """Noisy pictures of as many places as there are classes, 20 a client."""
    draw = np.random.default_rng(0)
    y = np.tile(np.arange(20) % classes, clients)
    x = draw.integers(0, 60, [len(y), 28, 28]).astype(np.uint8)
    for number, label in enumerate(y):
        x[number, 2 * label : 2 * label + 3] += 60
    return federated.from_rows('bars', x, y, np.repeat(np.arange(clients), 20))


@pytest.mark.slow
@pytest.mark.walk
def test_scaffold_has_a_cell_for_each_method_and_similarity(monkeypatch):
    for name, value in {
        'CLIENTS': 10,
        'CHOSEN': 5,
        'EXAMPLES': 20,
        'SIMILARITIES': (0.0, 1.0),
        'EPOCHS': (1,),
        'RATES': (0.01, 0.1),
    }.items():
        monkeypatch.setattr(scaffold, name, value)
    with runtime.use_compiled():
        table = scaffold.measure(images(24), [0, 1], 30).table
    assert table[0] == ['', 'epochs', '0% similar', '100% similar', 'rates']
    assert [row[0] for row in table[1:]] == ['FedAvg', 'FedProx', 'SCAFFOLD']
    # With all classes at each client a few rounds are enough.
    assert all(int(row[3].split()[0]) < 15 for row in table[1:])


@pytest.mark.slow
def test_the_worst_and_the_best_tenth_are_about_the_mean():
    _, avg, fair = qfedavg.measure([0], 20).table
    assert (avg[0], fair[0]) == ('0', '1')
    means = [[float(cell.split('%')[0]) for cell in row[2:5]] for row in (avg, fair)]
    for mean, worst, best in means:
        assert 0 <= worst < mean < best <= 100


@pytest.mark.slow
@pytest.mark.walk
def test_partial_work_is_better_than_none(monkeypatch):
    monkeypatch.setattr(fedprox, 'STRAGGLERS', (0.9,))
    monkeypatch.setattr(fedprox, 'MUS', (1.0,))
    _, avg, *prox = fedprox.measure([0], 4).table
    assert [row[1] for row in prox] == ['FedProx, mu = 0', 'FedProx, mu = 1']
    assert all(float(row[2].split()[0]) < float(avg[2].split()[0]) for row in prox)


@pytest.mark.slow
@pytest.mark.walk
def test_fednova_has_a_row_for_each_method_and_kind_of_epochs(monkeypatch):
    monkeypatch.setattr(fednova, 'RATES', (0.03,))
    table = fednova.measure([0], 3).table
    assert [row[:2] for row in table[1:]] == [
        ['5', 'FedAvg'],
        ['5', 'FedNova'],
        ['1 to 5', 'FedAvg'],
        ['1 to 5', 'FedNova'],
    ]
    # Before the first round it is log 10 = 2.303.
    assert all(float(row[3].split()[0]) < 2.2 for row in table[1:])


@pytest.mark.slow
@pytest.mark.walk
def test_power_of_choice_sends_the_model_to_its_candidates(monkeypatch):
    monkeypatch.delitem(power_of_choice.RULES, 'pow-d, d = 6')
    table = power_of_choice.measure([0], 8).table
    assert {row[0]: row[-1] for row in table[1:]} == {
        'uniform': '3',
        'by examples': '3',
        'pow-d, d = 15': '15',
        'pow-d, d = 30': '30',
        'rpow-d, d = 15': '3',
    }
    # The mean of the last quarter is reached by the run that it is of.
    assert table[2][2].isdigit() and 0 < int(table[2][2]) <= 8


@pytest.mark.slow
@pytest.mark.walk
def test_a_pretrained_start_is_ahead_before_the_first_round(monkeypatch):
    monkeypatch.setattr(pretrained_start, 'DRAWN', 30)
    monkeypatch.delitem(pretrained_start.SERVERS, 'FedAvgM')
    monkeypatch.setattr(pretrained_start, 'EVERY', 1)
    data = synthetic_writers.generate(12, 20, seed=5, classes=10)
    with runtime.use_compiled():
        table = pretrained_start.measure(data, [0], 2).table
    assert table[0][1:4] == ['before', 'FedAvg', 'FedAdam']
    random, pretrained = (float(row[1].split('%')[0]) for row in table[1:])
    assert pretrained > random + 20


@pytest.mark.slow
@pytest.mark.walk
def test_fedbuff_is_timed_beside_rounds(monkeypatch):
    ways = {name: fedbuff.WAYS[name] for name in ('rounds, over-selection', 'FedBuff')}
    for name, value in {
        'WAYS': {name: way._replace(rates=(1.0,)) for name, way in ways.items()},
        'CLIENT_RATES': (0.1,),
        'TARGETS': (0.2,),
    }.items():
        monkeypatch.setattr(fedbuff, name, value)
    head, *rows = fedbuff.measure(images(40), [0], 2).table
    assert head == ['', 'seconds to 20.0%', 'reports to 20.0%', 'rates']
    assert [row[0] for row in rows] == list(ways)
    seconds, reports = np.array([row[1:3] for row in rows], float).T
    assert (seconds > 0).all()
    # A round of 26 is asked for 20; a buffer has 10, and is evaluated each third time.
    assert reports[0] % 26 == 0 and reports[1] % 10 == 0


def test_when_oort_reaches_a_target_is_read_off_rows():
    rows = [
        {'round': n, oort.SIMULATED: 1.5 * n, oort.ACCURACY: accuracy}
        for n, accuracy in ((0, 0.1), (2, 0.6), (4, 0.5), (6, 0.7))
    ]
    assert oort.when(rows, 0.6, 'round') == 2
    assert oort.when(rows, 0.65, oort.SIMULATED) == 9
    assert oort.when(rows, 0.8, 'round') == math.inf


@pytest.mark.slow
def test_oort_is_timed_beside_chance(monkeypatch):
    monkeypatch.setattr(oort, 'USED', 5)
    monkeypatch.setattr(oort, 'TARGETS', (0.2,))
    few = {name: oort.RULES[name] for name in ('by chance', 'Oort')}
    monkeypatch.setattr(oort, 'RULES', few)
    head, *rows = oort.measure(images(40), 'embedded', [0], 4).table
    assert head[:3] == ['', 'seconds to 20%', 'rounds to 20%']
    assert [row[0] for row in rows] == [*oort.RULES]
    assert all(float(row[1].strip('>')) > 0 for row in rows)


def test_a_bug_inverts_all_that_some_users_have():
    data = images(10)
    users = dp_fedavg_gan.with_bug(data, 0.3, seed=0)
    assert users.inverted.sum() == 3
    for client, inverted in enumerate(users.inverted):
        mine = data.client_of_row == client
        expected = 255 - data.x[mine] if inverted else data.x[mine]
        np.testing.assert_array_equal(users.data.x[mine], expected)
        bright = dp_fedavg_gan.bright_frames(users.data.x[mine] / 255)
        assert bright == float(inverted)
    some = np.concatenate([np.zeros((3, 28, 28, 1)), np.ones((1, 28, 28, 1))])
    some[0, 10:20, 10:20] = 1  # A digit in the middle.
    assert dp_fedavg_gan.bright_frames(some) == 0.25


@pytest.mark.slow
@pytest.mark.walk
def test_generated_images_tell_of_the_bug(monkeypatch):
    for name, value in {
        'SHARES': (0.5,),
        'PRIVACY': {'none': dp_fedavg_gan.NoPrivacy()},
        'OF_CLASSIFIER': 20,
        'SAMPLES': 20,
    }.items():
        monkeypatch.setattr(dp_fedavg_gan, name, value)
    head, lowest, highest = dp_fedavg_gan.measure(images(60), [0], 20).table
    assert [row[1] for row in (lowest, highest)] == ['lowest 25%', 'highest 25%']
    inverted, bright = ([row[n] for row in (lowest, highest)] for n in (-2, -1))
    assert inverted == ['100.0% ± 0.0%', '0.0% ± 0.0%']
    assert bright == inverted
    assert len(head) == len(lowest)


def test_clients_keep_their_shares_of_training_examples_and_all_others():
    data = images(8)
    kept = knn_per.thinned(data, seed=0)
    expected = [
        max(1, round(share * count))
        for share, count in zip([0.1, 0.25, 0.5, 1.0] * 2, data.num_train, strict=True)
    ]
    np.testing.assert_array_equal(kept.num_train, expected)
    for client in range(8):
        of, before = kept.test_rows(client), data.test_rows(client)
        np.testing.assert_array_equal(kept.x[of], data.x[before])
        before = {image.tobytes() for image in data.x[data.train_rows(client)]}
        mine = [image.tobytes() for image in kept.x[kept.train_rows(client)]]
        assert len(set(mine)) == len(mine) and before.issuperset(mine)


@pytest.mark.slow
@pytest.mark.walk
def test_knn_per_has_a_line_for_each_share_that_clients_keep(monkeypatch, tmp_path):
    monkeypatch.setattr(knn_per, 'CLIENTS', 8)
    monkeypatch.setattr(knn_per, 'USED', 4)
    data = images(16)
    test = np.arange(len(data.y)) % 4 == 0
    arrays = {
        f'{what}_{part}': array[rows]
        for part, rows in (('train', ~test), ('test', test))
        for what, array in (('x', data.x), ('y', data.y))
    }
    np.savez(tmp_path / 'bars.npz', **arrays)
    with runtime.use_compiled():
        found = knn_per.measure(str(tmp_path / 'bars.npz'), 'embedded', [0], 1)
    head, *lines = found.table
    assert head[0] == 'examples kept' and len(lines) == 4
    for line in lines:
        _, _, of_global, _, mixed, gain = (float(cell.split('%')[0]) for cell in line)
        assert gain == pytest.approx(mixed - of_global, abs=0.11)
