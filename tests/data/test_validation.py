"""Examples that are held out."""

import numpy as np

from tff_transfer.data import validation
from tff_transfer.data.federated import FederatedData


def make_data():
    x = np.arange(60, dtype=np.float32).reshape(30, 2)
    return FederatedData(
        'some',
        x,
        (np.arange(30) % 4).astype(np.int32),
        ('a', 'b', 'c'),
        np.array([10, 1, 7]),
        np.array([5, 4, 3]),
        4,
    )


def test_training_examples_are_divided_and_no_others_are_there():
    data = make_data()
    found = validation.held_out(data, [2, 0, 1], fraction=0.3, seed=0)
    assert found.client_ids == ('c', 'a', 'b')
    assert found.num_test.tolist() == [2, 3, 0]
    assert found.num_train.tolist() == [5, 7, 1]
    for place, client in enumerate([2, 0, 1]):
        rows = slice(*found.row_splits[place : place + 2])
        own = data.train_rows(client)
        order = np.argsort(found.x[rows, 0])
        np.testing.assert_array_equal(found.x[rows][order], data.x[own])
        np.testing.assert_array_equal(found.y[rows][order], data.y[own])
        assert len(own_rows := found.x[rows]) < 3 or not np.array_equal(
            own_rows, data.x[own]
        )


def test_the_draw_is_a_function_of_seed_and_client():
    data = make_data()
    first = validation.held_out(data, [0, 2], fraction=0.3, seed=0)
    again = validation.held_out(data, [2], fraction=0.3, seed=0)
    np.testing.assert_array_equal(first.x[first.row_splits[1] :], again.x)
    other = validation.held_out(data, [2], fraction=0.3, seed=1)
    assert not np.array_equal(other.x, again.x)
