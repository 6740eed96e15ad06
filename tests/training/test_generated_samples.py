"""Runs of a generative model show what it makes, round by round."""

import base64
import io
import re

import numpy as np
import PIL.Image
import pytest

from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.generation.sampling import Sampler
from tff_transfer.records import plots, samples
from tff_transfer.training import loop, participants
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

CLASSES, SIDE, COLUMNS, GAP = 3, 6, 10, 2


def make_data(clients=5, each=6):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (clients * each, SIDE, SIDE, 1)).astype(np.uint8)
    y = np.arange(len(x)).astype(np.int32) % CLASSES
    ids = tuple(f'client {i}' for i in range(clients))
    counts = np.full(clients, each - 2), np.full(clients, 2)
    return FederatedData('toy', x, y, ids, *counts, CLASSES)


CONFIG = Config(
    DataConfig(unseen_fraction=0.2),
    ModelConfig('cvae', latent_size=2),
    TrainingConfig(
        rounds=4,
        clients_per_round=2,
        evaluate_every=2,
        checkpoint_every=1,
        keep_checkpoints=4,
    ),
)


def samples_of(model, weights):
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), COLUMNS)
    images = Sampler(model, len(labels)).images(weights, labels, 0)
    return samples.grid(images, COLUMNS)


class Killed(Exception):
    """Ends a run in the middle of a round."""


@pytest.mark.slow
def test_grids_are_kept_shown_and_made_again_after_a_kill(tmp_path, monkeypatch):
    make = participants.Participants.cohort

    def dying(stage, turnout, round_number):
        if round_number == 4:
            raise Killed
        return make(stage, turnout, round_number)

    with monkeypatch.context() as patch:
        patch.setattr(participants.Participants, 'cohort', dying)
        with pytest.raises(Killed):
            loop.train(CONFIG, tmp_path / 'run', data=make_data())
    assert not (tmp_path / 'run' / 'samples' / 'round_000004.png').exists()
    found = loop.train(CONFIG, tmp_path / 'run', data=make_data())
    assert sorted(found.samples) == [0, 2, 4]
    shape = (CLASSES * (SIDE + GAP) + GAP, COLUMNS * (SIDE + GAP) + GAP, 1)
    assert {grid.shape for grid in found.samples.values()} == {shape}
    whole = loop.train(CONFIG, data=make_data())
    for number, grid in found.samples.items():
        np.testing.assert_array_equal(grid, whole.samples[number])
        path = tmp_path / 'run' / 'samples' / f'round_{number:06d}.png'
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(path)), grid[..., 0])
    assert not np.array_equal(whole.samples[0], whole.samples[4])
    for number in (2, 4):
        apart = found.weights_at(number)
        grid = samples_of(found.setup.model, apart)
        np.testing.assert_array_equal(grid, whole.samples[number])
    start = found.setup.model.initial_weights
    assert all(map(np.array_equal, found.weights_at(0), start))
    with pytest.raises(UserError, match='no checkpoint of round 7.*1, 2, 3, 4'):
        found.weights_at(7)
    with pytest.raises(UserError, match='in memory'):
        whole.weights_at(2)
    page = (tmp_path / 'run' / 'report.html').read_text('utf-8')
    sources = re.findall('<img alt="" src="([^"]+)"[^>]*><figcaption>round', page)
    assert sources == [plots.data_uri(found.samples[n], 700) for n in (0, 2, 4)]
    encoded = base64.b64decode(sources[-1].partition(',')[2])
    shown = np.asarray(PIL.Image.open(io.BytesIO(encoded)))
    np.testing.assert_array_equal(shown, found.samples[4][..., 0])
