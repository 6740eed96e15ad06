"""The study of generative models: plans, releases, a page, a tiny run."""

import math

import numpy as np
import pytest

from experiments.federated_generation import (
    judging,
    people,
    plans,
    public_images,
    releasing,
    report,
    runs,
)
from experiments.federated_generation.plans import Plan
from tff_transfer import runtime
from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.data import by_client
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.records import samples
from tff_transfer.training import participants

FLOOR = {
    'frechet': 0.5,
    'kernel': 1e-4,
    'kernel_error': 1e-4,
    'recognised': 0.99,
    'taught': 0.98,
    'ratio': 1.01,
    'nearer': 0.49,
}


def run_of(frechet, epsilon=math.inf, rounds=(0, 5, 10)):
    told = [{**FLOOR, 'frechet': frechet * (11 - number)} for number in rounds]
    return {
        'round': list(rounds),
        'quality': told,
        'bytes': [1e6 * number for number in rounds],
        'epsilon': epsilon,
        'delta': 1e-3,
        'weights': 1234,
        'seconds': 1.0,
    }


def test_a_release_is_read_by_client_with_its_epsilon(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.random((120, 5, 4, 1)).astype(np.float32)
    labels = np.arange(120) % 3
    path = tmp_path / 'release.npz'
    releasing.write(path, images, labels, 7.5, 1e-3)
    data = by_client.load(path, test_fraction=0)
    sizes = [releasing.EACH, releasing.EACH, 120 - 2 * releasing.EACH]
    assert data.num_train.tolist() == sizes
    assert data.client_ids[0] == 'generated 0000'
    with np.load(path) as file:
        assert (float(file['epsilon']), float(file['delta'])) == (7.5, 1e-3)
        owners = file['client']
    for number, client in enumerate(data.client_ids):
        rows = np.flatnonzero(owners == client)
        mine = data.x[data.train_rows(number)]
        np.testing.assert_array_equal(mine, np.rint(255 * images[rows]))
        np.testing.assert_array_equal(data.y[data.train_rows(number)], labels[rows])
    # Each client has all classes: they were dealt at random.
    assert all(len(np.unique(data.y[data.train_rows(c)])) == 3 for c in range(3))
    assert 'epsilon 7.500 at delta 0.001' in releasing.promise(7.5, 1e-3)
    assert 'do not share' in releasing.promise(math.inf, 0.0)


def test_what_others_start_from_comes_first_and_once():
    found = plans.plans(tuple(plans.KINDS))
    assert len(set(found)) == len(found)
    for plan in found:
        if plan.start not in (plans.PRETRAINED, plans.SCRATCH):
            assert found.index(plans.origin(plan.kind)) < found.index(plan)
    assert plans.RELEASED in [plan.name for plan in found]
    # Names are files and folders.
    assert not any('/' in plan.name for plan in found)


@pytest.mark.parametrize('plan', plans.plans(tuple(plans.KINDS)))
def test_configurations_are_whole(plan, tmp_path):
    config = plans.configured(plan, 30, 8, 4.0, tmp_path)
    config.check()
    kind = plans.KINDS[plan.kind]
    starts = plan.start not in (plans.PRETRAINED, plans.SCRATCH)
    assert (config.model.start_from is not None) == starts
    assert config.private == (kind.clip is not None and plan.start != plans.PRETRAINED)
    if config.private:
        assert config.privacy.target_epsilon == 4.0
        assert config.privacy.delta == 30**-1.1
    distills = isinstance(config.distill_from, Pretrained)
    assert distills == (plan.start == plans.DISTILLED)
    assert bool(config.model.frozen_parts) == (plan.start == plans.FROZEN)


def test_a_page_has_what_was_measured(tmp_path):
    found = {
        Plan('CVAE', plans.PRETRAINED): run_of(2.0, rounds=(10,)),
        Plan('CVAE', plans.SCRATCH): run_of(3.0),
        Plan('DP-GAN', plans.TRANSFERRED): run_of(4.0, epsilon=7.9),
    }
    place = {plan: tmp_path / str(n) for n, plan in enumerate(found)}
    for folder in place.values():
        samples.write(folder, 10, np.zeros((8, 8, 1), np.uint8))
    curve = {'round': [0, 2, 4], 'accuracy': [0.1, 0.5, 0.7]}
    public = {'FedAvg': curve, 'FedDF, noise': {**curve, 'accuracy': [0.1, 0.6, 0.9]}}
    path = report.write(
        tmp_path, place.get, found, FLOOR, public, {'data': '<toy>'}, 'python -m it'
    )
    page, table = path.read_text('utf-8'), (tmp_path / 'table.md').read_text('utf-8')
    assert '&lt;toy&gt;' in page and 'python -m it' in page
    assert page.count('<figcaption>round 10') == 3
    rows = [line for line in table.splitlines() if line.startswith('| DP-GAN')]
    assert '| 4.00 | 0.10 ± 0.10 |' in rows[0] and '| 10.0 | 7.90 |' in rows[0]
    assert rows[1] == '| DP-GAN | transferred | 44.00 | 24.00 | 4.00 |'
    assert '| FedDF, noise | 60.0% | 90.0% | 75.0% |' in table
    assert 'real images | that no run was compared with | 0.50' in table
    assert 'DP-GAN, transferred: epsilon 7.90 at delta 0.001' in page
    for name in ('distances', 'public_images', 'samples'):
        assert (tmp_path / f'{name}.png').exists()


def population(clients=12, each=30, seed=0, side=4):
    draw = np.random.default_rng(seed)
    y = np.arange(clients * each).astype(np.int32) % 10
    x = draw.integers(0, 256, (len(y), side, side, 1)).astype(np.uint8)
    ids = tuple(f'client {n:02d}' for n in range(clients))
    counts = np.full(clients, each - 5), np.full(clients, 5)
    return FederatedData('toy', x, y, ids, *counts, 10)


class Killed(Exception):
    """Ends a run in the middle of a round."""


@pytest.mark.slow
@pytest.mark.walk
def test_a_killed_study_goes_on_to_the_same_figures(tmp_path, monkeypatch):
    source = people.Source(population(seed=1, side=28), population(side=28))
    judge = judging.judge(source.data)
    before, plan = Plan('CVAE', plans.PRETRAINED), Plan('CVAE', plans.DISTILLED)
    make, rounds = participants.Participants.cohort, []
    monkeypatch.setattr(plans, 'FIGURES', 2)

    def dying(stage, turnout, round_number):
        rounds.append(round_number)
        if len(rounds) == 4:  # The third round of the second run.
            raise Killed
        return make(stage, turnout, round_number)

    def figures(folder):
        study = runs.Study(folder, source, judge, 4, 8.0)
        found = [study.figures(of) for of in (before, plan)]
        for of in found:
            of.pop('seconds')
        return study, found

    with monkeypatch.context() as patch, runtime.use_compiled():
        patch.setattr(participants.Participants, 'cohort', dying)
        with pytest.raises(Killed):
            figures(tmp_path / 'killed')
    with runtime.use_compiled():
        _, again = figures(tmp_path / 'killed')
        study, whole = figures(tmp_path / 'whole')
    assert again == whole
    pretrained, distilled = whole
    assert pretrained['round'] == [1] and pretrained['bytes'] == [0.0]
    assert distilled['round'] == [0, 2, 4]
    assert distilled['quality'][0] == pretrained['quality'][0]
    # Each round as many bytes, of all weights and one number more, up.
    assert distilled['bytes'][1] == 2 * (8 * distilled['weights'] + 4)
    assert distilled['bytes'][-1] == 2 * distilled['bytes'][1]
    images, labels = study.images(plan, 25, seed=3)
    assert images.shape == (25, 28, 28, 1)
    np.testing.assert_array_equal(labels, np.arange(25) % 10)


def test_public_images_are_of_nobody(monkeypatch):
    monkeypatch.setattr(public_images, 'EXAMPLES', 200)
    monkeypatch.setattr(public_images, 'PUBLIC', 100)
    data = population()
    dealt = public_images.skewed(data)
    assert len(dealt) == public_images.CLIENTS and len(dealt.y) == 200
    real = public_images.real(data)
    assert len(real) == 100
    known = {image.tobytes() for image in dealt.x}
    assert not any(image.tobytes() in known for image in real)
    noise = public_images.noise(data)
    assert noise.shape == (100, 4, 4, 1) and noise.dtype == np.uint8


def test_sources_that_do_not_suit_are_one_line(tmp_path):
    with pytest.raises(UserError, match='--data_path is for --data=digits'):
        people.load('phantoms', 'mine.npz', None)
    path = tmp_path / 'few.npz'
    x = np.zeros((60, 28, 28), np.uint8)
    np.savez(path, x=x, y=np.arange(60) % 10, client=np.arange(60) % 3)
    with pytest.raises(UserError, match='has 3 clients, but the study needs 10'):
        people.load('digits', str(path), None)
    np.savez(path, x=x[:, :20], y=np.arange(60) % 10, client=np.arange(60) % 20)
    with pytest.raises(UserError, match='give digits of that shape'):
        people.load('digits', str(path), None)
