"""What a grid says of its runs: figures by hand, failed runs, LaTeX."""

import csv
import io

import numpy as np
import pytest

from experiments.compare import curves, figures, report, verdicts
from experiments.compare.figures import Found
from experiments.compare.outcomes import Clients, Outcome
from experiments.compare.search import Tuned

NAMES = ('a', 'b', 'c', 'd')


def outcome(right, all_right=None, accuracies=(0.1, 0.5, 0.75), extra=None):
    """Returns a run: two seen clients and two unseen ones, 4 test examples each.

    Without `all_right`, unseen clients adapt on their other 6 examples.
    """
    unseen = np.array([False, False, True, True])
    examples = np.full(4, 4)
    whole = examples if all_right is None else np.where(unseen, 10, 4)
    clients = Clients(
        NAMES,
        unseen,
        examples,
        np.array(right, float),
        whole,
        np.array(right if all_right is None else all_right, float),
    )
    rows = [
        {
            'round': number,
            'unseen/accuracy_per_client': accuracy,
            'bytes/up': 1e6 if number else None,
            'bytes/down': 2e6 if number else None,
            'time/total_s': number * 1.5,
            **(extra(number) if extra else {}),
        }
        for number, accuracy in enumerate(accuracies)
    ]
    return Outcome(clients, rows, 'sha')


def test_all_are_judged_by_the_test_examples_where_some_adapt():
    adapts = Found('own', {0: outcome([4, 2, 1, 3])})
    others = Found('shared', {0: outcome([4, 4, 2, 2], [4, 4, 10, 0])})
    both = figures.judged([adapts, others])
    assert not both.all_examples
    np.testing.assert_array_equal(both.values, [[1, 0.5, 0.25, 0.75], [1, 1, 0.5, 0.5]])
    alone = figures.judged([others])
    assert alone.all_examples
    np.testing.assert_array_equal(alone.values, [[1, 1, 1, 0]])
    assert not figures.judged([adapts]).all_examples


def test_other_clients_are_not_compared():
    first = Found('first', {0: outcome([4, 2, 1, 3])})
    other = outcome([4, 2, 1, 3])
    other.clients.examples[3] = 5
    other.clients.all_examples[3] = 5
    found = [first, Found('second', {0: other})]
    judged = figures.judged(found)
    assert judged.differs
    page = report.Page('', {}, found, judged, {}, '')
    assert page.tested == []
    # What metrics.csv says of unseen clients is in the table all the same.
    assert figures.table(found, judged)[1][2] == '75.00%'


def test_mean_and_spread_over_seeds_by_hand():
    found = Found('x', {0: outcome([4, 4, 4, 2]), 1: outcome([2, 2, 2, 2])})
    numbers = figures.numbers(found, figures.judged([found]))
    assert numbers['unseen clients'].values == (0.75, 0.5)
    assert numbers['unseen clients'].mean == 0.625
    assert numbers['unseen clients'].spread == pytest.approx(0.25 / 2**0.5)
    assert numbers['seen clients'].values == (1, 0.5)
    assert numbers['their worst tenth'].values == (0.5, 0.5)
    assert numbers['MB'].values == (6, 6)
    assert str(numbers['seconds']) == '3 ± 0'
    assert 'simulated s' not in numbers and 'epsilon' not in numbers


def test_a_failed_run_stands_in_its_row(tmp_path):
    good = outcome([4, 4, 4, 2])
    found = [
        Found('bad_name', {}, ('seed 0: round 3 diverged',)),
        Found('half', {1: good}, ('seed 0: killed & <gone>',), Tuned({'mu': 0.1})),
        Found('whole', {0: good, 1: good}),
    ]
    judged = figures.judged(found)
    page = report.Page('A page', {}, found, judged, {'moon': 'no'}, 'python')
    path = report.write(tmp_path, 'compare', page)
    table = figures.table(report.ranked(found, page.tested), judged)
    assert [row[:2] for row in table[1:]] == [
        ['half', '1'],
        ['whole', '2'],
        ['bad_name', '0'],
    ]
    assert [row[-1] for row in table] == [
        *('failed', 'seed 0: killed & <gone>', '', 'seed 0: round 3 diverged')
    ]
    assert 'killed &amp; &lt;gone&gt;' in path.read_text()
    rows = [*csv.DictReader(io.StringIO((tmp_path / 'compare.csv').read_text()))]
    assert [row['unseen clients mean'] for row in rows] == ['0.75', '0.75', '']
    assert [row['unseen clients n'] for row in rows] == ['1', '2', '0']
    assert [row['chosen'] for row in rows] == ['mu=0.1', '-', '-']
    latex = (tmp_path / 'compare.tex').read_text()
    assert r'killed \& $<$gone$>$' in latex and r'bad\_name' in latex
    assert r'75.00\% $\pm$ 0.00\%' in latex
    assert latex.startswith('\\begin{tabular}{lr') and '\\toprule' in latex


