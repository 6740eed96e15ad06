import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tff_transfer.data import synthetic_alpha_beta


def test_shapes_and_sizes():
    data = synthetic_alpha_beta.generate(0.5, 0.5)
    assert len(data) == 30 and data.num_classes == 10
    assert data.x.shape[1:] == (60,) and data.x.dtype == np.float32
    sizes = data.num_train + data.num_test
    assert sizes.min() >= 50 and data.name == 'synthetic(0.5, 0.5)'
    many = synthetic_alpha_beta.generate(0, 0, 200)
    logs = np.log(many.num_train + many.num_test - 49.5)
    # ln(size - 50) ~ N(4, 2); the half is for what is cut off.
    assert np.median(logs) == pytest.approx(4, abs=0.3)
    assert np.std(logs) == pytest.approx(2, abs=0.3)


def test_each_value_has_the_stated_variance():
    """Within a client, input i has the variance i ** -1.2."""
    data = synthetic_alpha_beta.generate(1, 1, 60, seed=3)
    largest = np.argmax(data.row_splits[1:] - data.row_splits[:-1])
    x = data.x[data.row_splits[largest] : data.row_splits[largest + 1]]
    assert len(x) > 3000
    expected = np.arange(1, 61) ** -1.2
    np.testing.assert_allclose(x.var(0), expected, rtol=0.15)


@pytest.mark.parametrize('beta', [0, 1, 5])
def test_beta_is_the_deviation_of_the_clients_inputs(beta):
    data = synthetic_alpha_beta.generate(0, beta, 150)
    means = np.array([part.mean(0) for part in np.split(data.x, data.row_splits[1:-1])])
    # The mean over 60 inputs of v_k[i] ~ N(B_k, 1).
    assert np.std(means.mean(1)) == pytest.approx(np.sqrt(beta**2 + 1 / 60), rel=0.15)
    assert np.median(means.std(1)) == pytest.approx(1, rel=0.1)


def test_labels_are_a_client_s_own_linear_model():
    data = synthetic_alpha_beta.generate(1, 0, 8, seed=1)
    largest = np.argsort(data.num_train)[-2:]
    parts = [data.select([client]) for client in largest]
    models = [
        LogisticRegression(C=1e3, max_iter=1000).fit(part.x, part.y) for part in parts
    ]
    for model, part, other in zip(models, parts, parts[::-1], strict=True):
        assert model.score(part.x, part.y) > 0.97
        assert model.score(other.x, other.y) < 0.7


def test_iid_clients_share_one_model():
    data = synthetic_alpha_beta.generate(0, 0, 12, iid=True)
    order = np.argsort(data.num_train)
    model = LogisticRegression(C=1e3, max_iter=1000)
    biggest = data.select(order[-2:])
    model.fit(biggest.x, biggest.y)
    rest = data.select(order[:-2])
    assert model.score(rest.x, rest.y) > 0.9
    assert np.abs(rest.x.mean(0)).max() < 0.2


def test_a_client_does_not_depend_on_how_many_there_are():
    few, many = (synthetic_alpha_beta.generate(1, 1, n, seed=4) for n in (3, 7))
    np.testing.assert_array_equal(few.x, many.select([0, 1, 2]).x)
    np.testing.assert_array_equal(few.y, many.select([0, 1, 2]).y)
    other = synthetic_alpha_beta.generate(1, 1, 3, seed=5)
    assert not np.array_equal(few.x[:50], other.x[:50])


def test_the_split_has_its_own_seed():
    first, second = (
        synthetic_alpha_beta.generate(1, 1, 3, split_seed=seed) for seed in (0, 1)
    )
    assert first.num_test.tolist() == second.num_test.tolist()
    assert not np.array_equal(first.x, second.x)
    for client in range(3):
        rows = slice(*first.row_splits[client : client + 2])
        np.testing.assert_array_equal(
            np.sort(first.x[rows], axis=0), np.sort(second.x[rows], axis=0)
        )


@pytest.mark.parametrize(
    ('arguments', 'options', 'words'),
    [
        ((-1, 0), {}, ['alpha is -1']),
        ((0, np.nan), {}, ['beta is nan']),
        ((0, 0, 0), {}, ['num_clients is 0']),
        ((1, 0), {'iid': True}, ['iid']),
        ((1, 0), {'test_fraction': 1}, ['test_fraction is 1']),
    ],
)
def test_bad_values_are_refused(refused, arguments, options, words):
    with refused(*words):
        synthetic_alpha_beta.generate(*arguments, **options)
