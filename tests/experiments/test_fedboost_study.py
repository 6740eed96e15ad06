"""The study of boosting: pieces that go on after a kill, groups, tiny runs, a page."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from experiments import pieces
from experiments.fedboost import (
    forests,
    people,
    picking,
    pool,
    report,
    weighting,
)
from tff_transfer import progress, runtime
from tff_transfer.boosting import examples
from tff_transfer.data import federated
from tff_transfer.errors import UserError

CLASSES = 3


def blobs(clients=24, each=20, size=6):
    """Vectors of three classes about their centres."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, CLASSES, clients * each)
    centres = 2 * draw.normal(size=(CLASSES, size))
    x = (centres[y] + draw.normal(size=(len(y), size))).astype(np.float32)
    owner = np.repeat(np.arange(clients), each)
    return federated.from_rows('blobs', x, y, owner, test_fraction=0.2)


def setting(folder, data, rounds=40):
    """Two good predictors of unlike kinds and one that guesses."""
    draw = np.random.default_rng(1)
    logits = draw.normal(size=(len(data.y), 3, CLASSES))
    logits[np.arange(len(data.y)), :2, data.y] += 1.5
    answers = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    groups = people.groups(data)
    flat = data.with_x(answers.reshape(len(data.y), -1).astype(np.float32))
    parts = (
        examples.of(flat, groups.learners),
        examples.of(flat, groups.choosers),
        people.whole(flat, groups.unseen),
    )
    shaped = (of.with_x(of.x.reshape(-1, 3, CLASSES)) for of in parts)
    made = pool.Pool(('a', 'b', 'c'), np.array([100, 200, 300]), answers)
    return weighting.Setting(made, *shaped, rounds, folder)


def counted(until=None):
    """A step that counts, and is interrupted in a round."""

    def step(state):
        (number,) = state
        if until is not None and number == until:
            raise KeyboardInterrupt
        return (number + 1,), (2.0 * number,)

    return step


def test_rounds_go_on_from_the_newest_checkpoint_that_is_whole(tmp_path):
    start, how = (np.int64(0),), dict(count=10, columns=1, every=3)
    with pytest.raises(KeyboardInterrupt):
        pieces.rounds(tmp_path, start, counted(until=7), **how)
    newest = max(tmp_path.glob('*.npz'))
    newest.write_bytes(newest.read_bytes()[:-40])
    seen = []

    def watched(state):
        seen.append(int(state[0]))
        return counted()(state)

    state, told = pieces.rounds(tmp_path, start, watched, **how)
    assert seen == list(range(3, 10)) and state[0] == 10
    np.testing.assert_array_equal(told[:, 0], 2 * np.arange(10))


def test_a_piece_is_made_once_and_a_folder_holds_one_study(tmp_path):
    made = []
    for _ in range(2):
        assert pieces.piece(tmp_path, 'a', lambda: made.append(1) or {'b': 1}) == {
            'b': 1
        }
    assert made == [1]
    pieces.open_folder(tmp_path / 'study', {'rounds': 3})
    pieces.open_folder(tmp_path / 'study', {'rounds': 3})
    with pytest.raises(UserError, match='a study of another rounds; choose'):
        pieces.open_folder(tmp_path / 'study', {'rounds': 4})
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file cannot be used'):
        pieces.open_folder(tmp_path / 'file', {})


def test_nobody_has_two_parts():
    groups = people.groups(blobs())
    parts = (groups.before, groups.learners, groups.choosers, groups.unseen)
    assert sorted(np.concatenate(parts)) == list(range(24))
    assert [len(part) for part in parts] == [11, 9, 2, 2]


def test_few_clients_are_refused(tmp_path):
    path = tmp_path / 'few.npz'
    np.savez(path, x=np.zeros((6, 4, 4)), y=np.arange(6) % 2, client=np.arange(6))
    with pytest.raises(UserError, match='has 6 clients, but .* needs 20'):
        people.load(str(path), None)


def test_the_solvers_ensemble_is_no_worse_than_any_other(tmp_path):
    made = setting(tmp_path, blobs())
    weights, loss = made.best
    moments = weighting.moments_of(made.learners)
    for other in np.random.default_rng(0).dirichlet(np.ones(3), 200):
        assert weighting.squared_loss(other, moments) >= loss - 1e-9
    assert weights[2] < 0.1 < min(weights[:2])


def test_fedboost_comes_nearer_by_round_and_goes_on_after_a_kill(tmp_path, monkeypatch):
    made = setting(tmp_path / 'a', blobs())
    monkeypatch.setattr(weighting, 'CHECKPOINTS', 10)
    options = weighting.variants(3)['2 sent, uniform']
    options = dataclasses.replace(options, learning_rate=0.3)
    found = weighting.run(made, 'one', options, seed=0)
    assert len(found['loss']) == 40 // weighting.EVERY
    assert found['loss'][-1] - made.best[1] < 0.6 * (found['loss'][0] - made.best[1])
    assert np.all(np.diff(found['bytes']) > 0)
    killed = setting(tmp_path / 'b', blobs())
    real, calls = weighting.fed_boost.next_round, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 25:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(weighting.fed_boost, 'next_round', dies)
    with pytest.raises(KeyboardInterrupt):
        weighting.run(killed, 'one', options, seed=0)
    assert weighting.run(killed, 'one', options, seed=0) == found
    assert len(calls) == 25 + 20


