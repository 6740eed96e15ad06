"""Rules of selection beside their papers, in a few lines of NumPy each."""

import itertools

import numpy as np
import pytest

from tff_transfer.data import cohorts
from tff_transfer.errors import UserError
from tff_transfer.simulation.selection import class_balance
from tff_transfer.simulation.selection.adaptive import Adaptive
from tff_transfer.simulation.selection.by_examples import ByExamples
from tff_transfer.simulation.selection.by_loss import ByLoss
from tff_transfer.simulation.selection.class_balance import ClassBalance
from tff_transfer.simulation.selection.known import Known
from tff_transfer.simulation.selection.oort import Oort
from tff_transfer.simulation.selection.power_of_choice import PowerOfChoice
from tff_transfer.simulation.selection.registry import RULES
from tff_transfer.simulation.selection.round_robin import RoundRobin

DRAWS = 2000


def known(count, **fields):
    """Returns what is known of so many clients before the first round."""
    nothing = {
        'population': count,
        'cohort': 4,
        'examples': np.full(count, 10),
        'labels': np.full([count, 2], 5),
        'losses': np.full(count, np.nan),
        'squared_losses': np.full(count, np.nan),
        'last': np.zeros(count, np.int64),
        'times': np.zeros(count, np.int64),
        'seconds': np.full(count, np.nan),
    }
    return Known(np.arange(count), **{**nothing, **fields})


def chosen(rule, what, size, *, seed=0, round_number=1, losses=None):
    return rule.choose(
        what,
        size,
        seed=seed,
        round_number=round_number,
        loss_of=lambda places: np.asarray(losses)[places],
    )


def shares(rule, what, size, **named):
    """Returns how often each client is chosen, over seeds."""
    found = np.zeros(len(what))
    for seed in range(DRAWS):
        places = chosen(rule, what, size, seed=seed, **named)
        assert len(set(places)) == size
        found[places] += 1
    return found / DRAWS


def in_order(weights, size):
    """Yields each ordered draw without replacement and its probability."""
    for order in itertools.permutations(range(len(weights)), size):
        probability, left = 1.0, sum(weights)
        for place in order:
            probability *= weights[place] / left
            left -= weights[place]
        yield order, probability


def inclusion(weights, size):
    found = np.zeros(len(weights))
    for order, probability in in_order(weights, size):
        found[list(order)] += probability
    return found


def assert_drawn(found, expected):
    """Holds shares within 4.5 standard deviations of what they should be."""
    deviation = np.sqrt(expected * (1 - expected) / DRAWS)
    assert (np.abs(found - expected) <= 4.5 * deviation + 1e-9).all(), (found, expected)


def test_clients_by_examples_and_by_loss():
    weights = np.array([1, 2, 3, 6, 0])
    expected = [*inclusion(weights[:4], 2), 0]
    found = shares(ByExamples(), known(5, examples=weights), 2)
    assert_drawn(found, np.array(expected))
    found = shares(ByLoss(), known(5, losses=weights / 7), 2)
    assert_drawn(found, np.array(expected))
    # Who told none comes first; one of weight 0 where nobody else is left.
    some = known(5, losses=np.array([1.0, np.nan, 3.0, np.nan, 0.0]))
    found = shares(ByLoss(), some, 3)
    assert_drawn(found, np.array([0.25, 1, 0.75, 1, 0]))
    assert set(chosen(ByLoss(), some, 5)) == set(range(5))


def test_power_of_choice_takes_the_highest_losses_of_its_candidates():
    examples, losses = np.array([1, 1, 2, 4]), np.array([0.1, 0.9, 0.5, 0.2])
    expected = np.zeros(4)
    for order, probability in in_order(examples, 2):
        expected[max(order, key=lambda place: losses[place])] += probability
    what = known(4, examples=examples)
    assert_drawn(shares(PowerOfChoice(), what, 1, losses=losses), expected)
    told = known(4, examples=examples, losses=losses)
    assert_drawn(shares(PowerOfChoice(stale=True), told, 1), expected)
    assert list(chosen(PowerOfChoice(d=4), what, 2, losses=losses)) == [1, 2]
    # Who never told is as if of infinite loss.
    told = known(4, examples=examples, losses=np.array([np.nan, 0.9, 0.5, np.nan]))
    assert set(chosen(PowerOfChoice(d=4, stale=True), told, 2)) == {0, 3}
    assert chosen(PowerOfChoice(d=4, stale=True), told, 3)[2] == 1


@pytest.mark.parametrize(('rule', 'asked'), [(3, 3), (None, 4), (6, 6)])
def test_power_of_choice_asks_its_candidates_alone(rule, asked):
    questions = []

    def loss_of(places):
        questions.append(set(places))
        return np.zeros(len(places))

    rule = PowerOfChoice(d=rule)
    rule.choose(known(6), 2, seed=0, round_number=1, loss_of=loss_of)
    assert [len(q) for q in questions] == [asked]
    PowerOfChoice(stale=True).choose(
        known(6), 2, seed=0, round_number=1, loss_of=loss_of
    )
    assert len(questions) == 1


