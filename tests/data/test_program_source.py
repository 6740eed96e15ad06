import copy
import gc

import numpy as np
import pytest
import tensorflow_federated as tff

from tff_transfer.data import cohorts, federated, program_source
from tff_transfer.errors import UserError


@pytest.fixture(scope='module')
def data():
    x = np.arange(60, dtype=np.float32).reshape(30, 2)
    return federated.from_rows('rows', x, np.arange(30) % 3, np.arange(30) // 6)


def assert_same(one, other):
    assert one.batch_size == other.batch_size
    np.testing.assert_array_equal(one.row_splits, other.row_splits)
    for name, array in one.examples.items():
        np.testing.assert_array_equal(array, other.examples[name])


def test_cohorts_are_functions_of_seed_and_round(data):
    iterator = program_source.CohortSource(
        data, batch_size=4, epochs=2, seed=7, max_examples=3
    ).iterator()
    for round_number in (1, 2, 3):
        clients = cohorts.choose_clients(5, 3, seed=7, round_number=round_number)
        expected = cohorts.training_cohort(
            data,
            clients,
            batch_size=4,
            epochs=2,
            seed=7,
            round_number=round_number,
            max_examples=3,
        )
        assert_same(iterator.select(3), expected)


def test_cohort_is_of_the_type_that_is_promised(data):
    source = program_source.CohortSource(data, batch_size=4)
    cohort = source.iterator().select(2)
    element = tff.types.tensorflow_to_type(cohort[0].element_spec)
    assert source.federated_type == tff.FederatedType(
        tff.SequenceType(element), tff.CLIENTS
    )
    assert source.iterator().federated_type == source.federated_type


def test_a_saved_place_is_found_again(data):
    source = program_source.CohortSource(data, batch_size=4, seed=1)
    iterator = source.iterator()
    iterator.select(2)
    saved, copied = iterator.to_bytes(), copy.deepcopy(iterator)
    assert len(saved) < 100
    second = iterator.select(2)
    loaded = program_source.CohortIterator.from_bytes(saved)
    assert loaded == copied and loaded != iterator
    assert_same(loaded.select(2), second)
    assert_same(copied.select(2), second)


def test_a_place_is_found_by_a_program_that_is_started_again(data):
    def source():
        same = data.select(range(5))
        return program_source.CohortSource(same, batch_size=4, seed=2)

    first = source().iterator()
    first.select(2)
    saved = first.to_bytes()
    expected = first.select(2)
    del first
    gc.collect()
    with pytest.raises(UserError, match='another data source'):
        program_source.CohortIterator.from_bytes(saved)
    # Equal sources come and go; what lives is found.
    again, _ = source().iterator(), source().iterator()
    del _
    gc.collect()
    loaded = type(again).from_bytes(saved)
    assert_same(loaded.select(2), expected)


@pytest.mark.parametrize('change', [{'seed': 2}, {'epochs': 2}, {'batch_size': 5}])
def test_a_place_of_another_source_is_refused(data, change):
    saved = program_source.CohortSource(data, batch_size=4).iterator().to_bytes()
    other = program_source.CohortSource(data, **{'batch_size': 4, **change})
    with pytest.raises(UserError, match='another data source') as error:
        type(other.iterator()).from_bytes(saved)
    assert '\n' not in str(error.value)


def test_a_cohort_needs_a_size(data):
    iterator = program_source.CohortSource(data, batch_size=4).iterator()
    with pytest.raises(UserError, match='number'):
        iterator.select()
    with pytest.raises(UserError, match='6 clients'):
        iterator.select(6)
    # A refused size is no round.
    assert iterator == program_source.CohortSource(data, batch_size=4).iterator()
