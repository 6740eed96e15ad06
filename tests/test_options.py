"""Options dataclasses as flags, and their checks."""

import dataclasses

import pytest
from absl import flags

from tff_transfer import options
from tff_transfer.errors import UserError
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class _Inner:
    sizes: tuple[int, ...] = option((), 'Sizes.', at_least=1)
    rate: float = option(0.5, 'A rate.', at_least=0, below=1)


@dataclasses.dataclass(frozen=True)
class _Outer:
    inner: _Inner = _Inner()
    name: str = option('red', 'A name.', choices=('red', 'green'))
    count: int | None = option(None, 'A count.', at_least=1)
    switch: bool = option(True, 'A switch.')


@dataclasses.dataclass(frozen=True)
class _Unbounded:
    rate: float = option(0.5, 'A rate.')
    share: float = option(1.0, 'A share.', at_most=1)


@dataclasses.dataclass(frozen=True)
class _Paint:
    colour: str = option('red', 'A colour.', choices=('red', 'green', 'blue'))
    shade: float = option(0.5, 'A shade.', only_for={'colour': ('green', 'blue')})
    layers: int = option(1, 'Layers.', only_for={'colour': ('red',), 'place': ('in',)})


@dataclasses.dataclass(frozen=True)
class _House:
    place: str = option('in', 'A place.', choices=('in', 'out'))
    door: str | None = option(None, 'A door.')
    lock: bool = option(False, 'A lock.', only_for={'door': options.GIVEN})
    floors: int = option(1, 'Floors.', only_for={'plan': tuple('abcdef')})


@pytest.fixture
def parse():
    values = flags.FlagValues()
    options.define_flags(_Outer, values)

    def parse(*arguments):
        values(['program', *arguments])
        return options.from_flags(_Outer, values)

    return parse


def test_without_flags_the_defaults_stand(parse):
    assert parse() == _Outer()


@pytest.mark.parametrize(
    ('given', 'expected'),
    [
        (_Outer(), []),
        (_Outer(name='green', switch=False), ['--name=green', '--noswitch']),
        (_Outer(_Inner((1, 2), 1e-7)), ['--sizes=1,2', '--rate=1e-07']),
    ],
)
def test_flags_of_what_is_no_default_make_it_again(parse, given, expected):
    assert options.to_flags(given) == expected
    assert parse(*expected) == given


def test_flags_are_typed(parse):
    outer = parse(
        '--sizes=512,256', '--rate=0.25', '--name=green', '--count=3', '--noswitch'
    )
    expected = _Outer(_Inner((512, 256), 0.25), 'green', 3, False)
    assert outer == expected


def test_a_flag_of_another_type_is_an_error_that_names_it(parse):
    with pytest.raises(flags.Error, match='--count'):
        parse('--count=many')
    with pytest.raises(flags.Error, match='--sizes'):
        parse('--sizes=1,b')


def test_an_option_that_is_gone_and_was_not_set_is_passed_over():
    values = options.to_dict(_Outer())
    assert options.from_dict(_Outer, {**values, 'gone': None}) == _Outer()
    with pytest.raises(KeyError, match='gone'):
        options.from_dict(_Outer, {**values, 'gone': 0})


def test_from_dict_undoes_to_dict():
    outer = _Outer(_Inner((3, 4), 0.1), 'green', 2, False)
    assert options.from_dict(_Outer, options.to_dict(outer)) == outer


@pytest.mark.parametrize(
    ('value', 'part'),
    [
        (_Inner(rate=1.0), '--rate is 1.0, but must be below 1'),
        (_Inner(rate=float('nan')), '--rate is nan, but must be a finite number'),
        (_Inner(rate=float('-inf')), '--rate is -inf, but must be a finite number'),
        (_Unbounded(rate=float('inf')), '--rate is inf, but must be a finite number'),
        (_Unbounded(share=1.5), '--share is 1.5, but must be at most 1'),
        (_Unbounded(rate=10**400), '--rate is beyond 2**63'),
        (_Inner(sizes=512), '--sizes is 512, but must be a tuple, such as (512, 256)'),
        (_Inner(sizes=[64]), '--sizes is [64], but must be a tuple'),
        (_Inner(sizes=('64',)), "--sizes is '64', but must be of type int"),
        (_Inner(sizes=(10**30,)), '--sizes is beyond 2**63'),
        (_Inner(rate='x'), "--rate is 'x', but must be of type float"),
        (_Inner(sizes=(3, 0)), '--sizes is 0, but must be at least 1'),
        (_Outer(name='gren'), 'must be one of red, green; did you mean green?'),
        (_Outer(count=True), '--count is True, but must be of type int'),
        (_Outer(count=0), '--count is 0'),
    ],
)
def test_check_refuses(value, part):
    if isinstance(value, _Outer):
        value = dataclasses.make_dataclass(
            'Flat', [(f.name, f.type, f) for f in dataclasses.fields(_Outer)[1:]]
        )(*dataclasses.astuple(value)[1:])
    with pytest.raises(UserError) as caught:
        options.check(value)
    assert part in str(caught.value)
    assert '\n' not in str(caught.value)


def test_check_accepts_none_where_the_type_does():
    options.check(_Inner())


@pytest.mark.parametrize(
    ('paint', 'house', 'message'),
    [
        (_Paint(), _House('out'), None),
        (_Paint('green', shade=0.1), _House(), None),
        (_Paint(shade=0.5), _House(), None),
        (_Paint(layers=2), _House(), None),
        (
            _Paint(shade=0.1),
            _House(),
            '--shade is for --colour=green or blue, but --colour is red; leave it out',
        ),
        (_Paint(), _House(door='oak', lock=True), None),
        (
            _Paint(),
            _House(lock=True),
            '--lock is for --door; give both or leave it out',
        ),
        (_Paint(), _House(floors=2), '--floors is not for --plan=g; leave it out'),
        (
            _Paint(layers=2),
            _House('out'),
            '--layers is for --place=in, but --place is out; leave it out',
        ),
    ],
)
def test_an_option_without_effect_is_refused(paint, house, message):
    if message is None:
        options.check_effects(paint, house, plan='g')
        return
    with pytest.raises(UserError) as caught:
        options.check_effects(paint, house, plan='g')
    assert str(caught.value) == message


def test_what_has_no_effect_has_its_default():
    given = _Paint('green', shade=0.1, layers=2), _House('in', lock=True, floors=2)
    paint, house = options.in_effect(*given, plan='g')
    assert (paint, house) == (_Paint('green', shade=0.1), _House('in'))
    options.check_effects(paint, house, plan='g')
    # The lock is for the door, which is for nothing.
    kept = _Paint('red', layers=2), _House('in', door='oak', lock=True, floors=2)
    assert options.in_effect(*kept, plan='a') == [*kept]
