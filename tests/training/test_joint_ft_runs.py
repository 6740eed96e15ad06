"""Joint fine-tuning as a run: who judges, when it stops, and what is refused."""

import dataclasses

import numpy as np
import pytest
from test_loop import CLASSES, TRAIN, make_config, make_data

from tff_transfer.algorithms import JointFT
from tff_transfer.errors import UserError
from tff_transfer.models import CLASSIFICATION
from tff_transfer.training import loop, participants
from tff_transfer.training.early_stopping import stopped_early
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


def config(parts=(), fraction=0.25, **training):
    made = make_config(**{'rounds': 40, 'client_epochs': 6, **training})
    network = ModelConfig('mlp', hidden_units=(6,))
    method = JointFT(validation_fraction=fraction, patience=2, parts=parts)
    return dataclasses.replace(made, model=network, algorithm=method)


@pytest.mark.slow
@pytest.mark.parametrize('parts', [pytest.param((), marks=pytest.mark.walk), ('head',)])
def test_labels_of_test_examples_reach_nothing(parts):
    data = make_data()
    changed = np.where(data.is_train, data.y, (data.y + 1) % CLASSES)
    others = dataclasses.replace(data, y=changed.astype(np.int32))
    rate = {'early_stop_patience': 3, 'client_learning_rate': 0.5}
    found, again = (
        loop.train(config(parts, clients_per_round=8, **rate), data=each)
        for each in (data, others)
    )
    assert 3 < found.rows[-1]['round'] < 40
    assert len(found.rows) == len(again.rows)
    for ours, theirs in zip(found.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for part, those in again.predictions.items():
        mine = ~data.is_train[those.rows]
        assert mine.any()
        np.testing.assert_array_equal(
            those.predicted[mine], found.predictions[part].predicted[mine]
        )


def test_a_round_s_cohort_is_one_epoch_that_ends_with_what_is_never_trained_on(
    monkeypatch,
):
    made, make = [], participants.training_cohort

    def spy(data, clients, **named):
        made.append((clients, make(data, clients, **named)))
        return made[-1][1]

    monkeypatch.setattr(participants, 'training_cohort', spy)
    loop.train(config(rounds=3, clients_per_round=8), data=make_data())
    assert len(made) == 3
    held = {}
    for clients, cohort in made:
        assert np.diff(cohort.row_splits).tolist() == [TRAIN] * 8
        for client, last in zip(clients, cohort.row_splits[1:], strict=True):
            rows = cohort.examples['x'][last - TRAIN // 4 : last]
            held.setdefault(client, []).append(rows)
    for first, *others in held.values():
        assert all(np.array_equal(first, other) for other in others)


def test_early_stopping_goes_by_the_validation_loss_of_each_round():
    patience = TrainingConfig(early_stop_patience=2)

    def stopped(*losses):
        rows = [{'round': 0, 'server/validation_loss': None, 'seen/accuracy': 0.5}]
        rows += [
            {'round': 1 + i, 'server/validation_loss': loss, 'seen/accuracy': 0.5}
            for i, loss in enumerate(losses)
        ]
        return stopped_early(patience, CLASSIFICATION, rows)

    assert not stopped()
    assert not stopped(3.0, 2.0, 2.5)
    assert stopped(3.0, 2.0, 2.5, 2.0)
    assert not stopped(3.0, 2.5, 2.0, 1.5, 1.0)


def test_early_stopping_without_a_validation_part_is_refused():
    unfit = config(fraction=0.05, early_stop_patience=3)
    message = 'on the validation parts of seen clients, but toy has none; give a larger'
    with pytest.raises(UserError, match=message):
        loop.train(unfit, data=make_data())


def test_passes_that_are_given_beforehand_are_refused():
    message = '--min_client_epochs is not for --algorithm=jointft; leave it out'
    with pytest.raises(UserError, match=message):
        config(min_client_epochs=1).check()