@pytest.mark.parametrize('separation', [None, 3])
def test_clients_in_turn_keep_their_separation_whoever_is_present(separation):
    rule, draw, rounds = RoundRobin(separation=separation), np.random.default_rng(0), []
    everyone = known(23)
    for number in range(1, 121):
        there = everyone.of(np.flatnonzero(draw.random(23) < draw.random()))
        size = min(4, len(there))
        places = (
            chosen(rule, there, size, round_number=number) if size else there.clients
        )
        assert len(set(places)) == len(places) <= 4
        rounds.append(set(there.clients[places]))
    assert max(map(len, rounds)) == 4 and min(map(len, rounds)) < 4
    for client in range(23):
        mine = [n for n, clients in enumerate(rounds) if client in clients]
        assert len(mine) > 1 and (np.diff(mine) % (separation or 5) == 0).all()
    whole = chosen(rule, everyone, 4, round_number=7)
    if separation is None:
        named = {'seed': 0, 'round_number': 7}
        assert list(whole) == list(cohorts.choose_in_turn(23, 4, **named))
    assert len(whole) == 4


def test_a_round_of_a_turn_in_which_nobody_is_present_is_empty():
    rule, there = RoundRobin(separation=2), known(6).of(np.array([3]))
    sizes = [len(chosen(rule, there, 1, round_number=n)) for n in (1, 2)]
    assert sorted(sizes) == [0, 1]


@pytest.mark.parametrize(
    ('rule', 'words'),
    [
        (RoundRobin(separation=6), '23 clients are 5 disjoint cohorts of 4'),
        (PowerOfChoice(d=3), 'but 4 of 23 clients take part in a round; give 4 to 23'),
        (PowerOfChoice(d=24), 'give 4 to 23'),
    ],
)
def test_options_that_do_not_go_with_the_number_of_clients(rule, words):
    with pytest.raises(UserError, match=words):
        rule.check(4, 23)
    RoundRobin(separation=5).check(4, 23)
    PowerOfChoice(d=4).check(4, 23)
    PowerOfChoice(d=23).check(4, 23)


def test_the_imbalance_of_classes():
    # (3/4 - 1/2)^2 twice; one class alone of four: (3/4)^2 + 3 (1/4)^2.
    assert class_balance.imbalance(np.array([3, 1])) == pytest.approx(1 / 8)
    assert class_balance.imbalance(np.array([0, 7, 0, 0])) == pytest.approx(3 / 4)
    assert class_balance.imbalance(np.array([[4, 4], [1, 1]])) == pytest.approx([0, 0])


def test_class_balance_draws_by_the_union():
    labels = np.array([[6, 1, 2], [1, 7, 1], [2, 2, 9], [5, 5, 1], [0, 3, 3]])
    times, number, exploration = np.array([1, 2, 4, 8, 1]), 5, 0.7

    def qcid(some):
        counts = labels[list(some)].sum(axis=0)
        return np.sum((counts / counts.sum() - 1 / 3) ** 2)

    bonus = exploration * np.sqrt(3 * np.log(number) / (2 * times))
    first = np.array([1 / qcid([c]) for c in range(5)]) + bonus
    expected = np.zeros(5)
    for a in range(5):
        others = [c for c in range(5) if c != a]
        second = np.array([qcid([a, b]) ** -2 for b in others])
        for b, probability in zip(others, second / second.sum(), strict=True):
            last = [c for c in others if c != b]
            third = np.array([qcid([a, b, c]) ** -3 for c in last])
            for c, rest in zip(last, third / third.sum(), strict=True):
                expected[[a, b, c]] += first[a] / first.sum() * probability * rest
    what = known(5, labels=labels, times=times)
    found = shares(ClassBalance(exploration), what, 3, round_number=number)
    assert_drawn(found, expected)
    # Who never took part comes first, but for one without examples.
    times = np.array([1, 2, 0, 8, 1])
    assert chosen(ClassBalance(), known(5, labels=labels, times=times), 2)[0] == 2
    labels[2] = 0
    what = known(5, labels=labels, times=times)
    assert chosen(ClassBalance(), what, 5)[-1] == 2


def test_class_balance_finds_what_a_greedy_choice_misses():
    # The paper's figure 3: the first has all classes, and of the others the last two
    # complete each other.
    rows = ('555555', '666660', '000aaa', 'aaa000')
    labels = np.array([[int(n, 16) for n in row] for row in rows])
    what = known(4, labels=labels, times=np.ones(4, np.int64))
    found = shares(ClassBalance(), what, 3)

    def qcid(*some):
        return class_balance.imbalance(labels[list(some)].sum(axis=0))

    second = np.array([qcid(0, c) ** -2.0 for c in (1, 2, 3)])
    second /= second.sum()
    # After the second client the rest of {0, 2, 3} has imbalance 0: it always comes.
    after = np.array([qcid(0, 1, c) ** -3.0 for c in (2, 3)])
    greedy = second[0] * after / after.sum()
    expected = [1, second[0], second[1] + second[2] + greedy[0], 0]
    expected[3] = second[1] + second[2] + greedy[1]
    assert_drawn(found, np.array(expected))