def test_adaboost_goes_on_after_a_kill(tmp_path, monkeypatch):
    data = blobs()
    some = examples.of(data, range(20)), people.whole(data, np.arange(20, 24))
    monkeypatch.setattr(picking, 'ROUNDS', 10)
    name = 'trees, adaptive'
    found = picking.run(tmp_path / 'a', name, *some)
    assert found['round'] == [1, 5, 10]
    assert found['accuracy'][-1] > 0.8
    real, calls = picking.ada_boost.next_round, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(picking.ada_boost, 'next_round', dies)
    with pytest.raises(KeyboardInterrupt):
        picking.run(tmp_path / 'b', name, *some)
    assert picking.run(tmp_path / 'b', name, *some) == found
    assert len(calls) == 8 + 5


_KILLED = """
import os, pathlib, signal, sys
from experiments.fedboost import forests
import test_fedboost_study as study
real, calls = forests.gradient_boosting.next_round, []
def dies(*arguments):
    calls.append(1)
    if len(calls) == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
if sys.argv[2] == 'die':
    forests.gradient_boosting.next_round = dies
print(study.grown(pathlib.Path(sys.argv[1])))
"""


def grown(folder):
    """Trees with noise on the blobs."""
    data = blobs()
    table = forests.Table(
        examples.of(data, range(20)),
        people.test_of(data, np.arange(20)),
        people.whole(data, np.arange(20, 24)),
    )
    edges = forests.bins.public(data.x.shape[1], 8)
    noise = forests.Summing(noise=forests.Noise(0.05))
    return forests.federated(folder, 'one', table, forests.PRIVATE, edges, noise)


@pytest.mark.slow
@pytest.mark.walk
def test_trees_with_noise_are_the_same_after_a_kill(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(_KILLED)
    places = os.getcwd(), str(pathlib.Path(__file__).parent)

    def run(folder, how):
        return subprocess.run(
            [sys.executable, str(script), str(tmp_path / folder), how],
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(places)},
            capture_output=True,
            text=True,
        )

    assert run('b', 'die').returncode == -signal.SIGKILL
    assert list((tmp_path / 'b').rglob('*.npz'))
    after = run('b', 'live')
    assert after.returncode == 0, after.stderr
    assert after.stdout == run('a', 'live').stdout


def test_trees_in_every_way_and_the_page(tmp_path, monkeypatch):
    pytest.importorskip('lightgbm', exc_type=ImportError)
    monkeypatch.setattr(forests, 'PLAIN', forests.Boosting(3, 2, 0.5))
    monkeypatch.setattr(weighting, 'RATES', (0.3,))
    data = blobs()
    groups = people.groups(data)
    table = forests.Table(
        examples.of(data, groups.seen),
        people.test_of(data, groups.seen),
        people.whole(data, groups.unseen),
    )
    bar = progress.bar(total=1)
    trees = forests.measured(tmp_path, 'features', table, table, 8.0, bar)
    private = trees[forests.private_name('example', 8.0)]
    # Noise is found to a share of a thousandth, on the safe side.
    assert 'epsilon 7.99 at delta 1e-05' in private['told']
    assert trees[forests.FEDERATED]['own'] > 0.7 < trees[forests.CENTRAL]['own']
    made = setting(tmp_path, data, rounds=10)
    found = weighting.measured(made, [0, 1], bar)
    assert '4 sent, uniform' not in found and len(found['all sent']['runs']) == 2
    adaptive = {
        name: {'round': [1, 5], 'accuracy': [0.5, 0.6], 'error': [0.4] * 5,
               'bytes': [1.0, 5.0]}
        for name in picking.VARIANTS
    }  # fmt: skip
    every = found, adaptive, {'blobs': trees}
    path = report.write(tmp_path, made, every, {'data': 'blobs <x>'}, 'python -m')
    page = path.read_text('utf-8')
    assert 'blobs &lt;x&gt;' in page and page.count('<svg') == 2
    assert '| all 3 alike |' in (tmp_path / 'table.md').read_text('utf-8')
    assert (tmp_path / 'regret.png').exists()


@pytest.mark.slow
def test_base_predictors_of_vectors(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, 'ROUNDS', 2)
    monkeypatch.setattr(pool, 'OWN', 2)
    data = blobs()
    groups = people.groups(data)
    with runtime.use_compiled():
        made = pool.made(data, pool.sources(data, ['embedded']), groups)
    first, second = (data.client_ids[c] for c in groups.before[:2])
    names = (
        'inputs',
        f'client {first} alone, inputs',
        f'client {second} alone, inputs',
    )
    assert made.names == names
    # A kernel of 6 x 3 and 3 biases, in float32; nothing below them.
    np.testing.assert_array_equal(made.bytes, [84, 84, 84])
    np.testing.assert_allclose(made.answers.sum(-1), 1, atol=1e-5)
    right = np.argmax(made.answers[:, 0], 1) == data.y
    assert np.mean(right) > 0.8


@pytest.mark.slow
def test_the_program_on_a_table_by_client_and_again(tmp_path):
    pytest.importorskip('lightgbm', exc_type=ImportError)
    data, path = blobs(), tmp_path / 'table.csv'
    rows = [
        ','.join([f'c{client}', str(label), *map(str, row)])
        for client, label, row in zip(data.client_of_row, data.y, data.x, strict=True)
    ]
    path.write_text('\n'.join(['client,label,a,b,c,d,e,f', *rows]))
    command = [sys.executable, '-m', 'experiments.fedboost', f'--data_path={path}']
    command += ['--rounds=10', '--seeds=1', f'--output={tmp_path / "out"}']

    def run(*more):
        return subprocess.run([*command, *more], capture_output=True, text=True)

    first = run()
    assert first.returncode == 0, first.stderr
    page = (tmp_path / 'out' / 'report.html').read_text('utf-8')
    assert 'client c' in page and 'breast cancer' in page
    assert run().stdout == first.stdout
    other = run('--epsilon=4')
    assert (other.returncode, other.stderr.count('\n')) == (2, 1)
    assert 'holds a study of another epsilon' in other.stderr
