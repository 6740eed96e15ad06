"""Rows that are gathered when they are used."""

import numpy as np
import pytest

from tff_transfer.data import cohorts, synthetic_writers
from tff_transfer.data.rows import PreparedRows, Rows, files_of
from tff_transfer.features.file_format import Compact


def twice(rows):
    return rows.astype(np.float64) * 2


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / 'x.npy', np.arange(40, dtype=np.float32).reshape(20, 2))
    return np.load(tmp_path / 'x.npy', mmap_mode='r')


def test_rows_between_are_those_rows():
    a, b = np.arange(10), np.arange(100, 110)
    rows = Rows([(a, np.array([3, 1, 4])), (b, np.array([1, 5]))], (), np.int64)
    everything = [3, 1, 4, 101, 105]
    for first in range(6):
        for last in range(first, 6):
            part = rows.between(first, last)
            assert part[:].tolist() == everything[first:last]
            assert len(part) == last - first


def test_prepared_rows_are_as_an_array_of_them(mapped):
    rows = PreparedRows(mapped, np.array([3, 1, 4, 1]), twice)
    expected = mapped[[3, 1, 4, 1]].astype(np.float64) * 2
    assert rows.shape == (4, 2) and rows.dtype == np.float64 and len(rows) == 4
    assert rows.nbytes == expected.nbytes
    np.testing.assert_array_equal(rows[1:3], expected[1:3])
    np.testing.assert_array_equal(rows.between(1, 4)[1:], expected[2:])


def test_which_rows_lie_in_files(mapped):
    gathered = mapped[[1, 2]]
    assert files_of(mapped)[0] is mapped and len(files_of(mapped[3:5])) == 1
    assert files_of(Compact(mapped)) == [mapped]
    assert files_of(PreparedRows(Compact(mapped), np.arange(3), twice)) == [mapped]
    pieces = [(mapped, np.arange(3)), (gathered, np.arange(1))]
    assert len(files_of(Rows(pieces[:1], (2,), np.float32))) == 1
    # Not all of it does.
    assert files_of(Rows(pieces, (2,), np.float32)) == []
    assert files_of(gathered) == [] and files_of(np.arange(3)) == []
    assert files_of(mapped[:, 0]) == []


def test_a_cohort_that_is_gathered_late_is_the_same(tmp_path):
    data = synthetic_writers.generate(4, examples_per_writer=9, seed=1)
    np.save(tmp_path / 'x.npy', data.x)
    data = data.with_x(np.load(tmp_path / 'x.npy', mmap_mode='r'))

    def made(late):
        return cohorts.training_cohort(
            data, [2, 0], batch_size=4, epochs=2, seed=3, round_number=1,
            transform=twice, late=late,
        )  # fmt: skip

    late, early = made(True), made(False)
    assert isinstance(late.examples['x'], PreparedRows)
    np.testing.assert_array_equal(late.examples['x'][:], early.examples['x'])
    for a, b in zip(late[1], early[1], strict=True):
        np.testing.assert_array_equal(a['x'], b['x'])
