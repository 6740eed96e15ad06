"""Distillation beside federated averaging, small: tables and curves by hand."""

import subprocess
import sys

import numpy as np
import pytest

from experiments import federated_distillation as distillation
from experiments.federated_distillation import Curve
from tff_transfer import runtime
from tff_transfer.algorithms import registry
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import loop


def vectors(clients=24, each=20):
    draw = np.random.default_rng(0)
    y = draw.integers(0, 4, clients * each).astype(np.int32)
    x = 5 + 3 * (draw.normal(size=(4, 6))[y] + draw.normal(size=(len(y), 6)))
    return FederatedData(
        'toy',
        x.astype(np.float32),
        y,
        tuple(map(str, range(clients))),
        np.full(clients, each - 5),
        np.full(clients, 5),
        4,
    )


def test_a_curve_adds_bytes_up_between_evaluations():
    judged = {'seen/accuracy': 0.5, 'unseen/accuracy': 0.25}
    other = dict.fromkeys(judged)
    rows = [
        {'round': 0, 'bytes/up': None, 'bytes/down': None, **judged},
        {'round': 1, 'bytes/up': 10, 'bytes/down': 1, **other},
        {'round': 2, 'bytes/up': 20, 'bytes/down': 2, **judged},
    ]
    found = distillation.curve(rows)
    assert found == Curve([0, 2], [0.5, 0.5], [0.25, 0.25], [0, 30], [0, 3])


def test_the_table_has_bytes_by_client_and_when_a_target_is_reached():
    found = {
        'fedavg': [
            Curve([0, 2, 4], [0.1, 0.7, 0.9], [0.1, 0.95, 0.96], [0, 8000, 16000],
                  [0, 4000, 8000]),
            Curve([0, 2, 4], [0.1, 0.7, 0.7], [0.1, 0.8, 0.9], [0, 8000, 16000],
                  [0, 4000, 8000]),
        ],
        'local': [Curve([0, 4], [0.5, 0.5], [0.99, 0.99], [0, 0], [0, 0])],
    }  # fmt: skip
    head, fedavg, local = distillation.rows(found, 2, 0.95)
    assert head[-2:] == ['rounds to 95%', 'MB to 95%']
    # Two clients in each of four rounds sent 16,000 bytes.
    assert fedavg[:6] == [
        *('fedavg', "server's", '80.0% ± 10.0%', '93.0% ± 3.0%', '2.0', '1.0'),
    ]
    assert fedavg[6] == '>4 (2 to >4)'
    assert local == ['local', 'own model', '50.0%', '99.0%', '0.0', '0.0', '0', '0.0']
    figure = distillation.drawn({'IID': found})
    assert [line.get_label() for line in figure.axes[0].lines] == ['fedavg']


@pytest.mark.parametrize('name', distillation.METHODS)
def test_each_method_takes_what_the_study_gives(name):
    distillation.configured(name, 20, 10, 0).check()


def test_unknown_methods_are_refused():
    with pytest.raises(UserError, match="--methods has 'ridge', but must be of"):
        distillation.check(['fedavg', 'ridge'])
    assert {*distillation.METHODS} < {*registry.NAMES}


@pytest.mark.slow
def test_the_same_examples_are_dealt_in_two_ways():
    data = vectors()
    with runtime.use_compiled():
        iid, skewed = (
            distillation.dealt(data, deal)
            for deal in distillation.dealings(0.1).values()
        )
    shares = []
    for found in (iid, skewed):
        assert len(found) == len(data)
        assert np.bincount(found.y).tolist() == np.bincount(data.y).tolist()
        seen = np.isin(found.client_of_row, range(len(found)))
        assert np.abs(found.x[seen].mean(0)).max() < 0.3
        counts = [
            np.bincount(found.y[found.client_of_row == c], minlength=4)
            for c in range(len(found))
        ]
        shares.append(np.mean([c.max() / c.sum() for c in counts]))
    assert shares[0] < 0.5 < 0.7 < shares[1]
    result = loop.train(distillation.configured('fedmd', 2, 3, 0), data=iid)
    found = distillation.curve(result.rows)
    assert found.rounds == [0, 2]
    # Five public clients have 75 examples or more; a mean of four classes and a weight.
    assert found.up[-1] % (2 * 3 * 4) == 0 and found.up[-1] > 2 * 3 * 4 * 4 * 60


@pytest.mark.slow
def test_the_program_writes_its_table_and_goes_on(tmp_path):
    command = [
        *(sys.executable, '-m', 'experiments.federated_distillation'),
        *('--max_clients=20', '--rounds=2', '--clients_per_round=2'),
        *('--methods=fedavg,feddistill', f'--runs={tmp_path / "out"}'),
    ]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    table = (tmp_path / 'out' / 'table.md').read_text('utf-8')
    assert table.count('| feddistill | own model |') == 2
    assert (tmp_path / 'out' / 'bytes.png').exists()
    assert (
        subprocess.run(command, capture_output=True, text=True).stdout == first.stdout
    )
