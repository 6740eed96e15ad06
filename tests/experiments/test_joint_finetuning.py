"""The study of joint fine-tuning: parties, intervals, what is said, and tiny runs."""

import numpy as np
import pytest

from experiments.joint_finetuning import __main__ as program
from experiments.joint_finetuning import parties, runs, told
from tff_transfer import runtime
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

SIZE, TESTS = 6, (40, 30, 20)


@pytest.fixture(autouse=True)
def compiled():
    with runtime.use_compiled():
        yield


def sources(train=60, tests=TESTS):
    """Blobs of ten classes in three places, as features."""
    draw, found = np.random.default_rng(0), []
    for number, test in enumerate(tests):
        y = np.arange(train + test) % parties.CLASSES
        centres = 3 * draw.normal(size=(parties.CLASSES, SIZE)) + 5 * number
        x = (centres[y] + draw.normal(size=(len(y), SIZE))).astype(np.float32)
        counts = np.array([train]), np.array([test])
        y, names = y.astype(np.int32), (f'blobs {number}',)
        found.append(FederatedData(names[0], x, y, names, *counts, parties.CLASSES))
    return found


def file_of(tmp_path, classes=10, **more):
    draw, path = np.random.default_rng(1), tmp_path / 'images.npz'
    arrays = {}
    for part, count in (('train', 40), ('test', 20)):
        arrays[f'x_{part}'] = draw.integers(0, 256, (count, 8, 8)).astype(np.uint8)
        arrays[f'y_{part}'] = (np.arange(count) % classes).astype(np.uint8)
    np.savez(path, **arrays, **more)
    return str(path)


def test_images_of_a_file_are_those_of_one_client(tmp_path):
    data = parties.load(parties.SOURCES[0], file_of(tmp_path))
    assert (len(data), data.num_train.tolist(), data.num_test.tolist()) == (
        1,
        [40],
        [20],
    )
    assert data.x.shape == (60, 8, 8, 1) and data.client_ids == ('CIFAR-10',)


def test_where_there_are_writers_some_of_them_are_the_test(tmp_path):
    path, writer = tmp_path / 'digits.npz', np.repeat(np.arange(10), 12)
    pixels = np.zeros((120, 8, 8), np.uint8)
    pixels[:, 0, 0] = writer
    np.savez(path, pixels=pixels, label=np.arange(120) % 10, writer=writer)
    data = parties.load(parties.SOURCES[1], str(path))
    train, test = (set(data.x[data.is_train == of][:, 0, 0, 0]) for of in (True, False))
    assert len(test) == 2 and len(train) == 8 and not train & test


def test_without_a_path_keras_loads_or_one_line_says_why_not():
    x, y = np.zeros((30, 8, 8), np.uint8), np.arange(30)[:, None] % 10
    source = parties.Source('Toy', lambda: ((x, y), (x[:20], y[:20])))
    assert parties.load(source, None).num_test.tolist() == [20]

    def absent():
        raise Exception('URL fetch failure')

    with pytest.raises(UserError, match=r'\(URL fetch failure\); give the path .*--to'):
        parties.load(parties.Source('Toy', absent), None)


def test_unfit_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match='--mnist: there is no file'):
        parties.load(parties.SOURCES[1], str(tmp_path / 'none.npz'))
    with pytest.raises(UserError, match='--cifar_10: 7 classes, but there must be 10'):
        parties.load(parties.SOURCES[0], file_of(tmp_path, classes=7))


def test_sizes_are_numbers_that_every_source_has():
    assert program.sizes_of(['10', '60'], sources()) == [10, 60]
    for size in ('9', '61', 'x'):
        with pytest.raises(UserError, match=f'--examples={size} is not a number from'):
            program.sizes_of([size], sources())


