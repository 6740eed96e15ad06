"""What a command line of several values is as a grid."""

import pytest
from absl import flags

from experiments.compare import axes, grid, running
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config

WRITERS = ('--dataset=synthetic_writers',)


def given(*arguments):
    values = flags.FlagValues()
    axes.define_flags(Config, values)
    values(['program', *arguments])
    return axes.given(values)


def arms(*arguments):
    return {arm.name: arm.configs for arm in grid.arms(given(*arguments))}


def test_values_of_flags_are_told_apart_by_their_kind():
    found = given(
        '--seed=0..2,7',
        '--client_learning_rate=0.1,3e-2',
        '--hidden_units=512,256;128',
        '--nobaselines',
        '--algorithm=fedavg,fedprox',
    )
    assert found == {
        'seed': (0, 1, 2, 7),
        'client_learning_rate': (0.1, 0.03),
        'hidden_units': ((512, 256), (128,)),
        'baselines': (False,),
        'algorithm': ('fedavg', 'fedprox'),
    }
    assert given('--seed', '1..2', '--adaptation_epochs=1,5') == {
        'seed': (1, 2),
        'adaptation_epochs': ((1, 5),),
    }


@pytest.mark.parametrize(
    ('argument', 'said'),
    [
        ('--seed=0,,1', 'a value is missing'),
        ('--seed=3..1', 'are not 1 to'),
        ('--seed=0..x', 'a..b are the whole numbers'),
        ('--client_learning_rate=0..1', 'client_learning_rate'),
        ('--algorithm=fedavg,fedproxx', 'fedproxx'),
        ('--algorithm=fedavg;fedprox', 'are an axis'),
    ],
)
def test_what_is_no_value_is_told_with_the_rule(argument, said):
    with pytest.raises(flags.IllegalFlagValueError, match=said) as info:
        given(argument)
    assert '\n' not in str(info.value)


def test_an_option_of_a_method_is_an_axis_of_that_method_alone():
    found = arms(
        *WRITERS,
        '--algorithm=fedavg,fedprox,scaffold',
        '--fedprox.mu=0.01,0.1',
        '--client_learning_rate=0.03,0.1',
        '--seed=0..1',
    )
    assert list(found) == [
        'fedavg, client_learning_rate=0.03',
        'fedavg, client_learning_rate=0.1',
        'fedprox, client_learning_rate=0.03, mu=0.01',
        'fedprox, client_learning_rate=0.03, mu=0.1',
        'fedprox, client_learning_rate=0.1, mu=0.01',
        'fedprox, client_learning_rate=0.1, mu=0.1',
        'scaffold, client_learning_rate=0.03',
        'scaffold, client_learning_rate=0.1',
    ]
    configs = found['fedprox, client_learning_rate=0.1, mu=0.01']
    assert [c.training.seed for c in configs] == [0, 1]
    assert {c.algorithm.mu for c in configs} == {0.01}
    assert {c.training.client_learning_rate for c in configs} == {0.1}


def test_a_flag_is_for_the_configurations_in_which_it_has_an_effect():
    found = arms(
        *WRITERS,
        '--algorithm=fedavg,fedadam,ditto,ridge',
        '--server_learning_rate=0.5,1',
        '--nobaselines',
        '--rounds=3',
    )
    assert list(found) == [
        *('fedavg, server_learning_rate=0.5', 'fedavg, server_learning_rate=1'),
        'fedadam',
        *('ditto, server_learning_rate=0.5', 'ditto, server_learning_rate=1'),
        'ridge',
    ]
    for configs in found.values():
        for config in configs:
            config.check()
    assert found['fedadam'][0].training.rounds == 3
    assert not found['ditto, server_learning_rate=1'][0].training.baselines
    assert found['ridge'][0].training == Config().training


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--algorithm=fedavg,scaffold', '--fedprox.mu=0.1'], '--fedprox.mu is for'),
        (['--algorithm=fedavg,fedprox', '--nobaselines'], '--baselines is not for'),
        (['--algorithm=ridge', '--rounds=5,150'], '--rounds is for methods that'),
    ],
)
def test_what_has_an_effect_in_no_configuration_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        arms(*WRITERS, *arguments)


def test_what_cannot_be_run_is_refused_by_its_name_or_left_out(tmp_path):
    asked = given(*WRITERS, '--algorithm=fedavg,moon,fedproto')
    with pytest.raises(UserError, match=r'^moon cannot be run: .*\(so cannot 1 more\)'):
        running.planned(asked, str(tmp_path))
    plan = running.planned(asked, str(tmp_path), skip_unfit=True)
    assert [arm.name for arm in plan.arms] == ['fedavg']
    assert set(plan.left_out) == {'moon', 'fedproto'}
    with pytest.raises(UserError, match='moon cannot be run'):
        only = given(*WRITERS, '--algorithm=moon')
        running.planned(only, str(tmp_path), skip_unfit=True)


def test_a_flag_may_be_for_the_configurations_that_can_be_with_it():
    asked = given(*WRITERS, '--algorithm=fedavg,ridge,moon', '--compression=float16')
    assert set(grid.unfit(grid.arms(asked))) == {'ridge', 'moon'}
    found = {arm.name: arm.configs[0] for arm in grid.arms(asked, ['compression'])}
    assert set(grid.unfit(grid.arms(asked, ['compression']))) == {'moon'}
    kinds = [type(config.compression).__name__ for config in found.values()]
    assert kinds == ['Float16', 'NoCompression', 'Float16']


def test_a_run_is_known_again_whatever_else_a_grid_holds(tmp_path):
    few = arms(*WRITERS, '--client_learning_rate=0.1', '--rounds=5')
    many = arms(*WRITERS, '--client_learning_rate=0.1,0.2', '--rounds=9')
    (first,) = [grid.folder_of(tmp_path, name, c) for name, (c,) in few.items()]
    assert first.name.startswith('fedavg,seed=0-')
    first.mkdir()
    found = [grid.folder_of(tmp_path, name, c) for name, (c,) in many.items()]
    assert found[0] == first
    assert found[1].name.startswith('client_learning_rate=0.2,seed=0-')
    name = grid.folder_of(tmp_path / 'new', 'a/b ' * 100, few['fedavg'][0]).name
    assert len(name) < 200 and '/' not in name
