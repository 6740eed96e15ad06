"""What personalisation brings, on clients whose numbers are worked out by hand."""

import csv
import dataclasses

import numpy as np
import pytest

from tff_transfer.data.federated import FederatedData
from tff_transfer.models import CLASSIFICATION
from tff_transfer.records import personalization, plots
from tff_transfer.records.predictions import Predictions

# Clients a and b train; c, who has no training examples, and d never do. Labels of
# training examples: a has two of class 0, b one each, c none, d four of class 1.
TRAIN, TEST = np.array([2, 2, 0, 4]), np.array([4, 2, 2, 0])
LABELS = [0, 0, *'0000', 0, 1, *'00', *'00', 1, 1, 1, 1]
# Which test examples of a, b and c each model gets right.
RIGHT = {
    'global': ([1, 1, 0, 0], [1, 0], [0, 0]),
    'alone': ([1, 1, 1, 0], [0, 0], [1, 0]),
    'central': ([1, 1, 1, 1], [1, 1], [1, 1]),
    'personal': ([1, 0, 0, 0], [1, 1], [1, 0]),
}


@pytest.fixture
def found():
    y = np.array(LABELS).astype(np.int32)
    x, names = np.zeros([len(y), 1], np.float32), ('a', 'b,2', 'c', 'd')
    data = FederatedData('four', x, y, names, TRAIN, TEST, 2)
    rows = {'seen': np.array([2, 3, 4, 5, 8, 9]), 'unseen': np.array([10, 11])}

    def predictions(right):
        of = {'seen': [*right[0], *right[1]], 'unseen': right[2]}
        return {
            part: Predictions(
                rows[part],
                y[rows[part]],
                1 - np.array(of[part]),
                {'accuracy': np.array(of[part], np.float32)},
            )
            for part in rows
        }

    by_model = {model: predictions(right) for model, right in RIGHT.items()}
    trained = dict.fromkeys(RIGHT, 'somehow')
    return personalization.compare(data, CLASSIFICATION, by_model, trained)


def test_each_client_by_each_model(found):
    assert found.client_ids == ('a', 'b,2', 'c')
    assert found.seen.tolist() == [True, True, False]
    assert found.train_examples.tolist() == [2, 2, 0]
    assert found.test_examples.tolist() == [4, 2, 2]
    assert found.values['global'].tolist() == [0.5, 0.5, 0]
    assert found.values['alone'].tolist() == [0.75, 0, 0.5]
    assert found.values['central'].tolist() == [1, 1, 1]
    assert found.values['personal'].tolist() == [0.25, 1, 0.5]


def test_gain_is_over_the_better_of_global_and_alone(found):
    assert found.gain.tolist() == [-0.5, 0.5, 0]
    lowest = dataclasses.replace(CLASSIFICATION, highest=False)
    # Of a loss the lower one is better.
    assert dataclasses.replace(found, task=lowest).gain.tolist() == [0.25, -1, -0.5]


def test_label_skew_is_the_distance_from_all_clients(found):
    # All eight training examples: 3/8 of class 0. a: 1 of it, b: 1/2.
    np.testing.assert_allclose(found.label_skew, [5 / 8, 1 / 8, np.nan])


def test_the_table(found):
    head, *rows = found.table()
    assert head == [
        'model',
        *('seen, by client', 'by example', 'worst tenth'),
        *('unseen, by client', 'by example', 'worst tenth'),
    ]
    assert rows == [
        ['global', '50.0%', '50.0%', '50.0%', '0.0%', '0.0%', '0.0%'],
        ['alone', '37.5%', '50.0%', '0.0%', '50.0%', '50.0%', '50.0%'],
        ['central', '100.0%', '100.0%', '100.0%', '100.0%', '100.0%', '100.0%'],
        ['personal', '62.5%', '50.0%', '25.0%', '50.0%', '50.0%', '50.0%'],
    ]


def test_who_is_hurt(found):
    seen, unseen = found.hurt()
    assert seen.startswith('50.0% of 2 seen clients are hurt (by 50.0% on average), ')
    assert '0.0% as well off, 50.0% better off' in seen
    assert unseen.startswith('0.0% of 1 unseen clients are hurt, 100.0% as well off')
    assert repr(found).splitlines()[-2:] == [seen, unseen]
    lost = found.values | {'personal': np.array([np.nan, 1, 0.5])}
    assert '50.0% of 2' in dataclasses.replace(found, values=lost).hurt()[0]


def test_the_worst_tenth_is_one_client_at_least():
    values = np.arange(30.0)[::-1]
    assert personalization.worst_tenth(values, highest=True) == 1
    assert personalization.worst_tenth(values, highest=False) == 28
    assert personalization.worst_tenth(values[:11], highest=True) == 19.5
    assert personalization.worst_tenth(values[:1], highest=True) == 29
    values[3] = np.nan
    assert np.isnan(personalization.worst_tenth(values, highest=True))


def test_the_file_has_a_row_for_each_client(found, tmp_path):
    personalization.write(found, tmp_path / 'found.csv')
    with open(tmp_path / 'found.csv', newline='') as file:
        rows = list(csv.reader(file))
    assert rows == [
        [
            *('client', 'part', 'train_examples', 'test_examples', 'label_skew'),
            *(f'{model}/accuracy' for model in RIGHT),
        ],
        ['a', 'seen', '2', '4', '0.625', '0.5', '0.75', '1.0', '0.25'],
        ['b,2', 'seen', '2', '2', '0.125', '0.5', '0.0', '1.0', '1.0'],
        ['c', 'unseen', '0', '2', '', '0.0', '0.5', '1.0', '0.5'],
    ]


def test_gains_are_drawn_by_client(found):
    figure = plots.gains(found.gain, found.seen, found.train_examples, 'size')
    drawn = [c.get_offsets().tolist() for c in figure.axes[0].collections]
    assert drawn == [[[2, -0.5], [2, 0.5]], [[0, 0]]]
    assert figure.axes[0].get_xlabel() == 'size'
