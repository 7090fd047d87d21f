"""Settings: types, ranges, choices, defaults that are filled in later, and the nearest names."""

import dataclasses
import math

import pytest

from dtql_jax.agents import base, settings
from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.agents.settings import Limits, Settings, setting
from dtql_jax.types import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample(Settings):
    """One field of each kind."""

    count: int = setting(3, 'how many', least=1, most=9)
    rate: float = setting(0.5, above=0, below=1)
    shift: float = setting(-1.0, 'any finite number')
    weight: float = setting(2.0)
    switch: bool = setting(False, 'on or off')
    kind: str = setting('red', choices=('red', 'green'))
    later: int | None = setting(None, 'filled in later', least=1)
    text: str | None = setting(None, choices=('a', 'b'))
    plain: float = 1.0
    negative: float = -1.0


def test_kinds__are_the_types_in_the_order_of_the_class():
    expected = {
        'count': int, 'rate': float, 'shift': float, 'weight': float, 'switch': bool, 'kind': str,
        'later': int, 'text': str, 'plain': float, 'negative': float,
    }  # fmt: skip
    assert list(settings.kinds(Sample).items()) == list(expected.items())


def test_floats__are_the_float_fields_by_value():
    sample = Sample(rate=0.25)
    floats = {'rate': 0.25, 'shift': -1.0, 'weight': 2.0, 'plain': 1.0, 'negative': -1.0}
    assert sample.floats() == floats


def fields():
    return {field.name: field for field in dataclasses.fields(Sample)}


def test_limits__imply_that_a_number_is_not_negative_unless_its_default_is():
    found = {name: settings.limits(field) for name, field in fields().items()}
    assert found['count'] == Limits(least=1, most=9)
    assert found['rate'] == Limits(above=0, below=1)
    assert found['weight'] == found['plain'] == Limits(least=0)
    assert found['shift'] == found['negative'] == found['switch'] == Limits()
    assert found['later'] == Limits(least=1)
    assert found['kind'] == Limits(choices=('red', 'green'))


def test_meaning__is_empty_where_the_class_is_silent():
    meanings = {name: settings.meaning(field) for name, field in fields().items()}
    assert meanings['count'] == 'how many'
    assert meanings['rate'] == meanings['plain'] == ''


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'count': 0}, '`count`=0: must be at least 1'),
        ({'count': 10}, '`count`=10: must be at most 9'),
        ({'rate': 0.0}, '`rate`=0.0: must be above 0'),
        ({'rate': 1.0}, '`rate`=1.0: must be below 1'),
        ({'weight': -0.1}, '`weight`=-0.1: must be at least 0'),
        ({'plain': -1.0}, '`plain`=-1.0: must be at least 0'),
        ({'kind': 'blue'}, '`kind`=blue: must be one of red, green'),
        ({'later': 0}, '`later`=0: must be at least 1'),
        ({'text': 'c'}, '`text`=c: must be one of a, b'),
    ],
)
def test_Settings__refuses_what_is_out_of_range_in_one_line(values, message):
    with pytest.raises(UserError) as error:
        Sample(**values)
    assert str(error.value) == message
    with pytest.raises(UserError) as error:
        settings.parse_all(Sample, {name: str(value) for name, value in values.items()})
    assert str(error.value) == message


def test_Settings__accepts_the_ends_of_a_range_and_none():
    sample = Sample(count=9, shift=-5.0, later=None, text=None, negative=-2.0)
    assert (sample.count, sample.later) == (9, None)
    assert Sample(count=1).count == 1


