"""FedBoost: the simplex, estimates without bias, AFLBoost, bytes, refusals."""

import itertools
import math

import numpy as np
import pytest
from scipy import optimize

from tff_transfer.boosting import draws, examples, fed_boost, gradients, simplex
from tff_transfer.boosting.fed_boost import FedBoost
from tff_transfer.errors import UserError

CLASSES, PREDICTORS = 3, 4


def task(clients=5, seed=0, domain=None, sizes=(100, 200, 300, 400)):
    """Predictors that are right by different shares, for clients of unequal sizes."""
    draw = np.random.default_rng(seed)
    counts = draw.integers(3, 9, clients)
    y = draw.integers(0, CLASSES, counts.sum())
    logits = draw.normal(size=(len(y), PREDICTORS, CLASSES))
    logits[np.arange(len(y)), :, y] += np.linspace(0, 2, PREDICTORS)
    x = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    splits = np.concatenate([[0], np.cumsum(counts)])
    of = examples.Examples(x.astype(np.float32), y, splits, CLASSES)
    return fed_boost.Task.of(of, sizes, domain)


def squared_loss(of, weights):
    """Of all examples, from the definition."""
    mixed = np.einsum('k,nkc->nc', weights, of.examples.x)
    target = np.eye(CLASSES)[of.examples.y]
    return ((mixed - target) ** 2).sum(1).mean()


def derivative(function, at, step=1e-6):
    """Central differences."""
    eye = step * np.eye(len(at))
    return np.array([(function(at + e) - function(at - e)) / (2 * step) for e in eye])


WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4])


def test_a_step_is_the_minimiser_that_a_solver_finds():
    gradient, rate = np.array([0.5, -1.0, 0.2, 3.0]), 0.7

    def objective(w):
        return rate * gradient @ w + np.sum(w * np.log(w / WEIGHTS))

    found = optimize.minimize(
        objective,
        simplex.uniform(4),
        bounds=[(1e-9, 1)] * 4,
        constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1},
        options={'ftol': 1e-14},
    )
    np.testing.assert_allclose(
        simplex.step(WEIGHTS, gradient, rate), found.x, atol=1e-6
    )


def test_steps_of_one_gradient_add_up_and_large_ones_do_not_overflow():
    # exp(-rate g) to the power of rounds: a closed form of mirror descent.
    gradient = np.array([0.3, 0.1, 0.9])
    weights = simplex.uniform(3)
    for _ in range(10):
        weights = simplex.step(weights, gradient, 0.5)
    expected = np.exp(-5 * gradient)
    np.testing.assert_allclose(weights, expected / expected.sum())
    there = simplex.step(np.array([0.5, 0.5, 0.0]), np.array([1e5, 2e5, -1e9]), 1.0)
    np.testing.assert_array_equal(there, [1, 0, 0])


def uniform_draws(count):
    """Each set of predictors, and its probability."""
    sets = list(itertools.combinations(range(PREDICTORS), count))
    rule = draws.Uniform()
    return [(rule.of(np.array(s), PREDICTORS), 1 / len(sets)) for s in sets]


def weighted_draws(count, floor=0.1):
    """Each sequence of draws, and its probability."""
    rule = draws.Weighted(floor)
    probabilities = rule.probabilities(WEIGHTS)
    found = []
    for sequence in itertools.product(range(PREDICTORS), repeat=count):
        times = np.bincount(sequence, minlength=PREDICTORS)
        probability = math.prod(probabilities[list(sequence)])
        found.append((rule.of(times, probabilities), probability))
    return found


@pytest.mark.parametrize('of', [uniform_draws, weighted_draws])
@pytest.mark.parametrize('count', [2, 3])
def test_over_all_draws_and_cohorts_the_estimate_is_the_gradient(of, count):
    made = task()
    state = fed_boost.initialize(made)._replace(weights=WEIGHTS)
    options = FedBoost(sent=count)
    cohorts = list(itertools.combinations(range(5), 2))
    gradient, losses = np.zeros(PREDICTORS), np.zeros(5)
    for draw, probability in of(count):
        for cohort in cohorts:
            found = fed_boost.told(options, made, state, draw, cohort)
            gradient += probability / len(cohorts) * found.gradient
            losses += probability / len(cohorts) * found.losses
    expected = derivative(lambda w: squared_loss(made, w), WEIGHTS)
    np.testing.assert_allclose(gradient, expected, atol=1e-6)
    assert made.shares @ losses == pytest.approx(squared_loss(made, WEIGHTS), abs=1e-6)


@pytest.mark.parametrize('of', [uniform_draws, weighted_draws])
def test_weights_that_are_sent_are_unbiased_but_the_gradient_at_them_is_not(of):
    made = task()
    state = fed_boost.initialize(made)._replace(weights=WEIGHTS)
    sent, gradient = np.zeros(PREDICTORS), np.zeros(PREDICTORS)
    for draw, probability in of(2):
        sent[draw.sent] += probability * draw.first * WEIGHTS[draw.sent]
        found = fed_boost.told(
            FedBoost(estimator='squared'), made, state, draw, range(5)
        )
        gradient += probability * found.gradient
    np.testing.assert_allclose(sent, WEIGHTS)
    expected = derivative(lambda w: squared_loss(made, w), WEIGHTS)
    assert np.abs(gradient - expected).max() > 0.05


