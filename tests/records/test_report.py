"""The report, beside what NumPy makes of the same predictions."""

import base64
import dataclasses
import html
import io
import re
import subprocess

import numpy as np
import PIL.Image
import pytest

import tff_transfer as tt
from tff_transfer.data import synthetic_writers
from tff_transfer.data.federated import FederatedData
from tff_transfer.records import plots, report
from tff_transfer.records.predictions import Predictions
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

NAMES = ('ant', 'bee', '<cat>')


def images(clients=10, each=12, classes=3):
    draw = np.random.default_rng(0)
    y = draw.integers(0, classes, clients * each).astype(np.int32)
    x = draw.integers(0, 100, (len(y), 6, 5, 1)) + 50 * y[:, None, None, None]
    names = NAMES if classes == 3 else ()
    ids = tuple(f'client {i}' for i in range(clients))
    train, test = np.full(clients, each - 4), np.full(clients, 4)
    return FederatedData('toy', x.astype(np.uint8), y, ids, train, test, classes, names)


def config():
    training = TrainingConfig(rounds=2, clients_per_round=3, evaluate_every=2)
    model = ModelConfig(image_size=32)
    return Config(DataConfig(unseen_fraction=0.3), model, training)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run's data, result, and report; its features are cached."""
    folder = tmp_path_factory.mktemp('runs') / 'run'
    data = images()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TFF_TRANSFER_CACHE_DIR', str(folder.parent / 'cache'))
        result = loop.train(config(), folder, data=data)
    return data, result, (folder / 'report.html').read_text()


def written(result, folder, data, settings=None, given=(), **changed):
    """Returns the report of a result that is changed."""
    setup = dataclasses.replace(result.setup, data=data)
    result = dataclasses.replace(result, run_dir=folder, setup=setup, **changed)
    return report.write(settings or config(), result, data, given).read_text()


def cells(page, heading):
    """Returns the text of the rows of the table after a heading."""
    table = re.search(f'<h2>{heading}</h2>.*?</table>', page, re.DOTALL)[0]
    rows = re.findall('<tr>(.*?)</tr>', table, re.DOTALL)
    found = [re.findall('<t[hd].*?>(.*?)</t[hd]>', row, re.DOTALL) for row in rows]
    return [[html.unescape(cell) for cell in row] for row in found]


def by_hand(data, result):
    """Returns rows of unseen clients, and their logits by the network in Keras."""
    rows = np.flatnonzero(np.isin(data.client_of_row, result.setup.unseen))
    setup = result.setup
    return rows, result.network(setup.transform(setup.data.x[rows])).numpy()


def test_predictions_are_those_of_the_network(run):
    data, result, _ = run
    rows, logits = by_hand(data, result)
    found = result.predictions['unseen']
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.labels, data.y[rows])
    np.testing.assert_array_equal(found.predicted, logits.argmax(1))
    shifted = logits - logits.max(1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(1)) - shifted[range(len(rows)), data.y[rows]]
    np.testing.assert_allclose(found.measured['loss'], losses, rtol=1e-4, atol=1e-5)
    last = result.rows[-1]['unseen/accuracy']
    assert np.mean(found.correct) == pytest.approx(last)


def test_accuracy_by_class(run):
    data, result, page = run
    rows, logits = by_hand(data, result)
    shown = cells(page, 'Accuracy by class')
    assert [row[0] for row in shown] == list(NAMES)
    for number, (_, accuracy, examples, taken_for) in enumerate(shown):
        predicted = logits.argmax(1)[data.y[rows] == number]
        assert accuracy == f'{100 * np.mean(predicted == number):.1f} %'
        assert examples == f'of {len(predicted)}'
        counts = np.bincount(predicted, minlength=3)
        counts[number] = 0
        most = f'{NAMES[counts.argmax()]} ({counts.max()})'
        assert taken_for == (f'taken for {most}' if counts.any() else '')


def test_clients_of_the_lowest_accuracy_stand_first(run):
    data, result, page = run
    _, *shown = cells(page, 'Clients with the lowest accuracy')
    accuracy = result.per_client['unseen']
    assert [row[1] for row in shown] == [
        f'{100 * value:.1f} %' for value in sorted(accuracy.values())
    ]
    for name, value, examples, _ in shown:
        assert value == f'{100 * accuracy[name]:.1f} %'
        assert examples == '12'


