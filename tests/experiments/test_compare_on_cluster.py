"""A grid on a cluster: the same runs, made elsewhere."""

import pytest

from experiments import local_nodes
from experiments.compare import on_cluster, running

GRID = {
    'dataset': ['synthetic_writers'],
    'model': ['mlp'],
    'rounds': [2],
    'clients_per_round': [3],
    'algorithm': ['fedavg', 'fedsgd'],
}


def test_what_travels_is_put_in_the_place_of_what_was_there(tmp_path):
    run = tmp_path / 'there' / 'run'
    (run / 'checkpoints').mkdir(parents=True)
    (run / 'metrics.csv').write_text('new')
    here = tmp_path / 'here' / 'run'
    on_cluster.unpack(on_cluster.packed(run), here)
    assert (here / 'checkpoints').is_dir()
    (here / 'old').write_text('of a run that was begun here')
    on_cluster.unpack(on_cluster.packed(run), here)
    assert sorted(p.name for p in here.parent.rglob('*')) == [
        *('checkpoints', 'metrics.csv', 'run')
    ]
    score = tmp_path / 'there' / 'score.json'
    score.write_text('{}')
    on_cluster.unpack(on_cluster.packed(score), here.parent / 'score.json')
    assert (here.parent / 'score.json').read_text() == '{}'
    on_cluster.unpack(on_cluster.packed(tmp_path / 'nothing'), here)
    assert here.is_dir()


@pytest.mark.slow
@pytest.mark.walk
def test_a_grid_is_what_it_is_without_a_cluster(tmp_path):
    pytest.importorskip('ray', reason='Ray is not installed')
    with local_nodes.opened(2) as nodes:
        plan = running.planned(GRID, str(tmp_path / 'a'), cluster=nodes.address)
        found = running.run(plan)
        assert [f.name for f in found] == [arm.name for arm in plan.arms]
    expected = running.run(running.planned(GRID, str(tmp_path / 'b')))
    for one, other in zip(found, expected, strict=True):
        (a,), (b,) = one.outcomes.values(), other.outcomes.values()
        assert a.data == b.data
        # Threads of an operation are not as many there, which may change last digits.
        assert a.clients.right == pytest.approx(b.clients.right, abs=2)