@pytest.mark.parametrize('estimator', gradients.ESTIMATORS)
def test_with_all_sent_each_estimator_is_the_gradient_of_its_loss(estimator):
    made = task()
    state = fed_boost.initialize(made)._replace(weights=WEIGHTS)
    draw = draws.Uniform().of(np.arange(PREDICTORS), PREDICTORS)
    options = FedBoost(sent=PREDICTORS, estimator=estimator)
    found = fed_boost.told(options, made, state, draw, range(5))

    def log_loss(weights):
        mixed = np.einsum('k,nkc->nc', weights, made.examples.x)
        return -np.log(mixed[np.arange(len(mixed)), made.examples.y]).mean()

    loss = log_loss if estimator == 'log' else lambda w: squared_loss(made, w)
    expected = derivative(loss, WEIGHTS)
    np.testing.assert_allclose(found.gradient, expected, atol=1e-5)
    assert made.shares @ found.losses == pytest.approx(loss(WEIGHTS), abs=1e-6)


def test_of_one_predictor_the_log_loss_tells_nothing_of_it():
    draw = draws.Uniform().of(np.array([2]), PREDICTORS)
    for seed in range(2):
        made = task(seed=seed)
        state = fed_boost.initialize(made)._replace(weights=WEIGHTS)
        found = fed_boost.told(
            FedBoost(sent=1, estimator='log'), made, state, draw, range(5)
        )
        np.testing.assert_allclose(found.gradient[2], -1 / WEIGHTS[2])


def trained(options, made, rounds, seed=0):
    state = fed_boost.initialize(made)
    for _ in range(rounds):
        state, row = fed_boost.next_round(options, made, state, seed)
    return state, row


def best_of(made):
    found = optimize.minimize(
        lambda w: squared_loss(made, w),
        simplex.uniform(PREDICTORS),
        bounds=[(0, 1)] * PREDICTORS,
        constraints={'type': 'eq', 'fun': lambda w: w.sum() - 1},
    )
    return found.fun


def test_the_mean_of_the_weights_comes_near_the_best_ensemble():
    made = task(clients=20, seed=3)
    best = best_of(made)
    for sampling in ('uniform', 'weighted'):
        options = FedBoost(sampling=sampling, clients_per_round=10, learning_rate=0.1)
        state, _ = trained(options, made, 300)
        start = squared_loss(made, simplex.uniform(PREDICTORS)) - best
        assert squared_loss(made, state.mean) - best < 0.25 * start


def test_rounds_are_a_function_of_state_and_seed():
    made, options = task(), FedBoost(clients_per_round=3)
    whole, _ = trained(options, made, 6)
    half, _ = trained(options, made, 3)
    for _ in range(3):
        half, _ = fed_boost.next_round(options, made, half, 0)
    for one, other in zip(whole, half, strict=True):
        np.testing.assert_array_equal(one, other)
    other, _ = trained(options, made, 6, seed=1)
    assert np.any(other.weights != whole.weights)


def test_the_mixture_goes_to_the_domain_that_is_worst_off():
    # One domain is served by the first predictor alone, the other by the last.
    y = np.zeros(20, np.int64)
    x = np.full((20, 2, 2), 0.5, np.float32)
    x[:10, 0], x[10:, 1] = [1, 0], [1, 0]
    x[:10, 1], x[10:, 0] = [0.2, 0.8], [0.6, 0.4]
    of = examples.Examples(x, y, np.array([0, 10, 20]), 2)
    made = fed_boost.Task.of(of, [1, 1])
    how = {'clients_per_round': 2, 'learning_rate': 0.3}
    fair = FedBoost(agnostic=True, domain_learning_rate=0.3, **how)
    after, _ = trained(fair, made, 500)
    # By hand: the losses are 1.28 b^2 and 0.32 a^2 at weights a + b = 1; they meet at
    # a = 2 / 3, where the largest of both is least. Their mean is least at a = 0.8.
    np.testing.assert_allclose(after.mean, [2 / 3, 1 / 3], atol=0.02)
    plain, _ = trained(FedBoost(**how), made, 300)
    np.testing.assert_allclose(plain.weights, [0.8, 0.2], atol=0.01)
    np.testing.assert_array_equal(plain.mixture, [0.5, 0.5])


def test_bytes_are_those_of_the_sent_predictors_and_their_numbers():
    made = task()
    _, row = trained(FedBoost(sent=4, clients_per_round=3), made, 1)
    # Of each of 3 clients: 1,000 bytes of predictors and 4 weights down; 4 numbers of
    # a gradient, the loss and the count up.
    assert row == {'bytes/down': 3 * (1000 + 16), 'bytes/up': 3 * 24}


@pytest.mark.parametrize(
    'options, said',
    [
        (FedBoost(sent=5), '5 predictors cannot be sent of 4'),
        (FedBoost(sent=1), 'needs pairs of predictors; give --sent=2'),
        (FedBoost(clients_per_round=6), r'6 clients a round are more .* \(5\)'),
        (FedBoost(floor=0.2), '--floor is for --sampling=weighted'),
        (FedBoost(domain_learning_rate=1.0), 'domain_learning_rate is for --agnostic'),
        (FedBoost(estimator='hinge'), 'must be one of pairs, squared, log'),
    ],
)
def test_what_does_not_fit_is_one_line(options, said):
    with pytest.raises(UserError, match=said):
        fed_boost.check_options(options, task())


def test_data_that_do_not_fit_are_one_line():
    with pytest.raises(UserError, match='not those of 2 predictors to 3 classes'):
        task(sizes=(1, 2))
    with pytest.raises(UserError, match='domain 0 has no examples'):
        task(domain=np.ones(5, int))
    with pytest.raises(UserError, match='no client has an example'):
        examples.Examples(np.zeros((0, 2)), np.zeros(0, int), np.array([0, 0]), 2)
    with pytest.raises(UserError, match='labels are from 0 to 3'):
        examples.Examples(np.zeros((2, 2)), np.array([0, 3]), np.array([0, 2]), 3)