def test_adaptive_choice_is_active_federated_learning():
    examples = np.array([4, 9, 16, 1, 25, 36])
    losses = np.array([1.0, 0.5, 2.0, 0.3, 1.0, 0.1])
    values = np.sqrt(examples) * losses  # 2, 1.5, 8, 0.3, 5, 0.6
    rule = Adaptive(dropped=0.5, temperature=0.2, uniform=0.3)
    weights = np.where(values >= 2, np.exp(0.2 * values), 0)
    by_value = inclusion(weights[[0, 2, 4]], 2)
    expected = np.zeros(6)
    expected[[0, 2, 4]] = by_value
    expected += (1 - expected) / 4  # The third is any of the four left.
    what = known(6, examples=examples, losses=losses)
    assert_drawn(shares(rule, what, 3), expected)
    losses[[1, 3, 5]] = np.nan
    found = shares(rule, known(6, examples=examples, losses=losses), 3)
    # Two of the three that told none, then any of the four left.
    assert_drawn(found, np.array([1 / 4, 3 / 4, 1 / 4, 3 / 4, 1 / 4, 3 / 4]))


def told(**changed):
    """Returns what is known of four clients that took part."""
    fields = {
        'examples': np.array([10, 20, 30, 40]),
        'squared_losses': np.array([4.0, 1.0, 4.0, 9.0]),
        'last': np.array([1, 4, 2, 8]),
    }
    return known(4, **{**fields, **changed})


def test_utilities_of_oort():
    # 20, 20, 60 and 120, of which the last is clipped to the third; between 0 and 1.
    recent = np.sqrt(0.1 * np.log(9) / np.array([1, 4, 2, 8]))
    expected = np.array([0, 0, 1, 1]) + recent
    np.testing.assert_allclose(Oort().utilities(told(), 9), expected)
    # The preferred duration is that of the second; who has none is not penalised.
    seconds = np.array([5.0, 10.0, 20.0, np.nan])
    found = Oort(preferred=0.5, alpha=2.0).utilities(told(seconds=seconds), 9)
    np.testing.assert_allclose(found, expected * [1, 1, 1 / 4, 1])
    alike = told(examples=np.full(4, 3), squared_losses=np.ones(4))
    np.testing.assert_allclose(Oort().utilities(alike, 9), recent)


def test_oort_draws_by_utility_above_its_cutoff():
    utility = Oort().utilities(told(), 9)
    assert list(np.argsort(-utility)) == [2, 3, 0, 1]
    rule = Oort(exploration=0.0, cutoff=0.4)
    admitted = [0, 2, 3]  # The second has less than 0.4 of the fourth.
    assert utility[1] < 0.4 * utility[3] < utility[0]
    expected = np.zeros(4)
    expected[admitted] = inclusion(utility[admitted], 2)
    assert_drawn(shares(rule, told(), 2, round_number=9), expected)
    top = chosen(Oort(exploration=0.0, cutoff=1.0), told(), 2, round_number=9)
    assert set(top) == {2, 3}


@pytest.mark.parametrize(
    ('number', 'explored'),
    # 0.9 * 0.98^(R - 1) of 20, what is left rounded down: 0.1, 0.41 and 0.8 of 20.
    [(1, 18), (22, 12), (200, 4)],
)
def test_oort_explores_less_and_less(number, explored):
    squares, last = np.full(100, np.nan), np.zeros(100, np.int64)
    squares[:50], last[:50] = 1.0, 1
    what = known(100, squared_losses=squares, last=last)
    places = chosen(Oort(), what, 20, round_number=number)
    assert len(set(places)) == 20 and np.sum(places >= 50) == explored
    few = what.of(np.arange(53))  # Three are left that never took part.
    places = chosen(Oort(), few, 20, round_number=number)
    assert len(set(places)) == 20 and np.sum(places >= 50) == 3


@pytest.mark.parametrize('name', RULES.NAMES)
def test_the_choice_is_a_function_of_seed_and_round_also_of_some_clients(name):
    rule = RULES.options(name)()
    some = known(20).of(np.arange(5, 17))
    losses = np.linspace(0, 1, 12)

    def choices(seed):
        return [
            chosen(
                rule, some, 4, losses=losses, seed=seed, round_number=number
            ).tolist()
            for number in range(1, 6)
        ]

    assert choices(0) == choices(0) != choices(1)
    assert len(set(map(str, choices(0)))) > 1
    for places in choices(0):
        assert len(set(places)) == len(places) and set(places) <= set(range(12))
        if name not in ('poisson', 'roundrobin'):
            assert len(places) == 4
    everyone = [
        chosen(rule, some, 12, losses=losses, round_number=n).tolist() for n in (1, 2)
    ]
    if name not in ('poisson', 'roundrobin'):
        assert all(sorted(places) == list(range(12)) for places in everyone)
