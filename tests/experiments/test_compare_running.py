"""A grid without processes: what is made, and what is taken from what is there."""

import contextlib
import json
import pathlib
from types import SimpleNamespace

import numpy as np
import pytest

from experiments.compare import outcomes, running
from tff_transfer import options
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models.task import CLASSIFICATION
from tff_transfer.records import predictions
from tff_transfer.training.config import Config

GIVEN = {
    'dataset': ('synthetic_alpha_beta',),
    'model': ('mlp',),
    'algorithm': ('fedavg', 'fedprox'),
    'seed': (1, 2),
}


class Pretending:
    """Writes what a run of a job leaves, but of some jobs."""

    def __init__(self, fails=(), data='sha'):
        self.fails, self.data, self.jobs = fails, data, []

    def do(self, jobs, said):
        self.jobs += jobs
        return [self.one(job) for job in jobs]

    def one(self, job):
        config = options.from_dict(Config, job['config'])
        if (type(config.algorithm).__name__, config.training.seed) in self.fails:
            return 'round 3 diverged'
        folder = pathlib.Path(job['place'])
        folder.mkdir()
        clients = {'names': ['a', 'b'], 'unseen': [False, True]}
        for name in ('examples', 'right', 'all_examples', 'all_right'):
            clients[name] = [2, 3]
        stored = {'flags': options.to_flags(config), **clients}
        (folder / outcomes.FILE).write_text(json.dumps(stored))
        (folder / 'data.json').write_text(json.dumps({'sha256': self.data}))
        (folder / 'metrics.csv').write_text('round,bytes/up,bytes/down\n0,,\n1,5,6\n')
        return ''


def run(monkeypatch, folder, pool, **given):
    opened = contextlib.nullcontext(pool)
    monkeypatch.setattr(running.pool, 'opened', lambda processes: opened)
    return running.run(running.planned({**GIVEN, **given}, str(folder)))


def test_what_is_finished_is_not_run_again(tmp_path, monkeypatch):
    first = Pretending(fails=[('FedProx', 2)])
    found = run(monkeypatch, tmp_path, first)
    assert len(first.jobs) == 4
    assert [each.name for each in found] == ['fedavg', 'fedprox']
    assert [[*each.outcomes] for each in found] == [[1, 2], [1]]
    assert found[1].failed == ('seed 2: round 3 diverged',)
    np.testing.assert_array_equal(found[0].outcomes[1].clients.right, [2, 3])
    assert found[0].outcomes[1].rows[1]['bytes/up'] == 5
    # What failed is tried again, and a larger grid takes over what is there.
    second = Pretending()
    found = run(monkeypatch, tmp_path, second, algorithm=('fedavg', 'fedprox', 'ridge'))
    assert [[*each.outcomes] for each in found] == [[1, 2]] * 3
    of = [options.from_dict(Config, job['config']) for job in second.jobs]
    assert [(type(c.algorithm).__name__, c.training.seed) for c in of] == [
        *(('FedProx', 2), ('Ridge', 1), ('Ridge', 2)),
    ]
    assert run(monkeypatch, tmp_path, third := Pretending()) and third.jobs == []
    # More rounds are another run, in the same folder.
    more = Pretending()
    more.one = lambda job: 'not now'
    run(monkeypatch, tmp_path, more, rounds=(200,))
    assert {job['place'] for job in more.jobs} == {job['place'] for job in first.jobs}


def test_runs_of_other_data_are_not_mixed(tmp_path, monkeypatch):
    run(monkeypatch, tmp_path, Pretending(), algorithm=('fedavg',))
    with pytest.raises(UserError, match='were made of other data'):
        run(monkeypatch, tmp_path, Pretending(data='other'))


@pytest.mark.parametrize('content', ['', '{"names": 3}', '[]'])
def test_a_damaged_outcome_is_made_again(tmp_path, monkeypatch, content):
    run(monkeypatch, tmp_path, Pretending())
    (path,) = tmp_path.glob('fedavg*seed=1*/' + outcomes.FILE)
    path.write_text(content)
    again = Pretending(fails=[('FedAvg', 1)])
    found = run(monkeypatch, tmp_path, again)
    assert len(again.jobs) == 1 and found[0].failed == ('seed 1: round 3 diverged',)


@pytest.mark.parametrize('adapts', [False, True])
def test_what_is_kept_of_each_client(tmp_path, adapts):
    # Three clients of 3 training examples and 2, 0 and 1 test examples.
    tests = np.array([2, 0, 1])
    y = np.arange(12, dtype=np.int32) % 2
    x = np.zeros([12, 1], np.float32)
    data = FederatedData('x', x, y, ('a', 'b', 'c'), np.full(3, 3), tests, 2)
    rows = {'seen': np.array([3, 4]), 'unseen': np.r_[5:12]}
    right = {'seen': [1, 0], 'unseen': [1, 1, 0, 1, 1, 1, 0]}
    if adapts:  # Then no training example of an unseen client is judged.
        rows['unseen'], right['unseen'] = np.array([11]), [0]
    result = SimpleNamespace(
        setup=SimpleNamespace(data=data),
        task=CLASSIFICATION,
        predictions={
            part: predictions.of_examples(
                data, rows[part], {'accuracy': np.array(right[part], np.float32)}
            )
            for part in rows
        },
    )
    outcomes.write(tmp_path, Config(), result)
    assert outcomes.finished(tmp_path, Config())
    (tmp_path / 'data.json').write_text('{"sha256": "sha"}')
    found = outcomes.read(tmp_path)
    clients = found.clients
    if adapts:
        assert clients.names == ('a', 'c') and clients.unseen.tolist() == [False, True]
        assert clients.all_examples.tolist() == clients.examples.tolist() == [2, 1]
        assert clients.all_right.tolist() == clients.right.tolist() == [1, 0]
    else:
        assert clients.names == ('a', 'b', 'c')
        assert clients.examples.tolist() == [2, 0, 1]
        assert clients.right.tolist() == [1, 0, 0]
        assert clients.all_examples.tolist() == [2, 3, 4]
        assert clients.all_right.tolist() == [1, 2, 3]
    assert found.data == 'sha'
