"""Boosted trees: those of LightGBM, of all examples in one place, by secure sums."""

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld

from tff_transfer.boosting import bins as bins_of
from tff_transfer.boosting import examples, gradient_boosting, trees
from tff_transfer.boosting.bins import Bins
from tff_transfer.boosting.gradient_boosting import Boosting, Task
from tff_transfer.boosting.summing import Noise, Secure, Summing
from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import graphs, quantisation, simulation
from tff_transfer.secure_aggregation.parameters import Parameters

CLASSES, FEATURES, BINS = 3, 5, 8


def table(n=240, clients=6, seed=0, classes=CLASSES):
    """A small table: classes by two of its features, with noise."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, BINS, (n, FEATURES)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] * (x[:, 2] > 3) + 2 * draw.random(n)).astype(int)
    cuts = np.quantile(y, np.arange(1, classes) / classes)
    y = np.searchsorted(cuts, y, side='left')
    splits = np.sort(draw.choice(np.arange(1, n), clients - 1, replace=False))
    return examples.Examples(x, y, np.array([0, *splits, n]), classes)


# A bin for each value.
EDGES = Bins(np.tile(np.arange(BINS - 1, dtype=np.float32), (FEATURES, 1)))


def trained(task, seed=0):
    state = gradient_boosting.initialize(task)
    found = gradient_boosting.scores(state, task.columns)
    for _ in range(task.options.rounds):
        state, found, row = gradient_boosting.next_round(task, state, found, seed)
    return state, found, row


def nodes_of(tree, number=0, found=None):
    """LightGBM's tree as feature and last left value of each node, by its number."""
    found = {} if found is None else found
    if 'split_feature' in tree:
        found[number] = tree['split_feature'], int(np.floor(tree['threshold']))
        nodes_of(tree['left_child'], 2 * number + 1, found)
        nodes_of(tree['right_child'], 2 * number + 2, found)
    return found


