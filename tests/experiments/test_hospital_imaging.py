"""The study of hospitals, at a tiny size, and the parts that it is made of."""

import csv
import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.special

import tff_transfer as tt
from experiments.hospital_imaging import figures, heads, hospitals, report, study
from experiments.hospital_imaging.figures import Interval
from tff_transfer.data import federated
from tff_transfer.errors import UserError
from tff_transfer.features import Standardisation

XRAYS = pathlib.Path(__file__).parents[3] / 'shared/data/pneumoniamnist.npz'


def small(monkeypatch):
    monkeypatch.setattr(hospitals, 'SIZES', (40, 30))
    monkeypatch.setattr(hospitals, 'POSITIVE_SHARES', (0.5, 0.5))
    monkeypatch.setattr(hospitals, 'NUM_TEST', 10)


def xray_file(folder, each=80):
    """Writes a file of MedMNIST's layout, a pixel of each image its number."""
    draw, arrays, number = np.random.default_rng(0), {}, 0
    for part in ('train', 'val', 'test'):
        images = draw.integers(0, 256, (each, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(number, number + each)
        number += each
        arrays[f'{part}_images'] = images
        arrays[f'{part}_labels'] = np.tile([[0], [1]], (each // 2, 1)).astype(np.uint8)
    arrays['val_images'][:8] = arrays['train_images'][:8]
    path = folder / 'xrays.npz'
    np.savez(path, **arrays)
    return path


def test_xrays_are_dealt_once_each_unevenly_and_tests_stay_tests(tmp_path, monkeypatch):
    small(monkeypatch)
    monkeypatch.setattr(hospitals, 'POSITIVE_SHARES', (0.8, 0.5))
    monkeypatch.setattr(hospitals, 'SIZES', (70, 50))
    data = hospitals.chest_xrays(str(xray_file(tmp_path)), seed=1)
    assert data.client_ids == ('hospital 1', 'hospital 2')
    assert data.num_train.tolist() == [60, 40] and data.num_test.tolist() == [10, 10]
    assert [data.y[data.train_rows(c)].sum() for c in range(2)] == [48, 20]
    assert [data.y[data.test_rows(c)].sum() for c in range(2)] == [8, 5]
    numbers = data.x[:, 0, 0, 0].astype(int)
    assert len(set(numbers)) == len(numbers)
    assert (numbers[~data.is_train] >= 160).all() and (
        numbers[data.is_train] < 160
    ).all()
    # The eight that stand in val again.
    assert not set(numbers) & set(range(80, 88))
    np.testing.assert_array_equal(data.y, numbers % 2)
    again, other = (
        hospitals.chest_xrays(str(tmp_path / 'xrays.npz'), seed=s) for s in (1, 2)
    )
    assert again.content_fingerprint == data.content_fingerprint
    assert other.content_fingerprint != data.content_fingerprint


def test_too_few_xrays_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hospitals, 'NUM_TEST', 100)
    with pytest.raises(UserError, match='72 training images of label'):
        hospitals.chest_xrays(str(xray_file(tmp_path, 76)), seed=0)


@pytest.mark.skipif(not XRAYS.is_file(), reason='../shared/data is absent')
def test_the_real_file_is_enough():
    data = hospitals.chest_xrays(str(XRAYS), seed=0)
    assert (data.num_train + data.num_test).tolist() == [1000, 800, 600]
    shares = [data.y[data.test_rows(client)].mean() for client in range(3)]
    assert shares == [0.75, 0.625, 0.5]
    assert len(np.unique(data.x.reshape(2400, -1), axis=0)) == 2400


def given(labels, is_test, clients, classes=2):
    x = np.zeros((len(labels), 4, 4), np.uint8)
    x[:, 0, 0] = 100
    return federated.from_rows(
        'given', x, labels, clients, is_test=is_test, num_classes=classes
    )


def test_scanners_are_lines_that_end_at_black_and_white(monkeypatch):
    monkeypatch.setattr(hospitals, 'SCANNERS', ((1.0, 0.0), (2.0, 0.25)))
    data = hospitals.scanned(given([0, 1], np.zeros(2, bool), [0, 1]))
    assert data.x[0, 0, 0, 0] == 100 and data.x[0, 1, 1, 0] == 0
    # (100 / 255 - 0.5) * 2 + 0.75, and (0 - 0.5) * 2 + 0.75 is below black.
    assert data.x[1, 0, 0, 0] == round((100 / 255 - 0.5) * 510 + 0.75 * 255)
    assert data.x[1, 1, 1, 0] == 0


def test_hospitals_without_both_classes_are_refused():
    labels, clients = np.tile([0, 1], 100), np.repeat([0, 1], 100)
    is_test = np.tile([True, True, False, False], 50)
    hospitals.check(given(labels, is_test, clients), seed=0)
    with pytest.raises(UserError, match='3 classes'):
        hospitals.check(given(labels, is_test, clients, 3), seed=0)
    with pytest.raises(UserError, match='1 hospitals'):
        hospitals.check(given(labels, is_test, clients * 0), seed=0)
    with pytest.raises(UserError, match='1 has 0 negative and 50 positive as test'):
        hospitals.check(given(labels | (clients & is_test), is_test, clients), seed=0)
    for source, path in (('phantoms', 'a.npz'), ('chest_xrays', None)):
        with pytest.raises(UserError, match='--data_path'):
            hospitals.check_source(source, path)


def on_vectors(draw, counts):
    """Two hospitals' vectors, of which the first number tells the class."""
    clients = np.repeat(np.arange(len(counts)), counts)
    x = draw.normal(size=(len(clients), 5)).astype(np.float32)
    y = (x[:, 0] + 0.3 * draw.normal(size=len(x)) > 0).astype(np.int32)
    return federated.from_rows('vectors', x, y, clients, test_fraction=0.25)


def loss(weights, x, y):
    *hidden, kernel, bias = weights
    if hidden:
        x = np.maximum(x @ hidden[0] + hidden[1], 0)
    logs = scipy.special.log_softmax(x @ kernel + bias, axis=1)
    return -logs[np.arange(len(y)), y].mean()


def test_a_last_layer_takes_weighted_means_of_steps(monkeypatch):
    """One round with one batch a client is one step of the gradient of all examples."""
    monkeypatch.setattr(heads, 'HIDDEN', 5)
    monkeypatch.setattr(heads, 'BATCH', 100)
    monkeypatch.setattr(heads, 'RATES', (0.5,))
    monkeypatch.setattr(heads, 'ROUNDS', 1)
    data = on_vectors(np.random.default_rng(0), (60, 30))
    with tt.runtime.use_compiled():
        found = heads.train(heads.new_last_layer(), data, [0, 1], seed=0)
    x, y = data.x[data.is_train], data.y[data.is_train]
    wrong = (0.5 - np.eye(2)[y]) / len(y)
    kernel, bias = -0.5 * x.T @ wrong, -0.5 * wrong.sum(axis=0)
    np.testing.assert_allclose(found.weights[0], kernel, atol=1e-6)
    np.testing.assert_allclose(found.weights[1], bias, atol=1e-6)
    held = data.x[~data.is_train], data.y[~data.is_train]
    assert found.loss == pytest.approx(loss((kernel, bias), *held), abs=1e-5)
    assert (found.rate, found.rounds) == (0.5, 1)


@pytest.mark.slow
def test_the_best_round_on_validation_examples_is_kept(monkeypatch):
    monkeypatch.setattr(heads, 'RATES', (0.1, 1e-9))
    data = on_vectors(np.random.default_rng(1), (80, 80))
    start = heads.new_head(5, 0)
    held = np.r_[data.test_rows(1)]
    with tt.runtime.use_compiled():
        found = heads.train(start, data, [1], seed=0)
        again = heads.train(start, data, [1], seed=0)
        # From what is the best already nothing is kept that is no better.
        on = heads.train(found.weights, data, [1], seed=0)
    assert found.rate == 0.1 and found.rounds > 0
    assert found.loss == pytest.approx(
        loss(found.weights, data.x[held], data.y[held]), abs=1e-5
    )
    assert found.loss < loss(start, data.x[held], data.y[held])
    assert on.loss <= found.loss
    for a, b in zip(found.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_head_s_probabilities_by_hand():
    scale = Standardisation(np.array([1.0], np.float32), np.array([2.0], np.float32))
    weights = [
        np.array([[1.0, -1.0]]), np.array([0.0, 0.5]),
        np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([0.0, -1.0]),
    ]  # fmt: skip
    head = heads.Head(scale, weights)
    features = np.array([[5.0], [-1.0]], np.float32)
    np.testing.assert_allclose(head.hidden(features), [[2, 0], [0, 1.5]])
    expected = 1 / (1 + np.exp(-np.array([1.0, 2.0])))
    np.testing.assert_allclose(head.probabilities(features), expected, rtol=1e-6)


def test_verdicts():
    wide, above = Interval(0.02, -0.01, 0.05), Interval(0.02, 0.01, 0.03)
    assert figures.over_seeds([wide]) is None
    assert figures.verdict([wide]).startswith('not shown')
    assert figures.verdict([above]).startswith('better (')
    # Ten seeds alike have no spread at all.
    assert figures.verdict([above] * 10).startswith('better, in one seed too (')
    below = Interval(-0.02, -0.03, -0.01)
    assert figures.verdict([below]) == "worse (DeLong's above 0 in 0, below in 1 of 1)"
    # Above in each seed, but their spread holds 0.
    apart = [above, above._replace(value=0.04)]
    assert figures.verdict(apart).startswith('not shown')
    spread = figures.over_seeds([wide, wide._replace(value=0.04)])
    # Student's t of one degree of freedom is 12.706 at 97.5 %; the error is 0.01.
    assert spread == pytest.approx((0.03, 0.03 - 0.12706, 0.03 + 0.12706), abs=1e-5)
    near = [wide, wide._replace(value=0.0201), wide._replace(value=0.0199)]
    assert figures.verdict(near) == (
        'better over seeds; in one seed not shown'
        " (DeLong's above 0 in 0, below in 0 of 3)"
    )
    assert figures.typical([wide, above]) == pytest.approx((0.02, 0, 0.04))


def shorten(patch, cache):
    """Has the study begin and end quickly."""
    small(patch)
    patch.setenv('TFF_TRANSFER_CACHE_DIR', str(cache))
    patch.setattr(heads, 'RATES', (0.03,))
    patch.setattr(heads, 'ROUNDS', 2)
    patch.setattr(study, 'TUNING_ROUNDS', 1)
    patch.setattr(figures, 'DRAWS', 20)


def on_heads(data):
    """Returns what all heads on the embedded backbone say."""
    features = tt.features.extract(tt.backbones.load('embedded'), data)
    with tt.runtime.use_compiled():
        return list(study.of_heads(data.with_x(np.asarray(features)), 0))


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """Two hospitals of a few phantoms, what heads say of them, and the report."""
    folder = tmp_path_factory.mktemp('hospitals')
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, folder)
        data = hospitals.load('phantoms', None, None, 0)
        judged = on_heads(data)
        path = report.write(folder, data, judged, {'seeds': '1'}, 'python -m <it>')
    return data, judged, path


def check_judged(data, judged, methods, extractors):
    expected = {(m, h) for m in methods for h in data.client_ids}
    expected |= extractors
    assert {(j.method, j.hospital) for j in judged} == expected
    assert len(judged) == len(expected)
    for each in judged:
        client = data.client_ids.index(each.hospital)
        np.testing.assert_array_equal(each.test[0], data.y[data.test_rows(client)])
        labels = data.y[data.train_rows(client)]
        assert len(each.validation[0]) == round(0.2 * len(labels))
        for _, probabilities in (each.validation, each.test):
            assert ((probabilities > 0) & (probabilities < 1)).all()


def test_each_head_judges_each_hospital_s_tests(tiny):
    data, judged, _ = tiny
    methods = (study.ALONE, study.FEDERATED, study.THEN_TUNED, study.CENTRAL)
    pairs = (data.client_ids, data.client_ids[::-1])
    check_judged(data, judged, methods, {(study.extractor_of(a), b) for a, b in pairs})


@pytest.mark.slow
def test_extractors_are_tuned_by_one_and_by_all(tiny, monkeypatch, tmp_path):
    data, _, _ = tiny
    shorten(monkeypatch, tmp_path)
    judged = list(study.of_tuned(data, tt.ModelConfig(), 0))
    check_judged(data, judged, (study.ALONE_TUNED, study.FEDERATED_TUNED), set())
    together = [j for j in judged if j.method == study.FEDERATED_TUNED]
    assert len({j.chosen for j in together}) == 1


def test_the_report_stands_by_itself(tiny):
    data, judged, path = tiny
    page = path.read_text('utf-8')
    assert 'python -m &lt;it&gt;' in page and 'src="http' not in page
    assert page.count('<svg') == 1 + 3 * len(data)
    for each in judged:
        assert each.method.replace("'", '&#39;') in page
    with open(path.with_name('figures.csv')) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(judged)
    for row, each in zip(rows, judged, strict=True):
        assert (row['hospital'], row['method']) == (each.hospital, each.method)
        assert 0 <= float(row['auc_low']) <= float(row['auc_high']) <= 1
        assert (row['gain'] == '') == (each.method == study.ALONE)
    table = path.with_name('table.md').read_text('utf-8').splitlines()
    assert len([line for line in table if line.startswith('| hospital ')]) == 2 + (
        len(judged) + len(judged) - len(data)
    )


def test_test_labels_choose_nothing(tiny, monkeypatch, tmp_path):
    """With other labels of all test examples each head says the same."""
    data, judged, _ = tiny
    shorten(monkeypatch, tmp_path)
    y = np.where(data.is_train, data.y, 1 - data.y)
    for found, same in zip(
        on_heads(dataclasses.replace(data, y=y)), judged, strict=True
    ):
        assert (found.method, found.hospital) == (same.method, same.hospital)
        assert found.chosen == same.chosen
        np.testing.assert_array_equal(found.test[1], same.test[1])
        assert (found.test[0] != same.test[0]).all()


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.skipif(not XRAYS.is_file(), reason='../shared/data is absent')
def test_the_command_on_real_xrays(tmp_path):
    command = [sys.executable, '-m', 'experiments.hospital_imaging', '--seeds=1']
    command += ['--dataset=chest_xrays', f'--data_path={XRAYS}', f'--output={tmp_path}']
    subprocess.run(command, check=True, timeout=1500)
    with open(tmp_path / 'figures.csv') as file:
        rows = list(csv.DictReader(file))
    # Six methods for three hospitals, and six pairs of hospitals.
    assert len(rows) == 6 * 3 + 6
    assert all(float(row['auc']) > 0.8 for row in rows)


@pytest.mark.slow
def test_bad_flags_are_one_line():
    command = [sys.executable, '-m', 'experiments.hospital_imaging']
    found = subprocess.run(
        [*command, '--dataset=by_client'], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 2
    assert found.stderr.splitlines()[-1].startswith('error: --data_path: ')