@pytest.mark.parametrize(
    ('name', 'given', 'value'),
    [
        ('count', 5, 5),
        ('count', '5', 5),
        ('count', '5e0', 5),
        ('count', 5.0, 5),
        ('rate', '.25', 0.25),
        ('weight', '3', 3.0),
        ('weight', 3, 3.0),
        ('shift', '-2.5e-1', -0.25),
        ('switch', True, True),
        ('switch', 'true', True),
        ('switch', 'Yes', True),
        ('switch', '1', True),
        ('switch', 'FALSE', False),
        ('switch', 'no', False),
        ('switch', 0, False),
        ('kind', 'green', 'green'),
        ('later', '7', 7),
        ('later', None, None),
        ('text', 'b', 'b'),
        ('text', None, None),
    ],
)
def test_parse__converts_to_the_type_of_the_field(name, given, value):
    parsed = settings.parse(Sample, name, given)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ('name', 'given', 'message'),
    [
        ('count', 2.5, '`count`=2.5: not a whole number'),
        ('count', 'many', "`count`='many': not a whole number"),
        ('count', True, '`count`=True: not a whole number'),
        ('count', None, '`count`=None: not a whole number'),
        ('count', 'inf', "`count`='inf': not a whole number"),
        ('rate', 'nan', "`rate`='nan': not a finite number"),
        ('rate', math.inf, '`rate`=inf: not a finite number'),
        ('rate', [0.5], '`rate`=[0.5]: not a finite number'),
        ('rate', False, '`rate`=False: not a finite number'),
        ('switch', 'maybe', "`switch`='maybe': not true or false"),
        ('switch', 2, '`switch`=2: not true or false'),
        ('kind', 3, '`kind`=3: not text'),
        ('later', 'soon', "`later`='soon': not a whole number"),
        ('coumt', 3, "unknown setting 'coumt'; nearest: count"),
    ],
)
def test_parse__refuses_other_types_and_names_in_one_line(name, given, message):
    with pytest.raises(UserError) as error:
        settings.parse(Sample, name, given)
    assert str(error.value) == message


def test_parse__may_suggest_names_of_others():
    with pytest.raises(UserError, match='nearest: eval_envs'):
        settings.parse(Sample, 'eval_env', 3, others=['eval_envs', 'env'])


def test_nearest__lists_all_names_if_none_is_similar():
    assert settings.nearest('beta', ['theta', 'eta', 'gamma']) == 'eta, theta'
    assert settings.nearest('xyz', ['eta', 'alpha']) == 'alpha, eta'


def test_with_default__keeps_meaning_and_limits():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Other(Sample):
        count: int = settings.with_default(Sample, 'count', 4)

    assert Other().count == 4
    with pytest.raises(UserError, match='`count`=10: must be at most 9'):
        Other(count=10)
    (field,) = (field for field in dataclasses.fields(Other) if field.name == 'count')
    assert settings.meaning(field) == 'how many'


@pytest.mark.parametrize('agent', AGENTS)
def test_meaning__of_every_setting_of_every_agent_is_a_phrase_of_its_own(agent):
    """The help page shows each alone, in front of its choices and its default."""
    for field in dataclasses.fields(AGENTS[agent].agent.config_class):
        text = settings.meaning(field)
        assert len(text.split()) > 1, field.name
        assert not text.startswith(('of ', 'or ', 'as ', 'and ')), field.name
        assert not text.endswith(('.', ':')), field.name


@pytest.mark.parametrize('agent', AGENTS)
def test_precision__is_one_of_three_for_every_agent(agent):
    assert task_config(agent, '').precision == 'highest'
    assert task_config(agent, '', {'precision': 'default'}).precision == 'default'
    message = '`precision`=float16: must be one of default, high, highest'
    with pytest.raises(UserError, match=message):
        task_config(agent, '', {'precision': 'float16'})


@pytest.mark.parametrize('name', ['steps', 'batch_size', 'eval_every'])
@pytest.mark.parametrize('agent', AGENTS)
def test_Config__of_every_agent_needs_at_least_one_update_transition_and_evaluation(agent, name):
    with pytest.raises(UserError, match=f'`{name}`=0: must be at least 1'):
        task_config(agent, '', {name: 0})
    assert issubclass(AGENTS[agent].agent.config_class, base.Config)


def test_Settings__parses_values_of_other_types():
    assert Sample(count='3', rate='1e-1').count == 3
    with pytest.raises(UserError, match=r"^`count`='many': not a whole number$"):
        Sample(count='many')
