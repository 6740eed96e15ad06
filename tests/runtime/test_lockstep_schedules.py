"""Every client takes all of its steps, in order, with others of the same size."""

import numpy as np
import pytest

from tff_transfer.runtime.layouts import ClientSequences, ClientTensors, starts_of
from tff_transfer.runtime.lockstep import arguments, schedules


def sizes_of_batches(draw, kind):
    clients = draw.integers(0, 12)
    if kind == 'any':
        return [list(draw.integers(0, 4, draw.integers(0, 6))) for _ in range(clients)]
    # Full batches and then one that is smaller, several times for several epochs.
    epochs = 1 + (kind == 'epochs')
    return [
        epochs
        * ([3] * draw.integers(0, 4) + list(draw.integers(1, 3, draw.integers(2))))
        for _ in range(clients)
    ]


@pytest.mark.parametrize('kind', ['any', 'last smaller', 'epochs'])
@pytest.mark.parametrize('seed', range(20))
def test_steps_of_all_clients(kind, seed):
    draw = np.random.default_rng(seed)
    batches = sizes_of_batches(draw, kind)
    clients = len(batches)
    cuts = sorted({0, clients, *draw.integers(0, clients + 1, 2).tolist()})
    cuts = cuts if clients else [0, 0]
    starts = starts_of([len(of_client) for of_client in batches])
    flat = [size for of_client in batches for size in of_client]
    rows = starts_of(flat)
    groups = schedules.groups(np.diff(starts), cuts, 3)
    made = schedules.schedule(starts, rows, groups)

    for block, (first, last) in enumerate(zip(cuts, cuts[1:], strict=False)):
        bounds = groups.starts[groups.of_blocks[block : block + 2]]
        assert sorted(groups.order[slice(*bounds)]) == list(range(first, last))
    assert (np.diff(groups.starts) <= 3).all()
    assert (np.diff(groups.starts) > 0).all()

    taken = [[] for _ in batches]
    start = 0
    for group, segments in enumerate(np.split(made.segments, made.of_groups[1:-1])):
        for size, steps, end in segments:
            members = made.members[start:end]
            assert len(members) and steps
            for place, element, row in members:
                client = groups.order[groups.starts[group] + place]
                for step in range(steps):
                    assert flat[element + step] == size
                    assert rows[element + step] == row + step * size
                    taken[client].append(element + step)
            start = end
    assert start == len(made.members)
    for client, steps in enumerate(taken):
        assert steps == list(range(starts[client], starts[client + 1]))


def test_clients_of_a_cohort_leave_when_they_are_done():
    """Of 7, 3 and 4 rows in batches of 2: all once, then the first and the last."""
    starts = np.array([0, 4, 6, 8])
    rows = np.array([0, 2, 4, 6, 7, 9, 10, 12, 14])
    groups = schedules.groups(np.diff(starts), [0, 3], 8)
    np.testing.assert_array_equal(groups.order, [0, 1, 2])
    made = schedules.schedule(starts, rows, groups)
    # Rows of a batch, steps, where the members end; those with the fewest first.
    expected = [[2, 1, 3], [2, 1, 5], [2, 1, 6], [1, 1, 8]]
    np.testing.assert_array_equal(made.segments, expected)
    members = [m.tolist() for m in np.split(made.members, made.segments[:-1, 2])]
    # The place, the first element and its first row.
    assert members == [
        [[1, 4, 7], [2, 6, 10], [0, 0, 0]],
        [[2, 7, 12], [0, 1, 2]],
        [[0, 2, 4]],
        [[0, 3, 6], [1, 5, 9]],
    ]


def test_clients_who_come_again_have_the_schedule_and_their_new_values():
    def arrays(sizes, scale):
        rows = starts_of(sizes)
        x = scale * np.arange(rows[-1], dtype=np.float32)
        batches = ClientSequences(((x, rows),), starts_of([2, 1, 2]))
        own = ClientTensors((scale * np.arange(3.0),), 3)
        return arguments.arrays([own, batches], [1, 3], 8)

    (of_blocks, starts, order), first = arrays([2, 2, 3, 3, 3], 1)
    assert (of_blocks.tolist(), starts.tolist()) == ([0, 1], [0, 2])
    np.testing.assert_array_equal(order, [1, 0])
    own, _, segments, members, x = first
    np.testing.assert_array_equal(own, [1, 2])
    np.testing.assert_array_equal(segments, [[3, 1, 2], [3, 1, 3]])
    np.testing.assert_array_equal(members, [[1, 0, 0], [0, 1, 3], [0, 2, 6]])
    np.testing.assert_array_equal(x, np.arange(4, 13))
    _, again = arrays([9, 9, 3, 3, 3], 2)
    assert again[3] is members
    np.testing.assert_array_equal(again[0], [2, 4])
    np.testing.assert_array_equal(again[4], 2 * np.arange(18, 27))
    _, other = arrays([2, 2, 3, 3, 4], 1)
    np.testing.assert_array_equal(other[2], [[3, 1, 2], [4, 1, 3]])
