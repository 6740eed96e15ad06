"""Self-distillation from the pretrained model while it is fine-tuned."""

import numpy as np
import pytest
from test_algorithms import from_command_line

from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.data import synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.methods import method_of
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.training_config import TrainingConfig

slow = pytest.mark.slow


def writers_config(teacher, **model):
    return Config(
        DataConfig(unseen_fraction=0.25),
        ModelConfig(**model),
        TrainingConfig(
            rounds=4,
            clients_per_round=2,
            client_learning_rate=0.1,
            server_optimizer='sgd',
            server_learning_rate=1.0,
        ),
        distill_from=teacher,
    )


@slow
def test_a_fine_tuned_backbone_learns_of_the_pretrained_one():
    data = synthetic_writers.generate(4, 12, seed=0, classes=10, test_fraction=0.25)

    def weights(weight):
        made = writers_config(Pretrained(weight), finetune='top', top_layers=1)
        return loop.train(made, data=data).weights

    free, held = weights(0.0), weights(1000.0)
    assert all(np.isfinite(each).all() for each in held)
    # The backbone's steps hang on it once the head, at zero first, has changed it.
    assert any(not np.array_equal(*pair) for pair in zip(free, held, strict=True))


@slow
def test_the_head_alone_is_not_held():
    data = synthetic_writers.generate(4, 12, seed=0, classes=10, test_fraction=0.25)
    made = writers_config(Pretrained(), finetune='head_then_all').resolved()
    backbone = loop.load_backbone(made)
    head = loop.head_or_network(made, data, backbone)
    with use_runtime(made.training):
        setup = loop.prepare(made, data, backbone, head)
    for trained, teacher in ((setup.first, None), (setup, Pretrained())):
        _, context = method_of(made, trained.model, 3)
        assert context.teacher == teacher


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ([], 'nothing of a backbone is trained; give another --finetune'),
        (['--model=mlp'], 'nothing of a backbone is trained'),
        (['--finetune=all', '--hidden_units=8'], 'use a linear head'),
        (['--finetune=all', '--head=cosine'], 'use a linear head'),
        (
            ['--finetune=all', '--backbone_weights=random'],
            '--backbone_weights=random has none',
        ),
        (
            ['--finetune=all', '--pretrained.temperature=2'],
            'is for --pretrained.distance=softmax, but that is squared',
        ),
    ],
)
def test_what_has_no_pretrained_features_to_hold_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        from_command_line('--distill_from=pretrained', *arguments).check()
