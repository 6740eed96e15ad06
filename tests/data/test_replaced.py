"""Arrays some of whose rows are others, beside copies of the whole."""

import numpy as np
import pytest

from tff_transfer import aligned
from tff_transfer.data.replaced import Replaced

BASE = np.arange(24, dtype=np.float32).reshape(8, 3)


@pytest.mark.parametrize('rows', [[], [2], [0, 3, 7]])
def test_it_is_read_as_a_copy_of_the_whole(rows):
    rows = np.array(rows, np.int64)
    values = -1 - np.arange(3 * len(rows), dtype=np.float32).reshape(-1, 3)
    whole = BASE.copy()
    whole[rows] = values
    found = Replaced(BASE, rows, values)
    assert (len(found), found.shape, found.ndim) == (8, (8, 3), 2)
    assert found.dtype == BASE.dtype
    some = np.array([7, 3, 3, 1, 0, 2])
    for asked in (slice(None), slice(2, 5), slice(6, 20), some, np.zeros(0, np.int64)):
        np.testing.assert_array_equal(found[asked], whole[asked])
    np.testing.assert_array_equal(aligned.take(found, some), whole[some])
    found[some][:] = 0  # A copy.
    np.testing.assert_array_equal(found[some], whole[some])
