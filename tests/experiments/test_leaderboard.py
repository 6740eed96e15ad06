"""Who stands where, by hand; and a small leaderboard as it is typed."""

import pytest
from absl import flags
from test_compare_report import outcome

from experiments.compare import axes, figures, report, running
from experiments.compare.figures import Found
from experiments.leaderboard import __main__ as leaderboard
from experiments.leaderboard import picture, standings
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config


def several(name, right, accuracies, seeds=3):
    """Returns a method with as many seeds, whose runs differ by a round's bytes."""
    runs = {}
    for seed in range(seeds):
        later = (0.1,) * (seed % 2)
        runs[seed] = outcome(right, accuracies=(*later, *accuracies))
    return Found(name, runs)


def test_standings_by_hand():
    found = [
        several('slow', [4, 4, 4, 3], (0.1, 0.2, 0.3, 0.4, 0.9)),
        several('fast', [4, 4, 3, 3], (0.1, 0.95, 0.9)),
        several('never', [4, 4, 0, 4], (0.1, 0.2, 0.3)),
        several('local', [4, 4, 4, 4], (0.1, 0.9, 0.99)),
    ]
    judged = figures.judged(found)
    accuracy, worst, travelled = standings.standings(found, judged, 0.85)
    assert accuracy.ranked == ('slow', 'fast', 'never')  # The reference has no rank.
    assert accuracy.values['slow'] == 0.875
    assert worst.values == {'slow': 0.75, 'fast': 0.75, 'never': 0}
    assert worst.ranked[-1] == 'never'
    # 3 MB a round; with seed 1 a round more: 1, 2, 1 rounds, and 4, 5, 4.
    assert travelled.ranked == ('fast', 'slow')
    assert travelled.values == pytest.approx({'fast': 4, 'slow': 13})
    assert travelled.interval('fast', 'slow') == (-9, -9)
    assert travelled.apart('fast', 'slow')
    row = travelled.row()
    assert row[1:3] == ['fast: 4', 'slow: 13'] and row[4] == 'none'
    assert standings.target_of(found) == pytest.approx(0.89)


def test_one_seed_says_nothing_of_bytes():
    found = [
        several('slow', [4, 4, 4, 3], (0.1, 0.2, 0.9), seeds=1),
        several('fast', [4, 4, 3, 3], (0.1, 0.9, 0.9), seeds=1),
    ]
    *_, travelled = standings.standings(found, figures.judged(found), 0.85)
    assert travelled.row()[3:] == [
        '-3 (one seed: no interval)',
        'one seed does not tell',
    ]
    *_, missed = standings.standings(found, figures.judged(found), 0.99)
    assert missed.row()[1] == 'no method'


def test_the_picture_has_all_methods():
    found = [
        several('slow', [4, 4, 4, 3], (0.1, 0.2, 0.9)),
        several('local', [4, 4, 0, 0], (0.1, 0.9, 0.9)),
        several('fast', [4, 4, 3, 3], (0.1, 0.9, 0.9)),
    ]
    judged = figures.judged(found)
    tested = report.Page('', {}, found, judged, {}, '').tested[0]
    costs = standings.standings(found, judged, 0.85)[2:]
    (said,) = standings.of_references(tested)
    # Two clients of 4 examples, of which local has none right.
    assert said.startswith('Each client alone (local) comes to 0.00%, from which slow')
    assert 'slow cannot be told apart: by +87.50 (' in said
    first, second = picture.drawn(judged, tested, costs).axes
    names = [label.get_text() for label in first.get_yticklabels()]
    assert names == ['slow', 'fast', 'local (reference)']
    assert second.get_xlabel() == 'MB to 85.0%'


def test_what_is_given_comes_before_the_defaults():
    values = flags.FlagValues()
    axes.define_flags(Config, values)
    values(['program', '--data_path=mine.npz', '--rounds=7', '--seed=0..4'])
    found = leaderboard.given(values)
    assert found['rounds'] == (7,) and found['seed'] == (0, 1, 2, 3, 4)
    assert found['server_optimizer'] == ('sgd',)
    assert set(found['algorithm']) == {*registry.NAMES} - {'central'}
    assert set(standings.reasons(registry.NAMES)) == {'central'}


def test_defaults_that_do_not_suit_are_no_matter(tmp_path):
    values = flags.FlagValues()
    axes.define_flags(Config, values)
    values(['program', '--dataset=synthetic_alpha_beta', '--model=mlp'])
    asked = {**leaderboard.given(values), 'algorithm': ('fedavg',)}
    assert asked['baselines'] == (False,)  # Which FedAvg does not have.
    with pytest.raises(UserError, match='--baselines is not for'):
        running.planned(asked, str(tmp_path))
    plan = running.planned(asked, str(tmp_path), where_it_fits=['baselines'])
    assert [arm.name for arm in plan.arms] == ['fedavg']
    assert len(plan.arms[0].configs) == 3


def test_each_method_is_there_or_left_out(tmp_path):
    values = flags.FlagValues()
    axes.define_flags(Config, values)
    values(['program', '--data_path=mine.npz'])
    plan = running.planned(
        leaderboard.given(values),
        str(tmp_path),
        skip_unfit=True,
        where_it_fits=[*leaderboard.DEFAULTS],
    )
    # The head is linear, and no GAN.
    assert set(plan.left_out) == {'moon', 'fedproto', *registry.OF_GANS}
    names = {arm.name: registry.name_of(arm.configs[0].algorithm) for arm in plan.arms}
    assert [*names] == [*names.values()]
    assert {*names, *plan.left_out, 'central'} == {*registry.NAMES}


def test_jobs_are_counted(tmp_path):
    asked = {
        **{name: axes.Axis(it) for name, it in leaderboard.DEFAULTS.items()},
        'dataset': ('synthetic_writers',),
        'algorithm': ('fedavg', 'ditto', 'ridge'),
    }
    del asked['fleet']
    plan = running.planned(asked, str(tmp_path), budget=8, processes=2)
    # Eight trials, and two of all rounds, for each method that has rates.
    assert plan.jobs == (2 * (8 + 2), 3 * 3)
    # 3 s each; 0.04 s a round; and 1.5 s for each of Ditto's evaluations.
    trials = 2 * (10 * 3 + 0.04 * (8 * 8 + 2 * 30))
    runs = 3 * (3 + 1.2 + 3 + 1.2 + 1.5 * 30 / 5 + 3 + 0.04)
    assert leaderboard.estimate(plan) == pytest.approx((trials + runs) / 2 / 60)
