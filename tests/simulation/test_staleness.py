"""What updates count by their staleness, and what rules make of them, by hand."""

import numpy as np
import pytest

from tff_transfer.errors import UserError
from tff_transfer.simulation.timing.ca2fl import CA2FL
from tff_transfer.simulation.timing.fed_async import FedAsync
from tff_transfer.simulation.timing.fed_buff import FedBuff
from tff_transfer.simulation.timing.rule import Arrived

STALENESS = np.array([0, 1, 3, 8])


@pytest.mark.parametrize(
    ('options', 'counts'),
    [
        ({}, [1, 0.7071068, 0.5, 1 / 3]),
        ({'exponent': 1.0}, [1, 1 / 2, 1 / 4, 1 / 9]),
        ({'staleness': 'constant'}, [1, 1, 1, 1]),
        ({'staleness': 'hinge'}, [1, 1, 1, 1 / 41]),
        ({'staleness': 'hinge', 'slope': 0.5, 'grace': 1}, [1, 1, 1 / 2, 1 / 4.5]),
    ],
)
def test_updates_count_by_their_staleness(options, counts):
    sent = np.array([[2.0], [2.0], [2.0], [2.0]], np.float32)
    arrived = Arrived(sent, np.array([5.0], np.float32), STALENESS)
    np.testing.assert_allclose(FedBuff(**options).counts(STALENESS), counts, rtol=1e-6)
    deltas = FedBuff(**options).deltas(arrived)
    np.testing.assert_allclose(deltas[:, 0], 2 * np.array(counts), rtol=1e-6)
    # Weights of 2 where the server's are 5.
    deltas = FedAsync(alpha=0.5, **options).deltas(arrived)
    np.testing.assert_allclose(deltas[:, 0], 1.5 * np.array(counts), rtol=1e-6)


def test_ca2fl_adds_what_is_remembered_and_takes_each_ones_own():
    sent = np.array([[2.0, 1.0], [0.0, -1.0]], np.float32)
    last = np.array([[1.0, 1.0], [0.0, 0.0]], np.float32)
    arrived = Arrived(sent, None, np.array([0, 3]), last, np.array([0.25, 0.5]))
    deltas = CA2FL().deltas(arrived)
    np.testing.assert_array_equal(deltas, [[1.25, 0.5], [0.25, -0.5]])


def test_options_of_another_kind_are_refused():
    FedBuff(staleness='hinge', slope=2.0).check('fedbuff')
    with pytest.raises(UserError, match='--fedasync.grace is for .*staleness=hinge'):
        FedAsync(grace=1).check('fedasync')
    with pytest.raises(UserError, match='--fedbuff.exponent is for .*=polynomial'):
        FedBuff(staleness='constant', exponent=1.0).check('fedbuff')
