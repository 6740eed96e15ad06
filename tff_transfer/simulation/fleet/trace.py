"""Devices as files tell of them (see `trace_files`)."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from tff_transfer import randomness
from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.simulation.fleet import trace_files
from tff_transfer.simulation.fleet.availability import Availability, always
from tff_transfer.simulation.fleet.devices import Devices
from tff_transfer.simulation.fleet.fleet import Fleet
from tff_transfer.simulation.fleet.trace_files import Bandwidth, Behaviour, Capacity

_BYTES = 1000 / 8  # A second, of a kilobit.


@dataclasses.dataclass(frozen=True)
class Trace:
    """Devices of files: FedScale's capacities and behaviours, MobiPerf's bandwidths.

    What no file tells is ideal: examples or messages take no time, or clients are
    always there.
    """

    path: tuple[str, ...] = option(
        (),
        'The files, CSV, one or several of: client, computation, communication; client,'
        ' active, inactive, finish_time; device_id, dir_up, tcp_speed_results.',
    )
    flops: float = option(
        6e8,
        'The floating point operations of what `computation` was measured with; of'
        ' MobileNetV2 if not given.',
        above=0,
    )
    dropout: float = option(
        0.0,
        'The probability that a client that was asked does not report, in each round.',
        at_least=0,
        below=1,
    )

    def fleet(self, names, seed) -> Fleet:
        """Returns the devices of clients (see `Kind`)."""
        if not self.path:
            raise UserError('--fleet=trace needs --trace.path, the files to read')
        found = {}
        for path in map(pathlib.Path, self.path):
            form, told = trace_files.read(path)
            if form in found:
                raise UserError(
                    f'{path}: is of the same form as another of --trace.path; join them'
                )
            found[form] = _of_clients(told, names, seed, form.__name__)
        if Capacity in found and Bandwidth in found:
            raise UserError(
                '--trace.path has communication in one file and tcp_speed_results in'
                ' another; leave one of them out'
            )
        count = len(names)
        fast = np.full(count, np.inf)
        devices = Devices(fast, fast, fast)
        if capacity := found.get(Capacity):
            way = np.array([it.communication for it in capacity]) * _BYTES
            milliseconds = np.array([it.computation for it in capacity])
            devices = Devices(self.flops / (milliseconds / 1000), way, way)
        elif bandwidth := found.get(Bandwidth):
            up, down = (
                np.array([getattr(it, way) for it in bandwidth]) * _BYTES
                for way in ('up', 'down')
            )
            devices = Devices(fast, up, down)
        there = _availability(found[Behaviour]) if Behaviour in found else always(count)
        if not len(there.clients):
            raise UserError('--trace.path has no client that is ever active')
        return Fleet(devices, there, self.dropout, seed)


def _of_clients(
    told: trace_files.Told, names: Sequence[str], seed: int, form: str
) -> list:
    """Returns what is told of the device of each client.

    That is the device of the client's name; those whose names are no device's get
    devices in an order that is drawn, each as many clients as the others.
    """
    devices = list(told.values())
    order = randomness.generator(seed, f'devices of {form}').permutation(len(devices))
    drawn = [devices[order[client % len(devices)]] for client in range(len(names))]
    return [told.get(name, other) for name, other in zip(names, drawn, strict=True)]


def _availability(behaviours: Sequence[Behaviour]) -> Availability:
    times = [
        (client, start, end - start, of.finish_time)
        for client, of in enumerate(behaviours)
        for start, end in zip(of.active, of.inactive, strict=True)
    ]
    clients, starts, lengths, periods = np.array(times).reshape(-1, 4).T
    return Availability(
        len(behaviours), clients.astype(np.int64), starts, lengths, periods
    )
