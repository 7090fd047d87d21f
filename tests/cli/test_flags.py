"""Flags from settings, the help page, one-line errors and exit codes."""

import dataclasses

import pytest
from absl import flags

from dtql_jax.agents.settings import Settings, setting
from dtql_jax.cli.flags import (
    as_flags,
    columns,
    define_settings,
    define_whole,
    given,
    help_page,
    parse,
    run_command,
    shown,
)
from dtql_jax.types import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Knobs(Settings):
    """Settings of every kind."""

    steps: int = setting(1_000_000, 'how many')
    rate: float = setting(0.5, 'how fast')
    name: str = setting('a', 'which', choices=('a', 'b'))
    decay: bool = setting(True, 'whether it slows down')
    clip: bool = setting(False, 'whether it is clipped')
    limit: int | None = setting(None, 'at most')


@pytest.fixture
def knobs():
    values = flags.FlagValues()
    define_settings(Knobs, values)
    return values


def test_define_settings__makes_a_flag_of_each_field_or_of_those_that_are_named(knobs):
    assert list(knobs) == ['steps', 'rate', 'name', 'decay', 'clip', 'limit']
    values = flags.FlagValues()
    define_whole('steps', None, 'taken', values)
    assert define_settings(Knobs, values, ['steps', 'rate']) == ['rate']
    assert values['steps'].help == 'taken'


def test_given__has_the_text_of_what_was_given_alone(knobs):
    parsed = parse(knobs, ['x', '--steps=3e5', '--nodecay', '--clip', '--rate', 'much'])
    expected = {'steps': '3e5', 'decay': 'false', 'clip': 'true', 'rate': 'much'}
    assert given(parsed, list(parsed)) == expected
    assert given(parsed, ['steps', 'limit']) == {'steps': '3e5'}
    assert given(parse(knobs, ['x']), list(knobs)) == {}


def test_parse__leaves_the_flags_as_they_were(knobs):
    parse(knobs, ['x', '--steps=3'])
    assert not knobs['steps'].present


def test_define_whole__takes_exponents_and_refuses_fractions():
    values = flags.FlagValues()
    define_whole('n', None, '', values)
    assert parse(values, ['x', '--n=3e5']).n == 300_000
    assert parse(values, ['x', f'--n={2**63 - 1}']).n == 2**63 - 1  # no float on the way
    for text in ('2.5', 'many', 'inf', 'nan'):
        with pytest.raises(UserError, match=f'--n={text}: not a whole number'):
            parse(values, ['x', f'--n={text}'])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--stpes=3'], 'unknown flag --stpes; nearest: --steps'),
        (['--steps'], 'Missing value for flag --steps; see --help'),
        (['steps'], "'steps' is no flag: flags begin with --, see --help"),
        (['--nodecay=1'], '--nodecay=1 does not take an argument; see --help'),
    ],
)
def test_parse__refuses_what_it_cannot_read(arguments, message, knobs):
    with pytest.raises(UserError) as error:
        parse(knobs, ['x', *arguments])
    assert str(error.value) == message


def test_as_flags__replaces_the_names_that_are_flags(knobs):
    assert as_flags('`steps`=0: must be 1', knobs) == '--steps=0: must be 1'
    assert as_flags("`steps`='many': no number", knobs) == '--steps=many: no number'
    assert as_flags("`settings`='x', 'y': or `name`", knobs) == "settings=x, 'y': or --name"
    assert as_flags('two\nlines', knobs) == 'two lines'


def test_help_page__has_a_line_for_each_flag_in_aligned_columns(knobs):
    assert help_page('About.\n', knobs).splitlines() == [
        'About.',
        '',
        'Flags:',
        '  --steps=N    how many (default: 1,000,000)',
        '  --rate=X     how fast (default: 0.5)',
        '  --name=TEXT  which: a, b (default: a)',
        '  --[no]decay  whether it slows down (default: true)',
        '  --[no]clip   whether it is clipped',
        '  --limit=N    at most',
    ]
    page = help_page('About.', knobs, {'One': ['rate'], 'Two': ['name']})
    assert page.split('\n\n')[1:] == [
        'One:\n  --rate=X  how fast (default: 0.5)',
        'Two:\n  --name=TEXT  which: a, b (default: a)',
    ]


def test_columns__wraps_the_last_one():
    rows = [('a', 'bb', 'one two three'), ('aaa', '', 'x')]
    assert columns(rows, 17) == ['a    bb  one two', '         three', 'aaa      x']


def test_shown__is_what_a_person_reads():
    assert [shown(x) for x in (True, 1_000_000, 0.0003, 'x', None)] == [
        'true', '1,000,000', '0.0003', 'x', 'None',
    ]  # fmt: skip


def test_run_command__returns_the_exit_code(knobs, capsys):
    def run(result):
        def main(parsed):
            if isinstance(result, BaseException):
                raise result
            return result

        return run_command(main, knobs, 'About.', ['x'])

    assert [run(None), run(0), run(1)] == [0, 0, 1]
    assert capsys.readouterr() == ('', '')
    assert run(UserError('`steps`=0: mend it')) == 2
    assert capsys.readouterr() == ('', 'error: --steps=0: mend it\n')
    assert run(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ('', 'interrupted\n')
    with pytest.raises(ZeroDivisionError):  # a bug is no mistake of the user
        run(ZeroDivisionError())


@pytest.mark.parametrize('flag', ['--help', '-h', '--helpfull', '-help'])
def test_run_command__help_wins_over_everything(flag, knobs, capsys):
    assert run_command(lambda _: 1, knobs, 'About.', ['x', '--nonsense', flag]) == 0
    assert capsys.readouterr().out == help_page('About.', knobs) + '\n'
