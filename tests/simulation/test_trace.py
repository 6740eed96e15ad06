"""Devices of files: each form by hand, and what is no such file in one line."""

import numpy as np
import pytest

from tff_transfer.errors import UserError
from tff_transfer.simulation.fleet.devices import seconds
from tff_transfer.simulation.fleet.trace import Trace

CAPACITY = 'client,computation,communication\na,40,8000\nb,200.5,1600\n'
BEHAVIOUR = (
    'client,duration,active,inactive,finish_time,model\n'
    'a,30,"[0, 50]","[20, 60]",100,phone\n'
    'b,10,90,100,100,phone\n'
    'c,0,,,100,phone\n'
)
BANDWIDTH = (
    'device_id,dir_up,tcp_speed_results\n'
    'x,true,"[800, 1600, 2400]"\nx,False,8000\nx,false,"[4000]"\ny,true,400\n'
)


def fleet_of(folder, *texts, names=('a', 'b'), **options):
    """Returns the fleet of files of some texts."""
    paths = []
    for number, text in enumerate(texts):
        path = folder / f'{number}.csv'
        path.write_text(text)
        paths.append(str(path))
    return Trace(path=tuple(paths), **options).fleet(names, 0)


def test_capacity_by_hand(tmp_path):
    fleet = fleet_of(tmp_path, CAPACITY, flops=2e8)
    # 40 ms forward for 2e8 operations; 8,000 kbit are a million bytes.
    np.testing.assert_allclose(fleet.devices.speeds, [5e9, 2e8 / 0.2005])
    np.testing.assert_allclose(fleet.devices.up, [1e6, 2e5])
    # As FedScale: three times the time of `computation` for each of 10 examples, and
    # both messages by the bandwidth.
    found = seconds(fleet.devices, np.array([0]), np.array([10]), 3 * 2e8, 5e5, 5e5)
    np.testing.assert_allclose(found, 3 * 10 * 0.04 + 1.0)
    assert fleet.available(123.0).all()


def test_behaviour_by_hand(tmp_path):
    fleet = fleet_of(tmp_path, BEHAVIOUR, names=('c', 'b', 'a'))
    by_second = {0: 'a', 19: 'a', 20: '', 50: 'a', 95: 'b', 100: 'a', 195: 'b'}
    for second, there in by_second.items():
        assert list(fleet.available(float(second))) == [n in there for n in 'cba']
    assert np.isinf(fleet.devices.speeds).all()
    assert seconds(fleet.devices, np.array([1]), np.array([9]), 1e9, 1e6, 1e6) == 0


def test_bandwidths_are_medians(tmp_path):
    fleet = fleet_of(tmp_path, BANDWIDTH, names=('y', 'x'))
    np.testing.assert_allclose(fleet.devices.up, [5e4, 2e5])
    np.testing.assert_allclose(fleet.devices.down, [5e4, 7.5e5])


def test_without_direction_both_ways_are_the_same(tmp_path):
    text = 'client,tcp_speed_results\nx,8\n'
    fleet = fleet_of(tmp_path, text, names=('x',))
    assert fleet.devices.up == fleet.devices.down == 1000


def test_other_names_get_devices_by_a_draw(tmp_path):
    names = ['a', *(f'client {n}' for n in range(9))]
    fleet = fleet_of(tmp_path, CAPACITY, BEHAVIOUR, names=names, flops=2e8)
    assert fleet.devices.speeds[0] == 5e9
    others = list(fleet.devices.speeds[1:] == 5e9)
    assert sorted((others.count(True), others.count(False))) == [4, 5]
    again = fleet_of(tmp_path, CAPACITY, BEHAVIOUR, names=names, flops=2e8)
    np.testing.assert_array_equal(fleet.devices.speeds, again.devices.speeds)


@pytest.mark.parametrize(
    'texts, said',
    [
        ([], '--fleet=trace needs --trace.path'),
        ([''], 'needs a column client, or device_id, .* it has none'),
        (['a,b\n1,2\n'], 'needs a column client, or device_id, .* it has a, b'),
        (['client,computation\na,1\n'], 'it has client, computation'),
        (['client,computation,communication\n'], 'has a header but no devices'),
        ([CAPACITY + 'c,1'], 'row 4 has 2 cells, but the header has 3'),
        ([CAPACITY + 'b,1,1'], "row 4 is a second one of 'b'"),
        ([CAPACITY + 'c,fast,1'], "row 4: computation is 'fast', no number"),
        ([CAPACITY + 'c,nan,1'], "row 4: computation is 'nan', no number"),
        ([CAPACITY + 'c,1,0'], 'row 4: communication is 0, not above 0'),
        ([BEHAVIOUR + 'd,0,1 2,3,9,p'], 'row 5: active has 2 times, but inactive 1'),
        (
            [BEHAVIOUR + 'd,0,1 2,3 4,9,p'],
            'row 5: active and inactive are not by turns',
        ),
        ([BEHAVIOUR + 'd,0,1,12,9,p'], 'row 5: times are not within 0 and finish_time'),
        ([BEHAVIOUR + 'd,0,-1,2,9,p'], 'row 5: times are not within 0 and finish_time'),
        (
            ['client,active,inactive,finish_time\na,,,5\n'],
            'no client that is ever active',
        ),
        ([BANDWIDTH + 'z,maybe,4'], "row 6: dir_up is 'maybe', not true or false"),
        ([BANDWIDTH + 'z,true,[]'], 'row 6: tcp_speed_results is empty'),
        ([CAPACITY, CAPACITY], 'of the same form as another'),
        ([CAPACITY, BANDWIDTH], 'leave one of them out'),
        (['client,"computation'], 'is no CSV text'),
    ],
)
def test_what_is_no_trace_is_one_line(tmp_path, texts, said):
    with pytest.raises(UserError, match=said) as caught:
        fleet_of(tmp_path, *texts)
    assert '\n' not in str(caught.value)


def test_files_that_cannot_be_read_are_one_line(tmp_path):
    with pytest.raises(UserError, match='cannot be read: No such file'):
        Trace(path=(str(tmp_path / 'none.csv'),)).fleet(['a'], 0)
    (tmp_path / 'bytes.csv').write_bytes(b'client,computation\xff')
    with pytest.raises(UserError, match='is no CSV text in UTF-8'):
        Trace(path=(str(tmp_path / 'bytes.csv'),)).fleet(['a'], 0)
