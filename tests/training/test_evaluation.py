"""Evaluation, against counts by hand."""

import numpy as np
import pytest

from tff_transfer import models
from tff_transfer.data.federated import FederatedData
from tff_transfer.records import predictions
from tff_transfer.training import evaluation

# Client a has three rows, b has none, c has one.
DATA = FederatedData(
    'toy',
    np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32),
    np.array([0, 1, 1, 1], np.int32),
    ('a', 'b', 'c'),
    np.array([2, 0, 1]),
    np.array([1, 0, 0]),
    2,
)


def _evaluator(**model):
    model = models.mlp((2,), 2, **model)
    return evaluation.Evaluator(model, DATA, lambda x: x)


def _summary(weights, rows):
    found = _evaluator().per_example(weights, rows)
    return evaluation.summary(models.CLASSIFICATION, DATA, rows, found)


def test_means_over_examples_and_over_clients():
    # The logits are the inputs: predictions are 0, 1, 0, 0.
    weights = [np.eye(2, dtype=np.float32), np.zeros(2, np.float32)]
    found = _summary(weights, np.arange(4))
    assert found['accuracy'] == 2 / 4
    assert found['accuracy_per_client'] == pytest.approx((2 / 3 + 0) / 2)
    right, wrong = np.log(1 + np.exp(-1)), np.log(1 + np.exp(1))
    assert found['loss'] == pytest.approx((2 * right + 2 * wrong) / 4)


def test_only_the_rows_asked_for_count():
    weights = [np.eye(2, dtype=np.float32), np.zeros(2, np.float32)]
    assert _summary(weights, np.array([3]))['accuracy'] == 0
    assert _summary(weights, np.array([], int)) == {}
    clients, accuracies = predictions.per_client(
        DATA, np.array([0, 2, 3]), np.array([True, False, True])
    )
    assert clients.tolist() == [0, 2]
    assert accuracies.tolist() == [0.5, 1.0]


def test_a_model_with_dropout_is_evaluated_without_it():
    evaluator = _evaluator(hidden_units=(2,), dropout=0.5)
    weights = [np.eye(2), np.zeros(2), np.eye(2), np.zeros(2)]
    found = evaluator.per_example(weights, np.arange(4))
    assert found['predicted'].tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(found['loss'][0], np.log(1 + np.exp(-1)), rtol=1e-6)
