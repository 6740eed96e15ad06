"""Who was trained on: scores whose areas are known, and scikit-learn's curve."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from tff_transfer.audit import membership
from tff_transfer.errors import UserError


def models(count, targets, gap, seed=0):
    """Signals of models, N(own mean + gap if a member, own spread), and who is one."""
    draw = np.random.default_rng(seed)
    members = np.zeros((count, targets), bool)
    for column in members.T:
        column[draw.permutation(count)[: count // 2]] = True
    means = draw.normal(0, 5, targets)
    return means + gap * members + draw.normal(size=members.shape), members


def test_signals_are_log_odds():
    p = np.array([0.001, 0.5, 0.9, 0.999])
    found = membership.signals(-np.log(p))
    np.testing.assert_allclose(found, np.log(p / (1 - p)), rtol=1e-9)
    assert np.isfinite(membership.signals(np.array([0, 1e-9, 80.0], np.float32))).all()


@pytest.mark.parametrize('gap', [0.0, 0.5, 1.5])
def test_likelihood_ratios_reach_the_best_area(gap):
    signals, members = models(64, 2000, gap)
    found = membership.attack(membership.lira(signals, members), members)
    # Of two normals of one deviation; means from 32 models each blur them a little.
    assert found.area == pytest.approx(stats.norm.cdf(gap / np.sqrt(2)), abs=0.015)
    best = stats.norm.sf(stats.norm.isf(0.01) - gap)
    assert found.at_rate[0.01] == pytest.approx(best, rel=0.25)
    # The signal alone, whose targets differ by more than membership, is far below.
    alone = membership.attack(signals, members).area
    assert alone == pytest.approx(stats.norm.cdf(gap / np.sqrt(52)), abs=0.01)


def test_scores_leave_a_models_own_answer_out():
    signals, members = models(12, 40, 1.0)
    found = membership.lira(signals, members)
    for model, target in ((0, 0), (5, 7), (11, 39)):
        others = np.arange(12) != model
        parts = [
            signals[others & (members[:, target] == of), target] for of in (True, False)
        ]
        spread = [
            np.sqrt(
                np.mean([signals[m, t].var(ddof=1) for t, m in enumerate(columns.T)])
            )
            for columns in (members, ~members)
        ]
        expected = np.subtract(
            *(
                stats.norm.logpdf(signals[model, target], part.mean(), s)
                for part, s in zip(parts, spread, strict=True)
            )
        )
        assert found[model, target] == pytest.approx(expected)


def test_the_curve_is_scikit_learns():
    draw = np.random.default_rng(1)
    members = draw.random((3, 500)) < 0.5
    scores = np.round(draw.normal(size=members.shape) + members, 1)
    found = membership.attack(scores, members)
    area = metrics.roc_auc_score(members.ravel(), scores.ravel())
    assert found.area == pytest.approx(area)
    false, true, _ = metrics.roc_curve(
        members.ravel(), scores.ravel(), drop_intermediate=False
    )
    assert found.at_rate[0.01] is None and found.at_rate[0.001] is None  # Too few.
    assert (found.members, found.others) == (members.sum(), (~members).sum())
    np.testing.assert_allclose(
        np.interp(false, found.false_positives, found.true_positives)[-1], true[-1]
    )


def test_a_rate_is_that_of_the_threshold_that_keeps_to_it():
    members = np.r_[np.ones(2000, bool), np.zeros(2000, bool)]
    scores = np.r_[np.full(600, 2.0), np.zeros(1400), np.full(19, 3.0), np.zeros(1981)]
    found = membership.attack(scores, members)
    # 19 of 2,000 others, 0.95 %, stand above or beside the 600.
    assert found.at_rate == {0.01: 0.3, 0.001: None}


def test_too_few_shadow_models_are_refused():
    signals, members = models(4, 3, 1.0)
    with pytest.raises(UserError, match='give more --shadow_runs'):
        membership.lira(signals, members)
