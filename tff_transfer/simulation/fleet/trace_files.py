"""Files that tell of devices, in the column forms of FedScale and MobiPerf, as CSV.

FedScale's (Lai et al. 2022) are dictionaries by client, `client_device_capacity` and
`client_behave_trace`; a column here is a key there. MobiPerf's are records of
measurements. docs/fleet.md shows all three.
"""

import collections
import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence

from tff_transfer.data import csv_cells
from tff_transfer.errors import UserError

# Whose line it is: by FedScale, and by MobiPerf.
_DEVICE = ('client', 'device_id')
_YES, _NO = ('true', '1', 'up'), ('false', '0', 'down')


@dataclasses.dataclass(frozen=True)
class Capacity:
    """What a device can do.

    Attributes:
      computation: Milliseconds for an example, forward alone.
      communication: Kilobits a second, each way.
    """

    computation: float
    communication: float


@dataclasses.dataclass(frozen=True)
class Bandwidth:
    """What was measured of a device's network, kilobits a second: medians."""

    up: float
    down: float


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """When a device is there: from each of `active` to that of `inactive`, in seconds.

    All comes again after `finish_time` seconds.
    """

    active: tuple[float, ...]
    inactive: tuple[float, ...]
    finish_time: float


# What a file tells of each device, by the device's name.
Told = Mapping[str, Capacity | Bandwidth | Behaviour]


def read(path: pathlib.Path) -> tuple[type, Told]:
    """Reads a file that tells of devices.

    Args:
      path: CSV in UTF-8, with a header; other columns than those of a form are passed
        over.

    Returns:
      Which form it has, and what it tells of each device.

    Raises:
      UserError: It cannot be read, or holds something else.
    """
    header, rows = csv_cells.read(path)
    device = next((name for name in _DEVICE if name in header), None)
    form = next((f for f, needs in _NEEDS.items() if {*needs} <= {*header}), None)
    if device is None or form is None:
        forms = '; '.join(', '.join(needs) for needs in _NEEDS.values())
        raise UserError(
            f'{path}: needs a column client, or device_id, and those of one of these'
            f' forms: {forms}; it has {", ".join(header)[:80] or "none"}'
        )
    if not rows:
        raise UserError(f'{path}: has a header but no devices; add rows')
    return form, _READERS[form](path, device, rows)


def _one_each(
    made: Callable[[dict[str, str]], Capacity | Behaviour],
) -> Callable[[pathlib.Path, str, Sequence[dict[str, str]]], Told]:
    """Returns the reader of a form in which a device has one row."""

    def reader(path, device, rows):
        found = {}
        for number, row in enumerate(rows, 2):
            if row[device] in found:
                raise UserError(
                    f'{path}: row {number} is a second one of {row[device][:40]!r};'
                    ' leave one out'
                )
            found[row[device]] = _at_row(path, number, made, row)
        return found

    return reader


def _at_row(path: pathlib.Path, number: int, made: Callable, row: dict[str, str]):
    """Returns what is made of a row, whose number is told of what is wrong with it."""
    try:
        return made(row)
    except ValueError as error:
        raise UserError(f'{path}: row {number}: {error}; mend it') from error


def _capacity(row: dict[str, str]) -> Capacity:
    return Capacity(
        *(_above_zero(name, row[name]) for name in ('computation', 'communication'))
    )


def _behaviour(row: dict[str, str]) -> Behaviour:
    active, inactive = (
        tuple(_number(name, cell) for cell in _items(row[name]))
        for name in ('active', 'inactive')
    )
    period = _above_zero('finish_time', row['finish_time'])
    if len(active) != len(inactive):
        raise ValueError(
            f'active has {len(active)} times, but inactive {len(inactive)}'
        )
    ordered = [time for pair in zip(active, inactive, strict=True) for time in pair]
    if any(a >= b for a, b in zip(ordered, ordered[1:], strict=False)):
        raise ValueError('active and inactive are not by turns, each later')
    if ordered and not 0 <= ordered[0] < ordered[-1] <= period:
        raise ValueError(f'times are not within 0 and finish_time, {period:g}')
    return Behaviour(active, inactive, period)


def _bandwidths(path, device, rows) -> Told:
    """Returns the medians of each device's measurements."""
    measured = collections.defaultdict(lambda: {True: [], False: []})
    for number, row in enumerate(rows, 2):
        ups, found = _at_row(path, number, _measured, row)
        for up in ups:
            measured[row[device]][up] += found
    told = {}
    for name, of in measured.items():
        # Who was measured one way alone has the same the other way.
        up, down = of[True] or of[False], of[False] or of[True]
        told[name] = Bandwidth(statistics.median(up), statistics.median(down))
    return told


def _measured(row: dict[str, str]) -> tuple[Sequence[bool], list[float]]:
    """Returns the directions that a row is of, whether up, and its numbers."""
    found = [
        _above_zero('tcp_speed_results', it) for it in _items(row['tcp_speed_results'])
    ]
    if not found:
        raise ValueError('tcp_speed_results is empty')
    if 'dir_up' not in row:
        return (True, False), found
    said = row['dir_up'].lower()
    if said not in (*_YES, *_NO):
        raise ValueError(f'dir_up is {said[:20]!r}, not true or false')
    return (said in _YES,), found


def _items(cell: str) -> list[str]:
    """Returns the parts of a cell such as `[1, 2]` or `1 2`."""
    return cell.strip('[]').replace(',', ' ').split()


def _number(name: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = float('nan')
    if not abs(value) < float('inf'):
        raise ValueError(f'{name} is {cell[:20]!r}, no number')
    return value


def _above_zero(name: str, cell: str) -> float:
    value = _number(name, cell)
    if value <= 0:
        raise ValueError(f'{name} is {cell[:20]}, not above 0')
    return value


_NEEDS = {
    Capacity: ('computation', 'communication'),
    Behaviour: ('active', 'inactive', 'finish_time'),
    Bandwidth: ('tcp_speed_results',),
}
_READERS = {
    Capacity: _one_each(_capacity),
    Behaviour: _one_each(_behaviour),
    Bandwidth: _bandwidths,
}