def test_latex_escapes_what_it_reads_otherwise():
    assert report.latex('a_b & 5 % {x} #1 $2') == r'a\_b \& 5 \% \{x\} \#1 \$2'
    assert report.latex('~^\\') == (
        r'\textasciitilde{}\textasciicircum{}\textbackslash{}'
    )
    found = report.latex_table([['', 'n'], ['a_b', '1']], texts=1)
    assert found.splitlines() == [
        r'\begin{tabular}{lr}',
        r'\toprule',
        r' & n \\',
        r'\midrule',
        r'a\_b & 1 \\',
        r'\bottomrule',
        r'\end{tabular}',
    ]


def test_curves_are_over_what_was_spent():
    def extra(number):
        return {'time/simulated_s': 10.0 * number, 'privacy/epsilon': None}

    runs = {
        0: outcome([4] * 4, accuracies=(0.1, 0.5, 0.7), extra=extra),
        1: outcome([4] * 4, accuracies=(0.1, 0.7, None), extra=extra),
    }
    each = Found('x', runs)
    # Of the rounds that both evaluated there is one, after the first row.
    for cost, spent in (
        ('round', 1),
        ('MB, up and down', 3),
        ('simulated seconds', 10),
    ):
        x, mean, spread = curves.curve(each, cost)
        assert (x.tolist(), mean.tolist()) == ([spent], [0.6])
        assert spread == pytest.approx(0.2 / 2**0.5)
    assert not len(curves.curve(each, 'epsilon')[0])
    assert len(curves.drawn([each]).axes) == 3
    assert len(curves.drawn([Found('x', {0: outcome([4] * 4)})]).axes) == 2
    rows = runs[0].rows
    assert curves.cost_to(rows, 'MB, up and down', 0.5) == 3
    assert curves.cost_to(rows, 'MB, up and down', 0.6) == 6
    assert curves.cost_to(rows, 'MB, up and down', 0.8) is None
    assert curves.cost_to(rows, 'epsilon', 0.5) is None


def test_words_say_who_cannot_be_told_apart():
    draw = np.random.default_rng(0)
    base = draw.integers(40, 80, 60)

    def run(more):
        right = base + more + draw.integers(0, 2, 60)
        clients = Clients(
            tuple(map(str, range(60))),
            np.ones(60, bool),
            *(np.full(60, 100), right.astype(float)) * 2,
        )
        return Found(f'plus {more}', {0: Outcome(clients, outcome([4] * 4).rows, '')})

    (tested,) = verdicts.tested(figures.judged([run(0), run(9), run(10), run(0)]))
    assert tested.on == verdicts.UNSEEN
    said = ' '.join(verdicts.said(tested))
    assert said.startswith('plus 10 has the highest mean')
    assert 'It is told apart from plus 9 and 2 more: there by +1.' in said
    assert said.endswith('plus 0 cannot be told apart from plus 0.')
    assert [tested.names[arm] for arm in tested.ranked[:2]] == ['plus 10', 'plus 9']
    pair = tested.against(1, 2)
    assert pair.difference < 0 and pair.low < pair.difference < pair.high < 0
    assert pair.difference == -tested.against(2, 1).difference
    table = verdicts.table(tested)
    assert len(table) == 1 + 6
    assert table[1][:2] == ['plus 10', 'plus 9'] and table[1][-1] == 'yes'
