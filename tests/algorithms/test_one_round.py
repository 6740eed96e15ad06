"""What one round computes, beside scikit-learn's on pooled data."""

import collections

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.neighbors

from tff_transfer import algorithms, models, runtime
from tff_transfer.algorithms.ridge import PENALTIES
from tff_transfer.data.cohorts import Cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig

SIZE, CLASSES = 6, 4
SIZES = (5, 0, 300)
DRAW = np.random.default_rng(0)
Y = DRAW.integers(0, CLASSES, sum(SIZES)).astype(np.int32)
X = DRAW.normal(size=(len(Y), SIZE)) + DRAW.normal(size=(CLASSES, SIZE))[Y] + 3
X = X.astype(np.float32)


@pytest.fixture(params=['compiled', pytest.param('stock', marks=pytest.mark.slow)])
def any_runtime(request):
    with getattr(runtime, f'use_{request.param}')():
        yield


def solved(options, x=X, classes=CLASSES):
    """Returns kernel and bias after one round, and the process."""
    made = algorithms.process(options, models.mlp(x.shape[1:], classes))
    splits = np.cumsum([0, *SIZES])
    cohort = Cohort(collections.OrderedDict(x=x, y=Y), splits, 7)
    output = made.process.next(made.process.initialize(), cohort)
    return made.process.get_model_weights(output.state).trainable, made


@pytest.mark.parametrize('penalty', [0.0, 0.5, 100.0])
def test_ridge_is_scikit_learns_on_pooled_data(any_runtime, penalty):
    (kernel, bias), _ = solved(algorithms.Ridge(penalty))
    expected = sklearn.linear_model.RidgeClassifier(alpha=penalty)
    expected.fit(X.astype(np.float64), Y)
    np.testing.assert_allclose(kernel.T, expected.coef_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(bias, expected.intercept_, rtol=1e-6, atol=1e-7)


def test_ridge_of_features_that_depend_on_each_other():
    x = np.concatenate([X, X[:, :2]], 1)
    with runtime.use_compiled():
        (kernel, bias), _ = solved(algorithms.Ridge(0.0), x)
    # The shortest of all least-squares solutions.
    target, mean = 2 * np.eye(CLASSES)[Y] - 1, x.mean(0, dtype=np.float64)
    expected = np.linalg.lstsq(x - mean, target - target.mean(0), rcond=1e-9)[0]
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)
    expected = target.mean(0) - mean @ expected
    np.testing.assert_allclose(bias, expected, rtol=1e-5, atol=1e-6)


def test_prototype_chooses_the_nearest_mean(any_runtime):
    (kernel, bias), made = solved(algorithms.Prototype())
    expected = sklearn.neighbors.NearestCentroid().fit(X.astype(np.float64), Y)
    np.testing.assert_allclose(kernel.T, expected.centroids_, rtol=1e-6, atol=1e-7)
    logits = X @ kernel + bias
    np.testing.assert_array_equal(np.argmax(logits, 1), expected.predict(X))
    distances = ((X[:, None] - kernel.T) ** 2).sum(2)
    np.testing.assert_allclose(
        logits - logits[:, :1], (distances[:, :1] - distances) / 2, atol=1e-4
    )
    # 4 x 6 sums and 4 counts of 8 bytes.
    assert (made.bytes_down, made.bytes_up) == (0, 8 * (24 + 4))


def test_a_class_without_examples_is_never_nearest():
    x = np.abs(X) * np.float32(1e-3)
    with runtime.use_compiled():
        (kernel, bias), _ = solved(algorithms.Prototype(), x, CLASSES + 1)
    assert not kernel[:, CLASSES].any()
    assert (np.argmax(x @ kernel + bias, 1) < CLASSES).all()


@pytest.mark.parametrize(
    'model', [models.mlp((SIZE,), CLASSES, (5,)), models.mlp((2, 3), CLASSES)]
)
def test_another_model_than_a_linear_one_is_refused(model):
    with pytest.raises(UserError, match='is a dense layer on vectors, but'):
        algorithms.process(algorithms.Ridge(), model)


def wide_data(test=30):
    """Clients of fewer examples than features, for which the penalty matters."""
    draw = np.random.default_rng(1)
    n = 8 * (10 + test)
    y = draw.integers(0, 3, n).astype(np.int32)
    x = draw.normal(size=(n, 100)) + 0.3 * draw.normal(size=(3, 100))[y]
    return FederatedData(
        'wide',
        x.astype(np.float32),
        y,
        tuple(map(str, range(8))),
        np.full(8, 10),
        np.full(8, test),
        3,
    )


def run(algorithm, data):
    config = Config(DataConfig(unseen_fraction=0), ModelConfig('mlp'))
    return loop.train(Config(config.data, config.model, algorithm=algorithm), data=data)


def test_the_penalty_is_the_one_of_the_best_accuracy():
    data = wide_data()
    result = run(algorithms.Ridge(), data)
    x, y = data.x[data.is_train].astype(np.float64), data.y[data.is_train]
    tested = {}
    for penalty in PENALTIES:
        other = sklearn.linear_model.RidgeClassifier(alpha=penalty).fit(x, y)
        right = other.predict(data.x[~data.is_train]) == data.y[~data.is_train]
        tested[penalty] = right.mean(), penalty, other.coef_
    accuracy, best, kernel = max(tested.values(), key=lambda found: found[:2])
    assert PENALTIES[0] < best < PENALTIES[-1]
    np.testing.assert_allclose(result.weights[0].T, kernel, rtol=1e-5, atol=1e-6)
    assert result.chosen == {'chosen on seen clients': f'--ridge.penalty={best:g}'}
    assert result.rows[-1]['seen/accuracy'] == accuracy


def test_a_penalty_needs_examples_to_be_chosen_on():
    with pytest.raises(UserError, match=r'give --ridge\.penalty or a --test_fraction'):
        run(algorithms.Ridge(), wide_data(test=0))
