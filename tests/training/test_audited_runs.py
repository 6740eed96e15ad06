"""Private runs leave `audit.jsonl`: of what was done, the same when they go on."""

import dataclasses
import json

import pytest
from test_loop import make_config, make_data

from tff_transfer.privacy.accounting import SampledGaussian
from tff_transfer.privacy.central import Central
from tff_transfer.records import audit_log
from tff_transfer.training import loop, participants


@pytest.mark.parametrize('quantile', [None, pytest.param(0.5, marks=pytest.mark.slow)])
def test_a_killed_run_leaves_the_log_of_one_that_was_not(
    quantile, tmp_path, monkeypatch
):
    made = make_config(weighting='uniform', rounds=5, seed=7)
    of = Central(noise_multiplier=0.2, clip=0.2, quantile=quantile)
    config, data = dataclasses.replace(made, privacy=of), make_data()
    cohort, chosen = participants.Participants.cohort, {}

    def dying(participants, turnout, round_number):
        clients = participants.setup.seen[turnout.clients]
        chosen[round_number] = [data.client_ids[client] for client in clients]
        if round_number == 4 and not (tmp_path / 'died').exists():
            (tmp_path / 'died').touch()
            raise KeyError('killed')
        return cohort(participants, turnout, round_number)

    monkeypatch.setattr(participants.Participants, 'cohort', dying)
    # What little noise costs takes long to compute.
    monkeypatch.setattr(SampledGaussian, 'epsilon', lambda mechanism, rounds: 1.0)
    run_dir = tmp_path / 'run'
    with pytest.raises(KeyError):
        loop.train(config, run_dir, data=data)
    # What the round was about to do is there before it is done.
    before = (run_dir / audit_log.FILE).read_bytes().splitlines()
    assert len(before) == 4
    result = loop.train(config, run_dir, data=data)
    lines = (run_dir / audit_log.FILE).read_bytes().splitlines()
    assert lines[:4] == before and len(lines) == 5
    assert audit_log.verify(run_dir).sha256 in result.chosen['audit.jsonl']
    key = (run_dir / 'audit_key').read_text().strip()
    told = [json.loads(line) for line in lines]
    for line in told:
        names = chosen[line['round']]
        assert line['clients'] == audit_log.pseudonyms(names, key)
        assert line['sent'] == {'update': 4 * (5 * 3 + 3)}
        assert line['noise_multiplier'] == 0.2
    # The clipping norm is the one that the round had.
    assert told[0]['clip'] == 0.2
    assert len({line['clip'] for line in told}) == (1 if quantile is None else 5)


@pytest.mark.slow
def test_a_run_without_promises_leaves_none(tmp_path):
    loop.train(make_config(rounds=1), tmp_path / 'run', data=make_data())
    assert not (tmp_path / 'run' / audit_log.FILE).exists()