def test_all_see_the_same_inputs_and_tests():
    found = parties.drawn(sources(), 25, seed=3)
    assert [party.num_train.tolist() for party in found] == [[25]] * 3
    trained = np.concatenate([party.x[:25] for party in found])
    np.testing.assert_allclose(trained.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(trained.std(axis=0), 1, rtol=1e-4)
    again = parties.drawn(sources(), 25, seed=4)
    for ours, theirs in zip(found, again, strict=True):
        np.testing.assert_array_equal(ours.y[25:], theirs.y[25:])
        assert not np.array_equal(ours.x[:25], theirs.x[:25])


def test_what_is_dealt_is_the_same_examples():
    apart = parties.apart(parties.drawn(sources(), 25, seed=3))
    for number, party in enumerate(apart):
        assert set(party.y // 10) == {number} and party.num_classes == 30
    before, after = (
        parties.together(of) for of in (apart, parties.dealt(apart, seed=3))
    )
    for is_train in (True, False):
        ours, theirs = (
            np.c_[of.x, of.y][of.is_train == is_train].tolist()
            for of in (before, after)
        )
        assert sorted(ours) == sorted(theirs)
    # Each has some of each task.
    for client in range(3):
        assert set(after.y[after.train_rows(client)] // 10) == {0, 1, 2}


def test_an_interval_is_of_seeds_and_examples():
    assert told.interval(np.full((3, 50), 0.25)) == (0.25, 0.25)
    coins = (np.arange(400) % 2)[np.newaxis].astype(float)
    # Of one seed it is that of 400 coins: 1.96 deviations of 0.025.
    assert told.interval(coins) == pytest.approx((0.451, 0.549), abs=0.006)
    seeds = np.repeat([[0.0], [1.0]], 400, axis=1)
    assert told.interval(seeds) == (0, 1)


def curve(*accuracies, losses, tests=(10,)):
    """Returns a curve whose first examples are right, of each party alike."""
    correct = [
        np.concatenate([np.arange(n) < round(a * n) for n in tests]) for a in accuracies
    ]
    return runs.Curve(np.array(correct), np.array(losses))


def setting():
    alone = [
        [curve(0.2, 0.4, losses=[9, 2, 3]) for _ in range(3)],
        [curve(0.4, 0.2, losses=[9, 2, 3]) for _ in range(3)],
    ]
    tests = (10, 10, 10)
    joint = [[curve(0.3, 0.9, 0.1, losses=[9, 3, 2, 4], tests=tests)]] * 2
    kinds = {runs.ALONE: alone, runs.COMMON: joint}
    rates = {runs.ALONE: [0.1, 0.03, 0.1], runs.COMMON: [0.01]}
    return runs.Setting(runs.ALIKE, 25, ('a', 'b', 'c'), tests, kinds, rates)


def test_the_round_of_the_lowest_validation_loss_counts():
    found = setting()
    assert [of.mean() for of in found.right(runs.ALONE, 1)] == [0.2, 0.4]
    assert [of.mean() for of in found.right(runs.COMMON, 2)] == [0.9, 0.9]
    assert (found.rounds(runs.ALONE), found.rounds(runs.COMMON)) == (1, 2)


def test_what_is_said_is_what_was_measured():
    head, *rows = told.table([setting()])
    assert head[3:] == [runs.ALONE, runs.COMMON, runs.OWN]
    assert rows[0][:4] == [runs.ALIKE, '25', 'a', '30.0%'] and rows[0][5] == ''
    assert rows[0][4].startswith('90.0% (+60.0; +')
    (line,) = told.verdicts([setting()])
    assert line.endswith(
        'better for every party (2 rounds at rate 0.01; alone 1 rounds at rate 0.1,'
        ' 0.03, 0.1)'
    )
    page = told.page([setting()], {'command': 'python <x>'})
    assert '<code>python &lt;x&gt;</code>' in page and page.count('<svg') == 1


@pytest.mark.parametrize(
    'own_heads', [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_a_run_learns_and_stops_by_its_validation_parts(own_heads):
    found = parties.drawn(sources(), 60, seed=0)
    data = parties.together(found if own_heads else parties.apart(found))
    run = runs.train(
        data, rate=0.1, seed=0, rounds=8, hidden_units=16, own_heads=own_heads
    )
    assert run.correct.shape[1] == sum(TESTS) and len(run.losses) == len(run.correct)
    assert run.loss < run.losses[0] - 0.5
    # By chance it would be a tenth, or a thirtieth of them.
    assert run.correct[run.chosen].mean() > 0.4


@pytest.mark.slow
@pytest.mark.walk
def test_each_way_has_its_runs(monkeypatch):
    monkeypatch.setattr(runs, 'RATES', (0.1,))
    how = {'rounds': 3, 'hidden_units': 8}
    unlike = runs.measure(runs.UNLIKE, sources(), 30, [0], **how)
    alike = runs.measure(runs.ALIKE, sources(), 30, [0, 1], **how)
    assert list(unlike.runs) == [runs.ALONE, runs.COMMON, runs.OWN]
    assert list(alike.runs) == [runs.ALONE, runs.COMMON]
    assert unlike.tests == TESTS and alike.tests == (30, 30, 30)
    for found, seeds in ((unlike, 1), (alike, 2)):
        assert [len(curves) for curves in found.runs[runs.ALONE]] == [3] * seeds
        assert {way: len(of) for way, of in found.rates.items()} == {
            way: len(of[0]) for way, of in found.runs.items()
        }
        for way in found.runs:
            for number, tests in enumerate(found.tests):
                assert found.right(way, number).shape == (seeds, tests)
