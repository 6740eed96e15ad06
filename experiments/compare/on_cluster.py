"""The jobs of a grid on a Ray cluster: a run at a time for each of its processors.

A job is done in a folder of the node that does it, and what comes of it travels back
whole: nodes need no folder in common. They need what a run reads, such as
`--data_path`, at the same path.
"""

import contextlib
import gc
import io
import os
import pathlib
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.compare.pool import THREADS
from tff_transfer import progress
from tff_transfer.runtime.cluster import connection, same

# How many nodes may be lost over a job until it is the job that is blamed.
_ATTEMPTS = 3


def packed(place: pathlib.Path) -> bytes:
    """Returns a folder or a file as bytes, empty if there is none."""
    if not place.exists():
        return b''
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode='w') as archive:
        archive.add(place, place.name)
    return made.getvalue()


def unpack(content: bytes, place: pathlib.Path) -> None:
    """Puts what `packed` made in the place of what is there: all of it, or nothing."""
    if not content:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix='.') as folder:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(folder, filter='data')
        if place.is_dir():
            shutil.rmtree(place)
        os.replace(pathlib.Path(folder) / place.name, place)


class Runner:
    """A process of a node that does jobs, one after another, on one processor."""

    def __init__(self):
        """Has libraries that are imported later take one thread."""
        os.environ.update(dict.fromkeys(THREADS, '1'))

    def facts(self) -> dict[str, str]:
        """Returns what must be the same here as at the driver."""
        return same.facts()

    def do(self, job: Mapping[str, Any], begun: bytes) -> tuple[str, bytes]:
        """Does a job.

        Args:
          job: What `worker.do` takes; its place is the driver's.
          begun: What the driver has of it.

        Returns:
          What went wrong, empty if nothing did, and what came of it (`packed`).
        """
        from experiments.compare import worker
        from tff_transfer.training import sources

        with tempfile.TemporaryDirectory() as folder, sources.kept():
            place = pathlib.Path(folder) / pathlib.Path(job['place']).name
            unpack(begun, place)
            wrong = worker.attempt({**job, 'place': str(place)})
            gc.collect()
            return wrong, packed(place)


class Cluster:
    """Does jobs as a `pool.Pool` does, on the nodes of a cluster."""

    def __init__(self, address: str):
        """Connects, and starts a process for each processor.

        Args:
          address: The head's, `'host:port'`.

        Raises:
          UserError: There is no such cluster, or a node would give other results.
        """
        self._connected = connection.connect(address)
        from tff_transfer.runtime.cluster.workers import Workers

        self._workers = Workers(Runner, one_processor=True)
        try:
            self._workers.start()
        except BaseException:
            self.close()
            raise

    def do(self, jobs: Sequence[dict[str, Any]], said: str) -> list[str]:
        """Does jobs, and shows how far it is (`pool.Pool.do`)."""
        import ray
        from ray import exceptions

        waiting, running = list(range(len(jobs)))[::-1], {}
        wrong, lost = [''] * len(jobs), [0] * len(jobs)
        with progress.bar(total=len(jobs), desc=said, unit='run') as bar:
            while waiting or running:
                self._workers.refresh()
                if not self._workers.ready and not running:
                    self._workers.wait()
                busy = {worker for _, worker in running.values()}
                for worker in self._workers.ready:
                    if waiting and worker not in busy:
                        number = waiting.pop()
                        begun = packed(pathlib.Path(jobs[number]['place']))
                        ref = worker.handle.do.remote(jobs[number], begun)
                        running[ref] = number, worker
                # Nodes that join meanwhile are looked for.
                done, _ = ray.wait(list(running), timeout=1.0)
                for ref in done:
                    number, worker = running.pop(ref)
                    try:
                        wrong[number], content = ray.get(ref)
                    except exceptions.RayActorError:
                        self._workers.lose(worker)
                        lost[number] += 1
                        if lost[number] < _ATTEMPTS:
                            waiting.append(number)
                            continue
                        wrong[number] = f'{_ATTEMPTS} processes ended in the middle'
                    else:
                        unpack(content, pathlib.Path(jobs[number]['place']))
                    bar.update()
        return wrong

    def close(self) -> None:
        """Ends all processes."""
        self._workers.close()
        if self._connected:
            connection.disconnect()


@contextlib.contextmanager
def opened(address: str) -> Iterator[Cluster]:
    """Gives the nodes of a cluster, whose processes end with the block."""
    with contextlib.closing(Cluster(address)) as found:
        yield found