def shown_images(page):
    """Returns the pictures with their captions."""
    pattern = '<img[^>]*base64,(.*?)".*?<b>(.*?)</b>.*?<b>(.*?)</b>.*?<small>(.*?)<'
    for code, *caption in re.findall(pattern, page, re.DOTALL):
        picture = np.array(PIL.Image.open(io.BytesIO(base64.b64decode(code))))
        yield picture, [html.unescape(text) for text in caption]


def test_the_images_that_it_is_surest_about_and_wrong(run):
    data, result, page = run
    found = result.predictions['unseen']
    wrong = np.flatnonzero(found.predicted != data.y[found.rows])
    worst = wrong[np.argsort(-found.measured['loss'][wrong])][:24]
    shown = list(shown_images(page))
    assert len(shown) == len(worst) > 0
    for (picture, caption), place in zip(shown, worst, strict=True):
        row = found.rows[place]
        np.testing.assert_array_equal(picture, data.x[row, ..., 0])
        client = data.client_ids[data.client_of_row[row]]
        assert caption == [NAMES[data.y[row]], NAMES[found.predicted[place]], client]


def test_vectors_have_no_pictures_and_many_classes_no_long_list(run, tmp_path):
    data = images(each=60, classes=150)
    data = data.with_x(data.x.reshape(len(data.y), -1).astype(np.float32))
    rows = np.arange(len(data.y))
    predicted = np.where(data.y % 50, data.y, 0).astype(np.int32)
    measured = {'loss': np.zeros(len(rows)), 'accuracy': predicted == data.y}
    found = Predictions(rows, data.y, predicted, measured)
    predictions = {'seen': found, 'unseen': found}
    page = written(run[1], tmp_path, data, predictions=predictions)
    assert '<img' not in page
    shown = cells(page, 'Accuracy by class')
    assert len(shown) == 100
    assert [row[:2] for row in shown[:2]] == [['50', '0.0 %'], ['100', '0.0 %']]
    assert len(page) < 500_000


def test_seen_clients_are_shown_where_none_are_unseen(run, tmp_path):
    data, result, _ = run

    def all_right(count):
        measured = {'loss': np.zeros(count), 'accuracy': np.ones(count)}
        labels = data.y[:count]
        return Predictions(np.arange(count), labels, labels, measured)

    nothing = all_right(0)
    for seen, part in ((all_right(5), '0 of 5 examples of the tests'), (nothing, None)):
        predictions = {'seen': seen, 'unseen': nothing}
        page = written(result, tmp_path, data, predictions=predictions)
        assert (part or 'To repeat it') in page
        assert ('goes wrong' in page) == bool(part)


