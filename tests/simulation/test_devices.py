"""How long clients take, when they are there, and who fails."""

import math

import numpy as np
import pytest
import scipy.stats

from tff_transfer.errors import UserError
from tff_transfer.options import check
from tff_transfer.simulation.fleet.availability import Availability, always
from tff_transfer.simulation.fleet.day_night import DayNight
from tff_transfer.simulation.fleet.devices import Devices, seconds
from tff_transfer.simulation.fleet.drawn import Drawn

NAMES = [f'client {number}' for number in range(2000)]


def test_seconds_by_hand():
    devices = Devices(
        np.array([1e9, 2e9, 4e9]),
        np.array([1e6, 2e6, 5e5]),
        np.array([4e6, 1e6, 2e6]),
        0.5,
    )
    found = seconds(devices, np.array([2, 0]), np.array([100, 30]), 2e7, 1e6, 2e6)
    # Client 2: 1 s down, 0.5 s of training, 2 s up; client 0: 0.5, 0.6 and 1.
    np.testing.assert_allclose(found, [4.0, 2.6], rtol=1e-15)
    assert found.dtype == np.float64


def test_who_is_there_by_hand():
    # Client 0 from 10 to 30 and from 50 to 60 of 100 seconds; client 2 from 90 to 120,
    # so to 20 of the next; client 1 never.
    mine = Availability(
        3,
        np.array([0, 0, 2]),
        np.array([10.0, 50.0, 90.0]),
        np.array([20.0, 10.0, 30.0]),
        np.full(3, 100.0),
    )
    by_second = {
        0: [0, 0, 20],
        5: [0, 0, 15],
        10: [20, 0, 10],
        29: [1, 0, 0],
        30: [0, 0, 0],
        59: [1, 0, 0],
        60: [0, 0, 0],
        395: [0, 0, 25],
        455: [5, 0, 0],
    }
    for second, left in by_second.items():
        np.testing.assert_array_equal(mine.remaining(second), left)
        np.testing.assert_array_equal(mine.available(second), np.array(left) > 0)
    assert mine.first(30, np.array([0, 1])) == 50
    assert mine.first(30, np.array([1, 2])) == 90
    assert mine.first(360, np.arange(3)) == 390
    assert mine.first(12.5, np.arange(3)) == 12.5
    assert mine.first(12.5, np.array([1])) == np.inf


def test_the_first_second_is_one_in_which_somebody_is_there():
    draw = np.random.default_rng(0)
    for _ in range(200):
        one = Availability(
            1,
            np.array([0]),
            draw.uniform(0, 1e5, 1),
            draw.uniform(1e-3, 1, 1),
            np.array([86400.1]),
        )
        now = draw.uniform(0, 1e7)
        first = one.first(now, np.array([0]))
        assert one.available(first).all() and now <= first <= now + 86400.2


def test_who_never_goes_and_who_never_comes():
    assert always(3).available(1e12).all()
    assert (always(3).remaining(7.3) == np.inf).all()
    nobody = Availability(2, *(np.zeros(0, int), *[np.zeros(0)] * 3))
    assert not nobody.available(3.0).any() and nobody.first(3.0, np.arange(2)) == np.inf


def test_speeds_and_bandwidths_are_log_normal():
    devices = Drawn(speed=4e9, speed_spread=0.5, up=1e5, down=3e5).devices(20000, 7)
    of_speed = np.log(devices.speeds / 4e9) / 0.5
    assert scipy.stats.kstest(of_speed, 'norm').pvalue > 0.01
    assert scipy.stats.kstest(np.log(devices.up / 1e5), 'norm').pvalue > 0.01
    np.testing.assert_allclose(devices.down, 3 * devices.up)
    assert abs(np.corrcoef(of_speed, np.log(devices.up))[0, 1]) < 0.03
    assert devices.latency == 0.1


def test_a_share_of_devices_is_slow():
    some = Drawn(slow_share=0.3, slow_factor=8).devices(10, 1).speeds
    none = Drawn().devices(10, 1).speeds
    ratio = np.round(none / some, 6)
    assert sorted(ratio) == [1] * 7 + [8] * 3


def test_a_device_hangs_on_seed_and_client_alone():
    few, many = Drawn().fleet(NAMES[:5], 3), Drawn().fleet(NAMES, 3)
    np.testing.assert_array_equal(few.devices.speeds, many.devices.speeds[:5])
    other = Drawn().fleet(NAMES[:5], 4)
    assert (few.devices.speeds != other.devices.speeds).all()


def test_drop_outs_are_as_frequent_as_told():
    fleet = Drawn(dropout=0.2).fleet(NAMES, 5)
    found = [[fleet.fails(client, n) for client in range(500)] for n in (1, 2, 9)]
    assert scipy.stats.binomtest(int(np.sum(found)), 1500, 0.2).pvalue > 0.01
    # Each round by a draw of its own, again the same.
    both = np.mean(np.logical_and(found[0], found[1]))
    assert abs(both - 0.04) < 4 * math.sqrt(0.04 * 0.96 / 500)
    assert found[1] == [fleet.fails(client, 2) for client in range(500)]
    assert not any(Drawn().fleet(NAMES, 5).fails(client, 1) for client in range(50))


def test_nights_by_hand():
    kind = DayNight(zones=2, night=22, hours=8, hours_spread=0)
    fleet = kind.fleet(NAMES, 0)
    by_hour = {h: fleet.available(h * 3600.0) for h in range(48)}
    for hour in range(24):
        np.testing.assert_array_equal(by_hour[hour], by_hour[hour + 24])
    first = by_hour[0]  # Midnight of the first zone.
    assert scipy.stats.binomtest(int(first.sum()), len(NAMES), 0.5).pvalue > 0.01
    for hour in range(24):
        here = hour >= 22 or hour < 6
        there = 10 <= hour < 18
        np.testing.assert_array_equal(by_hour[hour], np.where(first, here, there))
    assert fleet.availability.first(7 * 3600.0, np.arange(2000)) == 10 * 3600


def test_nights_start_at_unlike_hours():
    kind = DayNight(zones=1, night=12, hours=1, hours_spread=0.5)
    starts = kind.fleet(NAMES, 0).availability.starts / 3600
    assert scipy.stats.kstest((starts - 12) / 0.5, 'norm').pvalue > 0.01


@pytest.mark.parametrize(
    'wrong, said',
    [
        (Drawn(speed=0.0), '--drawn.speed is 0.0, but must be above 0'),
        (Drawn(dropout=1.0), '--drawn.dropout is 1.0, but must be below 1'),
        (Drawn(slow_factor=0.5), '--drawn.slow_factor is 0.5, but must be at least 1'),
        (Drawn(up=math.inf), '--drawn.up is inf, but must be a finite number'),
    ],
)
def test_what_is_no_device_is_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        check(wrong, 'drawn.')
