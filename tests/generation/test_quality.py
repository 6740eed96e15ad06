"""What generated examples are worth, against scikit-learn and planted cases."""

import numpy as np
import scipy.spatial
from sklearn import linear_model

from tff_transfer.generation import neighbours
from tff_transfer.generation.classifier import Classifier
from tff_transfer.generation.quality import Reference


def blobs(rows, seed, spread=0.5):
    """Returns vectors about one of three corners, and which one."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 3, rows)
    return np.eye(4)[labels] + spread * draw.normal(size=(rows, 4)), labels


def reference():
    return Reference(*blobs(300, 0), *blobs(200, 1), 3)


def test_a_classifier_is_scikit_learns_ridge():
    x, labels = blobs(60, 0)
    found = Classifier.of(x, labels, 3, penalty=2.5)
    theirs = linear_model.Ridge(alpha=2.5).fit(x, np.eye(3)[labels])
    np.testing.assert_allclose(found.weights, theirs.coef_.T, rtol=1e-9)
    np.testing.assert_allclose(found.intercept, theirs.intercept_, rtol=1e-9)
    others, truth = blobs(40, 1)
    expected = theirs.predict(others).argmax(1)
    np.testing.assert_array_equal(found.predicted(others), expected)
    np.testing.assert_equal(found.accuracy(others, truth), np.mean(expected == truth))


def test_nearest_distances_are_a_trees():
    draw = np.random.default_rng(0)
    of, among = draw.normal(size=(2100, 3)), draw.normal(size=(70, 3))
    expected, _ = scipy.spatial.KDTree(among).query(of)
    np.testing.assert_allclose(neighbours.nearest(of, among), expected, atol=1e-7)


def test_copies_of_training_examples_are_found():
    train, test = blobs(200, 0)[0], blobs(300, 1)[0]
    fresh = neighbours.memorised(blobs(2000, 2)[0], train, test)
    assert abs(fresh.ratio - 1) < 0.1
    assert abs(fresh.nearer - 0.5) < 0.06
    copied = neighbours.memorised(train[:50] + 1e-3, train, test)
    assert copied.ratio < 0.05
    assert copied.nearer == 1
    both = neighbours.memorised(test, test, test)
    assert both.nearer == 0.5


def test_good_and_bad_examples_are_told_apart():
    of = reference()
    good, labels = blobs(200, 3)
    found = of.measured(good, labels)
    assert abs(found.kernel) < 4 * found.kernel_error
    theirs = linear_model.Ridge(alpha=1.0)
    theirs.fit(of.train, np.eye(3)[of.train_labels])
    share = np.mean(theirs.predict(good).argmax(1) == labels)
    np.testing.assert_equal(found.recognised, share)
    theirs.fit(good, np.eye(3)[labels])
    share = np.mean(theirs.predict(of.test).argmax(1) == of.test_labels)
    np.testing.assert_equal(found.taught, share)

    # One of each class, again and again: as real, and nothing to learn from.
    same = of.measured(np.eye(4)[labels], labels)
    assert same.frechet > 3 * found.frechet
    assert same.kernel > found.kernel + 4 * same.kernel_error
    assert same.recognised == 1
    # Of other classes than they were made for.
    wrong = of.measured(good, (labels + 1) % 3)
    assert wrong.recognised < 0.3
    assert wrong.taught < 0.3
    np.testing.assert_equal(wrong.frechet, found.frechet)