@pytest.mark.parametrize(
    'classes, options',
    [
        # LightGBM would also split where nothing is gained but rounding.
        (3, Boosting(rounds=6, depth=3, min_gain=1e-6)),
        (2, Boosting(rounds=4, depth=2, learning_rate=0.5)),
        (4, Boosting(rounds=5, depth=3, penalty=2.0, min_hessian=4.0, min_gain=0.3)),
    ],
)
def test_of_one_client_they_are_those_of_lightgbm(classes, options):
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        pytest.skip(f'lightgbm cannot be loaded: {error}')
    of = table(classes=classes)
    one = examples.Examples(of.x, of.y, np.array([0, len(of.y)]), classes)
    state, found, _ = trained(Task.of(options, one, EDGES))
    # Values are numbers of bins, so that its bins are ours.
    parameters = {
        'objective': 'multiclass',
        'num_class': classes,
        'learning_rate': options.learning_rate,
        'max_depth': options.depth,
        'num_leaves': 2**options.depth,
        'lambda_l2': options.penalty,
        'min_sum_hessian_in_leaf': options.min_hessian,
        'min_gain_to_split': options.min_gain,
        'min_data_in_leaf': 0,
        'min_data_in_bin': 1,
        'feature_pre_filter': False,
        'enable_bundle': False,
        'use_missing': False,
        'deterministic': True,
        'force_col_wise': True,
        'num_threads': 1,
        'verbose': -1,
    }
    booster = lightgbm.train(parameters, lightgbm.Dataset(of.x, of.y), options.rounds)
    dumped = booster.dump_model()['tree_info']
    assert len(dumped) == options.rounds * classes
    for number, theirs in enumerate(dumped):
        feature, threshold = (
            getattr(state, what)[number // classes, number % classes]
            for what in ('feature', 'threshold')
        )
        ours = {
            node: (feature[node], threshold[node])
            for node in range(len(feature))
            if threshold[node] < BINS - 1
        }
        assert ours == nodes_of(theirs['tree_structure']), number
    raw = booster.predict(of.x, raw_score=True).T
    np.testing.assert_allclose(found, raw, atol=1e-5)


def test_leaf_values_and_splits_by_hand():
    # Two features in two bins; 4 examples with G of one output, H = 1.
    columns = np.array([[0, 0, 1, 1], [0, 1, 0, 1]], np.uint8)
    numbers = np.array([[-1.0, -2, 3, 4], [1, 1, 1, 1]])
    found = trees.histograms(columns, np.zeros(4, int), numbers, 1, 2)
    np.testing.assert_array_equal(found[0, 0], [[-3, 7], [2, 2]])
    split = trees.split(found, trees.Rule(penalty=1.0))
    assert (split.feature[0], split.threshold[0]) == (0, 0)
    np.testing.assert_array_equal(split.sums, [[-3, 7], [2, 2]])
    np.testing.assert_allclose(trees.values(split.sums, 1.0), [[1, -7 / 3]])
    # Gain by hand: 9 / 3 + 49 / 3 - 16 / 5 = 16.13.
    assert trees.split(found, trees.Rule(1.0, min_gain=16.2)).threshold[0] == 1
    assert trees.split(found, trees.Rule(1.0, min_gain=16.1)).threshold[0] == 0
    assert trees.split(found, trees.Rule(1.0, min_hessian=2.1)).threshold[0] == 1


def test_over_clients_they_are_those_of_all_examples_in_one_place():
    of, options = table(), Boosting(rounds=5, depth=3, features=4)
    apart = Task.of(options, of, EDGES)
    # The way of sums by client, with nothing done to the clients' vectors.
    object.__setattr__(apart, 'summing', ByClient())
    pooled = Task.of(
        options,
        examples.Examples(of.x, of.y, np.array([0, len(of.y)]), CLASSES),
        EDGES,
    )
    for one, other in zip(trained(apart)[0], trained(pooled)[0], strict=True):
        np.testing.assert_array_equal(one, other)


class ByClient(Summing):
    """The plain sum, one client after another in reverse order."""

    by_client = True

    def total(self, blocks, clients, sensitivity, generator):
        vectors = [vector for block in blocks for vector in block]
        assert len(vectors) == clients
        return sum(reversed(vectors))


def test_a_secure_sum_is_the_protocols_and_near_the_plain_one():
    draw = np.random.default_rng(0)
    vectors, secure = draw.normal(size=(4, 7)), Secure(clip=2.0, bits=20)
    found = Summing(secure).total([vectors[:3], vectors[3:]], 4, 0.0, draw)
    quantiser = secure.quantiser(4)
    whole = [quantisation.quantise(quantiser, vector) for vector in vectors]
    parameters = Parameters(bytes(16), graphs.complete(4), 2, 8, 20)
    total = simulation.run(parameters, whole).total
    np.testing.assert_array_equal(found, 4 * quantisation.mean(quantiser, total))
    bound = 4 * quantisation.error_bound(quantiser, 4, 4)
    assert np.abs(found - np.clip(vectors, -2, 2).sum(0)).max() <= bound < 1e-4


def test_trees_by_secure_sums_are_near_the_plain_ones():
    of, options = table(), Boosting(rounds=5, depth=3)
    plain = trained(Task.of(options, of, EDGES))[1]
    secure = Task.of(options, of, EDGES, Summing(Secure(clip=64.0)))
    np.testing.assert_allclose(trained(secure)[1], plain, atol=1e-3)


def test_epsilon_is_that_of_dp_accounting():
    noise = Noise(noise_multiplier=9.0, delta=1e-5)
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(9.0), 40)
    accountant = pld.PLDAccountant()
    accountant.compose(event)
    assert noise.epsilon(40) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-3)
    assert noise.epsilon(0) == 0
    task = Task.of(Boosting(rounds=8, depth=5), table(), EDGES, Summing(noise=noise))
    assert task.sums == 40


def test_no_example_changes_sums_by_more_than_is_said():
    of, draw = table(), np.random.default_rng(1)
    for classes in (2, 3, 10):
        made = table(classes=classes) if classes < 5 else of
        task = Task.of(Boosting(), made, EDGES)
        k = made.num_classes
        found = draw.normal(scale=5, size=(k, 1000))
        found[:, :2] = 1e3 * np.eye(k)[:, :2]
        numbers = gradient_boosting.derivatives(found, draw.integers(0, k, 1000))
        norms = np.sqrt(FEATURES * (numbers**2).sum((0, 1)))
        assert 0.8 * task.sensitivity < norms.max() <= task.sensitivity


@pytest.mark.parametrize('secure', [None, Secure(clip=100.0)])
@pytest.mark.parametrize('unit', ['client', 'example'])
def test_noise_has_the_scale_of_what_is_hidden(unit, secure):
    draw = np.random.default_rng(0)
    vectors = np.zeros((4, 20_000))
    vectors[:, 0] = 3, 4, 30, 0
    noise = Noise(2.0, unit) if unit == 'example' else Noise(2.0, unit, clip=5.0)
    found = Summing(secure, noise).total([vectors], 4, 7.0, draw)
    # A client's norm is cut to 5: 3 + 4 + 5, or as it is.
    centre, scale = (12, 10) if unit == 'client' else (37, 14)
    assert np.std(found[1:]) == pytest.approx(scale, rel=0.03)
    assert abs(found[0] - centre) < 4 * scale