def test_a_run_of_flags_has_its_command(run, tmp_path):
    settings = Config(
        DataConfig('by_client', data_path="my writers' digits.npz", only_digits=False),
        ModelConfig('mlp', hidden_units=(4, 3)),
        TrainingConfig(rounds=1),
    )
    page = written(run[1], tmp_path, run[0], settings)
    shown = html.unescape(re.search('<pre>(.*?)</pre>', page, re.DOTALL)[1])
    done = subprocess.run(
        ['bash', '-c', f'python() {{ printf "%s\\n" "$@"; }}\n{shown}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        *('-m', 'experiments.emnist_fedavg', '--dataset=by_client'),
        *("--data_path=my writers' digits.npz", '--noonly_digits'),
        *('--model=mlp', '--hidden_units=4,3', '--rounds=1'),
    ]


def test_a_run_of_given_data_says_so_and_has_its_call(run):
    _, _, page = run
    assert 'given <code>data=</code> in Python' in page
    shown = html.unescape(re.search('<pre>(.*?)</pre>', page, re.DOTALL)[1])
    called = []
    names = {}
    exec(shown.splitlines()[0], names)
    names.update(data='the data', train=lambda *a, **k: called.append((a, k)))
    exec(shown.splitlines()[-1], names)
    assert called == [((config(),), {'data': 'the data'})]


def test_versions_stand_in_the_report(run):
    _, _, page = run
    assert f'<td>numpy</td><td>{np.__version__}</td>' in page
    assert '<td>tensorflow-federated</td>' in page


def test_a_notebook_shows_a_short_table_and_a_small_report(run):
    _, result, page = run
    first, *table = repr(result).splitlines()
    assert 'toy' in first and len(repr(result)) < 500
    assert '\n'.join(table) == report.text_table(report.table(result))
    shown = result._repr_html_()
    assert shown.count('<svg') == 3
    assert '<html' not in shown and '<body' not in shown and '<style' not in shown[:300]
    assert cells(shown, 'Accuracy') == report.table(result)


def test_no_public_object_prints_its_arrays(run, tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    data, result, _ = run
    backbone = tt.backbones.load('embedded', image_size=32)
    chosen = dataclasses.replace(config(), model=ModelConfig(finetune='adapters'))
    with tt.runtime.use_compiled():
        writers = synthetic_writers.generate(4, 3, seed=1)
        head = loop.head_or_network(chosen, writers, backbone)
        made = loop.prepare(chosen, writers, backbone, head)
    objects = [
        *(data, chosen, *vars(chosen).values()),
        *(result, result.setup, result.predictions['unseen']),
        *(backbone, *vars(backbone).values(), *backbone.functional.weights),
        *(made, *vars(made).values(), made.below.parameters, made.below.standardise),
        *(made.model.functional, made.below.backbone.trace),
    ]
    for each in objects:
        if not isinstance(each, np.ndarray):
            assert len(repr(each)) <= 500, type(each)
    assert '10 clients, 80 training and 40 test examples of 3 classes' in repr(data)
    assert 'uint8 [120, 6, 5, 1]' in repr(data)
    assert repr(config()) == (
        'Config(data=DataConfig(unseen_fraction=0.3), model=ModelConfig(image_size=32),'
        ' training=TrainingConfig(rounds=2, clients_per_round=3, evaluate_every=2))'
    )


def test_confusion_counts_true_by_predicted():
    labels, predicted = np.array([[0, 0, 2, 2, 2], [0, 1, 2, 0, 0]], np.int32)
    found = Predictions(np.arange(5), labels, predicted, {})
    expected = [[1, 1, 0], [0, 0, 0], [2, 0, 1]]
    np.testing.assert_array_equal(found.confusion(3), expected)


def test_the_confusion_matrix_has_numbers_for_few_classes_alone():
    few = plots.confusion(np.array([[11, 3], [0, 1234]]), ('cat', 'dog')).axes[0]
    assert [t.get_text() for t in few.texts] == ['11', '3', '1,234']
    assert [t.get_position() for t in few.texts] == [(0, 0), (1, 0), (1, 1)]
    assert [t.get_text() for t in few.get_yticklabels()] == ['cat', 'dog']
    shares = few.images[0].get_array() ** 2
    np.testing.assert_allclose(shares, [[11 / 14, 3 / 14], [0, 1]])
    many = plots.confusion(np.eye(62, dtype=int)).axes[0]
    assert not many.texts and len(many.get_xticklabels()) == 62
    assert not plots.confusion(np.eye(500, dtype=int)).axes[0].get_xticklabels()


def test_large_images_are_made_small():
    noise = np.random.default_rng(0).random((200, 100, 3)).astype(np.float32)
    source = plots.data_uri(noise)
    assert 24 * len(source) < 700_000
    code = source.removeprefix('data:image/png;base64,')
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(code)))
    assert (picture.size, picture.mode) == ((40, 80), 'RGB')
    floats = np.array([[[0.0], [0.2], [1.0]]])
    code = plots.data_uri(floats).removeprefix('data:image/png;base64,')
    picture = np.array(PIL.Image.open(io.BytesIO(base64.b64decode(code))))
    assert picture.tolist() == [[0, 51, 255]]


def test_an_unknown_metric_is_told_with_those_there_are(run):
    _, result, _ = run
    with pytest.raises(tt.UserError) as told:
        plots.by_round(result.rows, 'acuracy')
    assert "'acuracy'" in str(told.value)
    assert 'loss, accuracy' in str(told.value)


def test_python_that_repeats_a_run_knows_its_method():
    config = tt.Config(algorithm=tt.algorithms.FedProx(mu=0.5))
    text = report._repeat(config, ['data'])
    made, names = [], {'data': 'the data'}
    imports, call = text.split('\n\n')
    exec(imports, names)
    names['train'] = lambda config, data: made.append((config, data))
    exec(call, names)
    assert made == [(config, 'the data')]


def test_what_is_judged_is_drawn_by_simulated_time():
    rows = [
        {'round': n, 'seen/accuracy': n / 4, 'time/simulated_s': 5400.0 * n}
        for n in range(3)
    ]
    (axes,) = plots.by_round(rows, 'accuracy', timed=True).axes
    assert axes.get_xlabel() == 'simulated time, h'
    np.testing.assert_allclose(
        axes.lines[0].get_xydata(), [[0, 0], [1.5, 0.25], [3, 0.5]]
    )
