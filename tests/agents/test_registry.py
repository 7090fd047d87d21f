"""The registry of algorithms: registering, finding by name, module or file, and reading a run back.

Each test has a registry, a module table and a search path of its own.
"""

import dataclasses
import sys
import textwrap
from pathlib import Path

import pytest

from dtql_jax.agents import registry
from dtql_jax.agents.base import Agent, Config
from dtql_jax.agents.bc import BC
from dtql_jax.agents.dtql import DTQL
from dtql_jax.agents.registry import agent_file, find_agent, register_agent, task_config
from dtql_jax.types import UserError

OWN = '''
from dtql_jax.agents.bc import BC


class Own(BC):
    """An agent of one's own."""


not_an_agent = 3
'''
TABLE = "TABLE = {'pen-human': {'lr': 0.25, 'steps': '3e2'}}"


class Mine(Agent):
    """An agent that is defined here."""


@pytest.fixture(autouse=True)
def separate(monkeypatch, tmp_path):
    """Leaves registry, modules and search path as they were; the working directory is empty."""
    before = dict(sys.modules)
    monkeypatch.setattr(registry, 'AGENTS', dict(registry.AGENTS))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    (tmp_path / 'cwd').mkdir()
    monkeypatch.chdir(tmp_path / 'cwd')
    yield
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def write(path, *parts):
    path.parent.mkdir(exist_ok=True)
    path.write_text('\n'.join(textwrap.dedent(part) for part in parts) + '\n')
    return path


def forget(*names):
    """As in another process: the modules and their agents are unknown again."""
    for name in names:
        sys.modules.pop(name, None)
        registry.AGENTS.pop(name, None)


