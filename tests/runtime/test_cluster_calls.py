"""Calls that fail: an actor or its node is gone, or clients are at fault."""

import collections
import types

import pytest

from tff_transfer.errors import UserError
from tff_transfer.runtime.cluster.scheduling import Share

ray = pytest.importorskip('ray', reason='Ray is not installed')
actor = pytest.importorskip('tff_transfer.runtime.cluster.actor')
calls = pytest.importorskip('tff_transfer.runtime.cluster.calls')

from tff_transfer.runtime.cluster.messages import Answer, NodeGoneError  # noqa: E402
from tff_transfer.runtime.cluster.workers import Worker  # noqa: E402

SHARES = [Share((0, 2), 1.0, 0), Share((2, 3), 1.0, 1)]


def raised_there(error):
    """Returns what the driver has of an error that was raised in an actor."""
    error = ray.exceptions.RayTaskError('run', f'lines: {error}', error)
    return error.as_instanceof_cause()


class Handle:
    """Answers of an actor, in their order."""

    def __init__(self, *answers):
        self.run, self._answers = types.SimpleNamespace(remote=self._run), [*answers]

    def _run(self, program, computation, turn, broadcast, work):
        return (*self._answers.pop(0), work.first)


class Workers:
    """Actors that are there from the beginning, of which some are lost."""

    def __init__(self, *handles):
        self.ready = [Worker(str(n), handle, 1) for n, handle in enumerate(handles)]
        self.lost = []

    def refresh(self):
        pass

    def lose(self, worker):
        self.ready.remove(worker)
        self.lost.append(worker.node)


def get(ref):
    error, number = ref
    if error is not None:
        raise error
    return Answer(spans=[number])


def answers_of(workers, monkeypatch):
    waits = types.SimpleNamespace(
        wait=lambda refs, num_returns: (refs[:num_returns], refs[num_returns:]), get=get
    )
    monkeypatch.setattr(calls, 'ray', waits)
    shared = calls.Shared(1, None, 1, None, 0)
    turn = calls.Calls(workers, shared, [], SHARES, collections.Counter())
    return [answer.spans for answer in turn]


def test_what_an_actor_leaves_as_its_node_ends_runs_elsewhere(monkeypatch):
    gone = raised_there(NodeGoneError('Broken pipe'))
    workers = Workers(Handle((gone,)), Handle((None,), (None,)))
    assert answers_of(workers, monkeypatch) == [[0], [1]]
    assert workers.lost == ['0']


def test_what_is_raised_otherwise_is_raised_here(monkeypatch):
    absent = raised_there(FileNotFoundError('rows.npy'))
    workers = Workers(Handle((absent,)), Handle((None,), (None,)))
    with pytest.raises(FileNotFoundError, match=r'rows\.npy'):
        answers_of(workers, monkeypatch)
    assert not workers.lost


def test_clients_that_end_every_actor_are_told(monkeypatch):
    died = ray.exceptions.RayActorError()
    workers = Workers(*[Handle((died,), (died,)) for _ in range(9)])
    with pytest.raises(UserError, match='5 actors ended while they ran the same'):
        answers_of(workers, monkeypatch)


@pytest.mark.parametrize(
    'error', [OSError('Broken pipe'), ray.exceptions.RaySystemError('closed')]
)
def test_an_actor_that_reaches_its_node_no_more_says_so(error, monkeypatch):
    def broken(_):
        raise error

    monkeypatch.setattr(ray, 'get', broken)
    with pytest.raises(NodeGoneError, match='Broken pipe|closed'):
        actor.fetched(None)
