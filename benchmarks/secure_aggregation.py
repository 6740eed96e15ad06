"""Secure aggregation: seconds and bytes of clients and server.

  python -m benchmarks.secure_aggregation

sums vectors of 1,000 and 80,000 numbers of 50 to 1,000 clients with the complete graph
of Bonawitz et al. 2017 and the k-regular one of SecAgg+, all parties in one process and
one thread, checks that sums are exact, lets 10 and 30 % of the clients drop out in each
round of the protocol, and has CKKS and Flower's SecAgg+ beside them. Times are of the
processor, so that other work on the machine is not in them. Takes a quarter of an hour
and 2 GB of memory; writes `benchmarks/results/secure_aggregation.md`.
"""

import dataclasses
import json
import pathlib
import statistics
import subprocess
import time

import numpy as np

from benchmarks import machine, speed
from benchmarks.secure_aggregation_tables import page
from tff_transfer import progress, randomness
from tff_transfer.secure_aggregation import ckks, graphs, messages, simulation
from tff_transfer.secure_aggregation.parameters import Parameters

CLIENTS, LENGTHS = (50, 100, 300, 1000), (1000, 80_000)
# With more clients to share a secret among all takes minutes of each.
MOST_COMPLETE, OF_FLOWER = 100, (50, 100)
# The clients of whom some drop out; of so many only in the round that costs most.
OF_DROP_OUTS, MOST_OF_ALL = (300, 1000), 1000
# Of the k-regular graph: the shares of the clients that collude and that drop out, and
# the chances that the random order spoils secrecy and recovery.
CORRUPT, DROPPED, SECRECY, RECOVERY = 0.05, 0.3, 2.0**-40, 2.0**-30
PURPOSE = 'benchmark of secure aggregation'


@dataclasses.dataclass(frozen=True)
class Case:
    """One sum.

    Attributes:
      complete: Whether the graph is; else it is k-regular.
      clients: How many.
      length: Numbers of each.
      dropped: The share of them that drops out.
      round: Of the protocol, in which they do.
    """

    complete: bool
    clients: int
    length: int
    dropped: float = 0.0
    round: int = messages.ADVERTISE


def cases() -> list[Case]:
    """Returns all sums that are measured."""
    found = [
        Case(complete, clients, length)
        for complete in (True, False)
        for clients in CLIENTS
        for length in LENGTHS
        if not complete or clients <= MOST_COMPLETE
    ]
    return found + [
        Case(False, clients, LENGTHS[-1], share, number)
        for clients in OF_DROP_OUTS
        for number in range(len(messages.ROUNDS))
        for share in (0.1, 0.3)
        if clients < MOST_OF_ALL or (number, share) == (messages.MASK, 0.3)
    ]


def neighbourhood(case: Case) -> tuple[int, int]:
    """Returns the neighbours of each client and the threshold."""
    n = case.clients
    if case.complete:
        return n - 1, n // 2 + 1
    return graphs.smallest(n, int(n * CORRUPT), int(n * DROPPED), SECRECY, RECOVERY)


def run(case: Case) -> dict:
    """Returns the seconds and bytes of a sum.

    Raises:
      RuntimeError: The sum is not that of the vectors.
    """
    draw = randomness.generator(0, PURPOSE)
    shape = case.clients, case.length
    vectors = draw.integers(0, 2**32, size=shape, dtype=np.uint32)
    k, threshold = neighbourhood(case)
    order = draw.permutation(case.clients)
    graph = graphs.k_regular(order, k)
    parameters = Parameters(draw.bytes(16), graph, threshold, case.length)
    left = draw.choice(case.clients, round(case.clients * case.dropped), replace=False)
    start = time.process_time()
    out = simulation.run(parameters, vectors, {case.round: set(left.tolist())})
    seconds = time.process_time() - start
    if not np.array_equal(out.total, vectors[list(out.summed)].sum(0, np.uint32)):
        raise RuntimeError(f'the sum of {case} is wrong')
    size = [
        [len(message) for message in of.values()]
        for it in out.rounds
        for of in (it.received, it.sent)
    ]
    middle = [statistics.median(of) if of else 0 for of in size]
    return {
        **dataclasses.asdict(case),
        'neighbours': k,
        'threshold': threshold,
        'seconds': seconds,
        'client': [statistics.median(it.client_seconds.values()) for it in out.rounds],
        'server': [it.server_seconds for it in out.rounds],
        'up': sum(middle[::2]),
        'down': sum(middle[1::2]),
        'server_bytes': sum(sum(of) for of in size),
    }


def run_ckks(clients: int, length: int) -> dict:
    """Returns the seconds and bytes of a weighted mean under CKKS.

    Three clients encrypt; the server adds theirs again and again.
    """
    draw = randomness.generator(1, PURPOSE)
    vectors = draw.standard_normal((3, length))
    key = ckks.make_key()
    public = ckks.public(key)
    encrypted, seconds, clock = [], [], time.process_time
    for vector in vectors:
        start = clock()
        encrypted.append(ckks.encrypt(public, vector, 1.0, clients))
        seconds.append(clock() - start)
    times = [clock()]
    total = ckks.add(public, [encrypted[i % 3] for i in range(clients)])
    times.append(clock())
    found = ckks.mean(key, total)
    times.append(clock())
    weights = np.bincount(np.arange(clients) % 3)
    error = np.abs(found - np.average(vectors, axis=0, weights=weights)).max()
    return {
        'clients': clients,
        'length': length,
        'encrypt': statistics.median(seconds),
        'add': times[1] - times[0],
        'decrypt': times[2] - times[1],
        'up': sum(map(len, encrypted[0])),
        'down': sum(map(len, total)),
        'error': float(error),
    }


def run_flower(clients: int, length: int, folder: pathlib.Path) -> dict | None:
    """Returns the seconds of Flower's SecAgg+, or None where it is not installed."""
    if not pathlib.Path(speed.TORCH).exists():
        return None
    k, threshold = neighbourhood(Case(False, clients, length))
    result = folder / 'flower.json'
    command = [speed.TORCH, str(speed.PEERS / 'flower_secagg.py'), str(result)]
    # Its clients keep a share of their own secrets.
    numbers = (clients, length, k + 1, threshold)
    subprocess.run([*command, *map(str, numbers)], check=True, capture_output=True)
    return json.loads(result.read_text('utf-8'))


def measure(folder: pathlib.Path) -> dict[str, list[dict]]:
    """Runs everything; returns what was seen.

    Args:
      folder: An empty folder.
    """
    sizes = [(clients, length) for clients in CLIENTS for length in LENGTHS]
    small = [size for size in sizes if size[0] in OF_FLOWER]
    flower = [run_flower(*size, folder) for size in progress.bar(small, desc='Flower')]
    return {
        'flower': [found for found in flower if found],
        'ckks': [run_ckks(*size) for size in progress.bar(sizes, desc='CKKS')],
        'sums': [run(case) for case in progress.bar(cases(), desc='sums')],
    }


def main() -> None:
    """Measures and writes."""
    machine.report(speed.RESULTS / 'secure_aggregation.md', measure, page)


if __name__ == '__main__':
    main()
