import numpy as np
import pytest

from experiments import linear_probe
from tff_transfer.errors import UserError


def test_unseen_writers_are_those_of_the_documented_split():
    writers = np.repeat(np.arange(100, 160), 2)
    unseen = linear_probe.unseen_rows(writers)
    expected = 100 + np.random.default_rng(0).permutation(60)[:40]
    assert set(writers[unseen]) == set(expected)
    assert unseen.sum() == 80


def test_extract_resizes_scales_and_inverts():
    images = np.zeros((5, 28, 28), np.uint8)
    images[1], images[2] = 255, 51

    def means(x):
        assert x.shape[1:] == (40, 40, 3)
        return x[:, 0, 0]

    white = linear_probe.extract(means, images, 40, dark_on_white=False, batch=2)
    assert white[:, 0] == pytest.approx([0, 1, 0.2, 0, 0])
    dark = linear_probe.extract(means, images, 40, dark_on_white=True, batch=2)
    assert dark[:, 2] == pytest.approx([1, 0, 0.8, 1, 1])


def test_probe_learns_on_seen_rows_and_scores_unseen_ones():
    draw = np.random.default_rng(0)
    labels = np.tile(np.arange(4), 100)
    features = np.eye(4)[labels] * 1000 + draw.normal(0, 10, (400, 4))
    unseen = np.arange(400) >= 300
    assert linear_probe.probe(features, labels, unseen, 1.0) == 1
    # Wrong labels among the unseen rows count, and change nothing else.
    labels[300:350] = (labels[300:350] + 1) % 4
    assert linear_probe.probe(features, labels, unseen, 1.0) == 0.5


def test_missing_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match='no file'):
        linear_probe.load_data(str(tmp_path / 'none.npz'))
    with pytest.raises(UserError, match='no SavedModel'):
        linear_probe.load_network(str(tmp_path))
