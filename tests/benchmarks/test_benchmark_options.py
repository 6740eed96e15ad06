"""Benchmarks without options refuse what is given to them, before they measure."""

import importlib

import pytest


@pytest.mark.parametrize(
    'name',
    [
        *('gan', 'kept', 'own_models', 'personal_heads'),
        *('robust_aggregation', 'secure_aggregation'),
    ],
)
def test_unknown_flags_are_refused(name, monkeypatch, capsys):
    benchmark = importlib.import_module(f'benchmarks.{name}')
    monkeypatch.setattr(benchmark, 'measure', None)
    monkeypatch.setattr('sys.argv', [name, '--rounds=3'])
    with pytest.raises(SystemExit) as ended:
        benchmark.main()
    assert ended.value.code == 2
    assert 'unrecognized arguments: --rounds=3' in capsys.readouterr().err