def message_of(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


# Registering.


def test_register_agent__adds_the_class_and_its_table():
    assert register_agent('mine', Mine, {'pen-human': {'discount': 0.5}}) is Mine
    assert find_agent('mine').agent is Mine
    assert task_config('mine', 'pen-human').discount == 0.5
    assert task_config('mine', 'pen-cloned').discount == 0.99


def test_register_agent__needs_no_table():
    register_agent('mine', Mine)
    assert find_agent('mine').table == {}
    assert task_config('mine', ('pen-human', 'pen')) == Config()


def test_register_agent__parses_the_values_of_a_table():
    register_agent('mine', Mine, {'pen-human': {'steps': '3e5', 'discount': 1}})
    config = task_config('mine', 'pen-human')
    assert (config.steps, type(config.steps)) == (300_000, int)
    assert type(config.discount) is float


def test_register_agent__refuses_a_taken_name():
    message = message_of(register_agent, 'dtql', Mine)
    assert message == "there is an agent 'dtql' already: register yours under another name"
    assert find_agent('dtql').agent is DTQL


def test_register_agent__takes_the_same_class_again():
    register_agent('mine', Mine)
    register_agent('mine', Mine, {'pen': {'steps': 7}})
    assert task_config('mine', 'pen').steps == 7
    register_agent('bc', BC)
    assert find_agent('bc').agent is BC


@pytest.mark.parametrize('value', [Config, Mine.__init__, 'Mine', 3])
def test_register_agent__refuses_what_is_no_subclass(value):
    message = message_of(register_agent, 'mine', value)
    assert message.startswith("agent 'mine': ")
    assert message.endswith(' is no subclass of dtql_jax.Agent')


@pytest.mark.parametrize(
    ('row', 'problem'),
    [
        ({'disount': 0.5}, "unknown setting 'disount'; nearest: discount"),
        ({'discount': 1.5}, '`discount`=1.5: must be at most 1'),
        ({'steps': 2.5}, '`steps`=2.5: not a whole number'),
    ],
)
def test_register_agent__names_a_bad_row(row, problem):
    message = message_of(register_agent, 'mine', Mine, {'pen-human': row})
    assert message.startswith(f"agent 'mine', row 'pen-human' of its table: {problem}")
    assert 'mine' not in registry.AGENTS


def test_register_agent__checks_what_only_several_settings_together_show():
    row = {'policy': 'implicit', 'gamma': 1.0}
    message = message_of(register_agent, 'mine', type('Other', (DTQL,), {}), {'pen': row})
    assert 'a policy without a density' in message


# Finding.


def test_find_agent__names_the_nearest_and_the_way_to_an_own_agent():
    message = message_of(find_agent, 'dtqll')
    assert message.startswith("unknown agent 'dtqll'; nearest: dtql")
    assert message.endswith('(an agent of your own: `agent`=my_module:MyAgent)')


def test_find_agent__by_a_module_of_the_working_directory():
    write(Path('module_in_cwd.py'), OWN)
    found = find_agent('module_in_cwd:Own')
    assert (found.agent.__name__, found.table) == ('Own', {})
    assert find_agent('module_in_cwd:Own') is found


def test_find_agent__by_a_file(tmp_path):
    file = write(tmp_path / 'elsewhere' / 'own_in_file.py', OWN, TABLE)
    found = find_agent(f'{file}:Own')
    assert found.agent.__module__ == 'own_in_file'
    assert task_config(f'{file}:Own', 'pen-human').steps == 300
    assert task_config(f'{file}:Own', 'pen-human', {'lr': '1'}).lr == 1.0
    # Its import is not repeated: the same class, also by its module's name.
    assert find_agent('own_in_file:Own').agent is found.agent


def test_find_agent__by_a_file_of_the_working_directory_that_is_searched_already():
    """As with `python -m`, where the file is found as a module too."""
    sys.path.insert(0, str(Path.cwd()))
    write(Path('own_in_cwd.py'), OWN)
    assert find_agent('own_in_cwd.py:Own').agent.__module__ == 'own_in_cwd'


def test_find_agent__names_a_missing_module():
    message = message_of(find_agent, 'no_such_module:Own')
    assert message.startswith("there is no module 'no_such_module' in the working directory")
    assert message.endswith('write `agent`=path/to/file.py:MyAgent')
    assert 'no_such.module' in message_of(find_agent, 'no_such.module:Own')


def test_find_agent__names_what_a_module_fails_to_import():
    write(Path('module_that_needs.py'), 'import no_such_dependency')
    message = message_of(find_agent, 'module_that_needs:Own')
    assert message == "module_that_needs imports 'no_such_dependency', which is not installed"


@pytest.mark.parametrize('attribute', ['Absent', 'not_an_agent', ''])
def test_find_agent__names_a_missing_class(tmp_path, attribute):
    file = write(tmp_path / 'elsewhere' / 'own_without.py', OWN)
    message = message_of(find_agent, f'{file}:{attribute}')
    assert message == (
        f'`agent`={file}:{attribute}: {file} has no subclass of dtql_jax.Agent {attribute!r}'
    )


def test_find_agent__names_a_missing_file(tmp_path):
    file = tmp_path / 'absent.py'
    message = message_of(find_agent, f'{file}:Own')
    assert message == f'there is no file {file}, which should define the agent: restore the file'


def test_find_agent__refuses_a_second_file_of_the_same_name(tmp_path):
    first = write(tmp_path / 'first' / 'twice_named.py', OWN)
    second = write(tmp_path / 'second' / 'twice_named.py', OWN)
    find_agent(f'{first}:Own')
    message = message_of(find_agent, f'{second}:Own')
    assert message == f"{second}: there is another module 'twice_named'; rename the file"
    named_as_a_library = write(tmp_path / 'third' / 'textwrap.py', OWN)
    assert 'there is another module' in message_of(find_agent, f'{named_as_a_library}:Own')
    dotted = write(tmp_path / 'third' / 'own.v2.py', OWN)
    assert 'has no dots' in message_of(find_agent, f'{dotted}:Own')


def test_find_agent__names_a_bad_row_of_a_file(tmp_path):
    file = write(tmp_path / 'elsewhere' / 'own_bad_row.py', OWN, "TABLE = {'pen': {'lr': -1}}")
    message = message_of(find_agent, f'{file}:Own')
    assert message.endswith("row 'pen' of its table: `lr`=-1.0: must be at least 0")


# Reading a run back, in another process and from another folder.


def test_find_agent__reads_the_file_of_a_run_where_the_module_is_not_found(tmp_path):
    file = write(tmp_path / 'elsewhere' / 'own_of_run.py', OWN)
    recorded = agent_file(find_agent(f'{file}:Own').agent)
    assert recorded == str(file)
    for name in ('own_of_run:Own', 'moved/own_of_run.py:Own'):
        forget('own_of_run', name)
        sys.path[:] = [folder for folder in sys.path if folder != str(file.parent)]
        assert find_agent(name, recorded).agent.__name__ == 'Own'


def test_find_agent__imports_the_file_of_a_run_that_registers_a_name(tmp_path):
    registers = "from dtql_jax.agents.registry import register_agent\nregister_agent('own', Own)"
    file = write(tmp_path / 'elsewhere' / 'own_registers.py', OWN, registers)
    assert find_agent('own', str(file)).agent.__name__ == 'Own'
    # Without the registration the name stays unknown.
    other = write(tmp_path / 'elsewhere' / 'own_silent.py', OWN)
    assert "unknown agent 'silent'" in message_of(find_agent, 'silent', str(other))


def test_find_agent__names_the_file_of_a_run_that_is_gone(tmp_path):
    gone = str(tmp_path / 'gone.py')
    for name in ('own', 'no_such_module:Own', 'no_such_file.py:Own'):
        assert f'there is no file {gone}' in message_of(find_agent, name, gone)


def test_find_agent__prefers_the_registry_to_the_file(tmp_path):
    assert find_agent('dtql', str(tmp_path / 'gone.py')).agent is DTQL


def test_agent_file__is_none_for_the_package_and_the_file_for_an_own_class():
    assert agent_file(DTQL) is None
    assert agent_file(Mine) == __file__


def test_register_agent__refuses_a_setting_that_no_flag_can_hold():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Wide(Config):
        widths: tuple[int, ...] = (8, 8)

    class Odd(Agent):
        config_class = Wide

    with pytest.raises(UserError, match=r"^agent 'odd': its setting 'widths' has the type tuple"):
        register_agent('odd', Odd)