def test_noise_is_of_seed_round_and_level_and_labels_are_not_counted():
    of = table()
    noisy = Task.of(Boosting(rounds=2), of, EDGES, Summing(noise=Noise(1.0)))
    np.testing.assert_array_equal(gradient_boosting.initialize(noisy).prior, [0, 0, 0])
    one, same, other = (trained(noisy, seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)
    assert np.isfinite(one).all()


def test_what_is_resumed_is_what_goes_on():
    task = Task.of(Boosting(rounds=6, depth=2, features=3), table(), EDGES)
    whole, scores, _ = trained(task)
    state = gradient_boosting.initialize(task)
    found = gradient_boosting.scores(state, task.columns)
    for number in range(6):
        if number == 3:  # From the trees alone, as after a kill.
            found = gradient_boosting.scores(state, task.columns)
        state, found, _ = gradient_boosting.next_round(task, state, found, 0)
    np.testing.assert_array_equal(found, scores)
    np.testing.assert_array_equal(gradient_boosting.scores(whole, task.columns), scores)


def test_bytes_by_hand():
    of = table()
    row = trained(Task.of(Boosting(rounds=1, depth=2), of, EDGES))[2]
    # Of each of 6 clients, for 3 trees: 1 and 2 nodes, 5 features, 8 bins, two float64.
    up = 3 * (1 + 2) * 5 * 8 * 2 * 8
    # Back: 3 nodes, a feature of 4 bytes and a bin; 4 leaves as float64.
    down = 3 * (3 * 5 + 4 * 8)
    assert row == {'bytes/down': 6 * down, 'bytes/up': 6 * up}
    secure = Task.of(Boosting(rounds=1, depth=2), of, EDGES, Summing(Secure()))
    row = trained(secure)[2]
    assert up / 2 < row['bytes/up'] / 6 < up / 2 + 2000


def test_edges_are_at_the_quantiles_of_all_clients():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(4000, 2)).astype(np.float32)
    x[:, 1] = np.where(x[:, 1] < 0, 0, x[:, 1])  # Half of them alike, as after a ReLU.
    of = examples.Examples(x, np.arange(4000) % 2, np.array([0, 1000, 1000, 4000]), 2)
    found = bins_of.agreed(of, 16)
    cell = np.ptp(x, axis=0) / 64
    wanted = np.quantile(x, np.arange(1, 16) / 16, axis=0).T
    assert np.all(np.abs(found.edges - wanted) <= cell[:, None] * 1.01)
    columns = found.columns(x)
    share = np.bincount(columns[1], minlength=16) / 4000
    assert share.max() == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(columns[0], (x[:, :1] > found.edges[0]).sum(1))
    # Extremes and 64 counts of 4 bytes up, extremes and 15 edges down.
    assert (found.bytes_up, found.bytes_down) == (16 + 2 * 64 * 4, 16 + 2 * 15 * 4)


def test_public_edges_hold_nothing_of_the_data():
    found = bins_of.public(3, 4)
    np.testing.assert_allclose(found.edges[2], [-0.674490, 0, 0.674490], atol=1e-5)
    assert found.bytes_up == found.bytes_down == 0


@pytest.mark.parametrize(
    'make, said',
    [
        (lambda: bins_of.public(3, 1), '1 bins cannot be had'),
        (
            lambda: bins_of.agreed(table().with_x(np.zeros((240, 2, 2))), 4),
            r'not inputs of shape \(240, 2, 2\)',
        ),
        (
            lambda: Task.of(Boosting(features=6), table(), EDGES),
            r'6 features a round are more than there are \(5\)',
        ),
        (
            lambda: Task.of(Boosting(), table(clients=2), EDGES, Summing(Secure())),
            '2 clients are too few, give 3 or more',
        ),
        (
            lambda: Task.of(
                Boosting(), table(), EDGES, Summing(noise=Noise(1.0, 'example', 2.0))
            ),
            '--clip is for --unit=client',
        ),
        (
            lambda: Task.of(
                Boosting(), table(), bins_of.agreed(table(), 4), Summing(noise=Noise())
            ),
            'tell of their examples without noise; take those of bins.public',
        ),
        (lambda: Task.of(Boosting(depth=13), table(), EDGES), 'must be at most 12'),
    ],
)
def test_what_does_not_fit_is_one_line(make, said):
    with pytest.raises(UserError, match=said):
        make()
