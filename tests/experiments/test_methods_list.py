"""The list of methods."""

from experiments import methods
from tff_transfer.algorithms import registry


def test_every_method_is_listed_with_its_source_and_options(capsys):
    methods.main()
    listed = capsys.readouterr().out
    for name in registry.NAMES:
        assert f'--algorithm={name}\n' in listed
    assert (
        'Li et al. 2020, "Federated optimization in heterogeneous networks"' in listed
    )
    assert '--fedprox.mu (0.01): The weight of the proximal term.' in listed
