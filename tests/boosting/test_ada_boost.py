"""AdaBoost over clients: SAMME by hand, weak learners, adaptive draws, refusals."""

import math

import numpy as np
import pytest
from sklearn import ensemble, tree

from tff_transfer.boosting import ada_boost, examples, weak
from tff_transfer.boosting.ada_boost import AdaBoost
from tff_transfer.errors import UserError

CLASSES = 3


def binned(n=300, clients=4, seed=0):
    """Classes by two features of ten values, with noise, at clients alike."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 10, (n, 3)).astype(np.uint8)
    y = (x[:, 0].astype(int) + x[:, 1] + draw.integers(0, 4, n)) // 8
    splits = np.linspace(0, n, clients + 1).astype(int)
    return examples.Examples(x, np.minimum(y, 2), splits, CLASSES)


def trained(options, learner, of, seed=0):
    state, rows = ada_boost.initialize(options, learner, of), []
    for _ in range(options.rounds):
        state, row = ada_boost.next_round(options, learner, of, state, seed)
        rows.append(row)
    return state, rows


class Fixed:
    """Learners that predict what is given, one a round of one client."""

    def __init__(self, *predicted):
        self.predicted, self.next = predicted, -2  # One fit is for shapes.

    def fit(self, x, y, weights, classes):
        self.next += 1
        return (np.array(max(self.next, 0)),)

    def predict(self, learnt, x):
        return np.array(self.predicted[int(learnt[0])])


def test_weights_and_say_are_those_worked_out_by_hand():
    y = np.array([0, 1, 2, 0, 1])
    one = examples.Examples(np.zeros((5, 1)), y, np.array([0, 5]), CLASSES)
    # Wrong of the first learner: the last example; of the second: the first two.
    learner = Fixed([0, 1, 2, 0, 2], [1, 2, 2, 0, 1])
    state, rows = trained(AdaBoost(rounds=2, clients_per_round=1), learner, one)
    first = math.log(0.8 / 0.2) + math.log(2)  # The error is 1 / 5: log 8.
    assert rows[0]['error'] == pytest.approx(0.2)
    # Then 4 examples weigh 1 / 12 and the last 8 / 12: an error of 2 / 12.
    assert rows[1]['error'] == pytest.approx(1 / 6)
    second = math.log(5) + math.log(2)
    np.testing.assert_allclose(state.say, [first, second])
    expected = np.array([10, 10, 1, 1, 8]) / 30
    np.testing.assert_allclose(state.weights, expected)
    votes = ada_boost.votes(learner, state, one.x, CLASSES)
    np.testing.assert_allclose(votes[0], [first, second, 0])


def test_a_learner_no_better_than_chance_is_not_taken():
    y = np.array([0, 1, 2])
    one = examples.Examples(np.zeros((3, 1)), y, np.array([0, 3]), CLASSES)
    state, rows = trained(
        AdaBoost(rounds=2, clients_per_round=1), Fixed([1, 2, 0], [1, 2, 2]), one
    )
    # The second is wrong of two in three, as chance is.
    assert [row['error'] for row in rows] == pytest.approx([1, 2 / 3])
    np.testing.assert_allclose(state.say, [0, 0], atol=1e-12)
    np.testing.assert_allclose(state.weights, np.full(3, 1 / 3))
    assert state.rounds == 2


def test_after_a_learner_without_error_all_clients_are_drawn_alike():
    of = binned()
    state = ada_boost.initialize(AdaBoost(), weak.Tree(bins=10), of)
    state = state._replace(errors=np.zeros(4))
    options = AdaBoost(clients_per_round=4)
    assert len(ada_boost.drawn(options, state, of, 0)) == 4


def test_of_one_client_it_is_scikit_learns():
    of = binned()
    one = examples.Examples(of.x, of.y, np.array([0, 300]), CLASSES)
    learner = weak.Tree(depth=1, bins=10)
    options = AdaBoost(rounds=10, clients_per_round=1)
    state, rows = trained(options, learner, one)
    theirs = ensemble.AdaBoostClassifier(
        tree.DecisionTreeClassifier(max_depth=1),
        n_estimators=10,
        algorithm='SAMME',
        random_state=0,
    ).fit(of.x, of.y)
    np.testing.assert_allclose([r['error'] for r in rows], theirs.estimator_errors_)
    np.testing.assert_allclose(state.say, theirs.estimator_weights_)
    votes = ada_boost.votes(learner, state, of.x, CLASSES)
    np.testing.assert_array_equal(np.argmax(votes, 1), theirs.predict(of.x))


def test_a_tree_is_scikit_learns():
    of, draw = binned(), np.random.default_rng(1)
    weights = draw.random(300)
    weights /= weights.sum()
    learner = weak.Tree(depth=3, bins=10)
    found = learner.predict(learner.fit(of.x, of.y, weights, CLASSES), of.x)
    theirs = tree.DecisionTreeClassifier(max_depth=3, random_state=0)
    expected = theirs.fit(of.x, of.y, weights).predict(of.x)
    np.testing.assert_array_equal(found, expected)


def test_means_are_weighted_and_of_known_classes_alone():
    x = np.array([[0.0, 0], [4, 0], [0, 9]], np.float32)
    (means,) = learnt = weak.Means().fit(
        x, np.array([0, 0, 2]), np.array([0.6, 0.2, 0.2]), CLASSES
    )
    np.testing.assert_allclose(means[[0, 2]], [[1, 0], [0, 9]])
    near = np.array([[1.0, 4], [1, 6]], np.float32)
    np.testing.assert_array_equal(weak.Means().predict(learnt, near), [0, 2])


def test_the_choice_is_the_learner_of_the_least_error_on_all_clients():
    of, learner = binned(), weak.Tree(depth=2, bins=10)
    state, (row,) = trained(AdaBoost(rounds=1, clients_per_round=4), learner, of)
    errors = []
    for client in range(4):
        rows = of.rows(client)
        own = learner.fit(of.x[rows], of.y[rows], np.full(75, 1 / 75), CLASSES)
        errors.append(np.mean(learner.predict(own, of.x) != of.y))
    assert row['client'] == np.argmin(errors)
    assert row['error'] == pytest.approx(min(errors))
    size = 3 * 4 + 3 + 4  # Of 3 nodes feature and threshold; 4 labels.
    assert row['bytes/up'] == 4 * size + 4 * 8 * 5
    assert row['bytes/down'] == 4 * (4 * size + 16)


def test_clients_with_more_weighted_error_are_drawn_more_often():
    of, options = binned(), AdaBoost(clients_per_round=1, floor=0.2)
    state = ada_boost.initialize(options, weak.Tree(bins=10), of)
    state = state._replace(errors=np.array([0.0, 0.1, 0.3, 0.0]))
    counts = np.zeros(4)
    for number in range(2000):
        state = state._replace(rounds=np.int64(number))
        counts[ada_boost.drawn(options, state, of, seed=0)] += 1
    # A fifth for all alike, the rest by 0, 1/4, 3/4, 0.
    np.testing.assert_allclose(counts / 2000, [0.05, 0.25, 0.65, 0.05], atol=0.04)
    alike = AdaBoost(clients_per_round=1, adaptive=False)
    counts = np.zeros(4)
    for number in range(2000):
        state = state._replace(rounds=np.int64(number))
        counts[ada_boost.drawn(alike, state, of, seed=0)] += 1
    np.testing.assert_allclose(counts / 2000, np.full(4, 0.25), atol=0.04)


def test_what_is_resumed_is_what_goes_on():
    of, learner = binned(), weak.Tree(depth=1, bins=10)
    options = AdaBoost(rounds=6, clients_per_round=2)
    whole, _ = trained(options, learner, of)
    state = ada_boost.initialize(options, learner, of)
    for _ in range(6):
        state, _ = ada_boost.next_round(options, learner, of, state, 0)
        state = ada_boost.State(tuple(map(np.copy, state[0])), *map(np.copy, state[1:]))
    for one, other in zip(whole[1:], state[1:], strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_one_line():
    of = binned()
    with pytest.raises(UserError, match=r'5 clients a round .* examples \(4\)'):
        ada_boost.check_options(AdaBoost(clients_per_round=5), weak.Tree(), of)
    with pytest.raises(UserError, match='--depth is 0, but must be at least 1'):
        ada_boost.check_options(AdaBoost(), weak.Tree(depth=0), of)
