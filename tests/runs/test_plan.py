"""What a user may ask for, and the plan that is made of it."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

import dtql_jax
from dtql_jax.agents import registry
from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.agents.settings import kinds, setting
from dtql_jax.runs.folder import check_same
from dtql_jax.runs.plan import OF_ANY_RUN, Request, by_name, label, make_plan, make_request
from dtql_jax.tasks.registry import TASKS
from dtql_jax.types import UserError
from tests.helpers.small_runs import ENV


def plan(**asked):
    return make_plan(make_request(asked))


def refusal(**asked):
    """The one line that refuses a request."""
    with pytest.raises(UserError) as error:
        plan(**{'env': ENV, **asked})
    assert '\n' not in str(error.value)
    return str(error.value)


# Requests.


def test_make_request__reads_values_of_every_form():
    asked = make_request({
        'env': ENV, 'num_seeds': '3', 'overlap': 'yes', 'eval_envs': np.int64(2),
        'steps': '3e5', 'settings': {'alpha': 2},
    })  # fmt: skip
    assert (asked.num_seeds, asked.overlap, asked.eval_envs) == (3, True, 2)
    assert type(asked.eval_envs) is int
    assert asked.settings == {'steps': '3e5', 'alpha': 2}
    assert make_request(asked) == asked


def test_make_request__a_wrong_value_names_the_argument():
    assert refusal(num_seeds='many') == "`num_seeds`='many': not a whole number"
    assert refusal(num_seeds=0) == '`num_seeds`=0: must be at least 1'
    assert refusal(seed=2**32).startswith(f'`seed`={2**32}: the seeds must stay below 2^32')
    assert refusal(settings=['alpha=1']) == (
        "`settings`=['alpha=1']: give a dict of names and values"
    )
    assert refusal(log_to='wandb') == "`log_to`='wandb': give a list of names"
    assert refusal(agent=3) == '`agent`=3: not text'


def test_make_request__a_python_request_is_checked_like_a_command_line():
    with pytest.raises(UserError, match=r"unknown setting 'steps_'; nearest: steps"):
        dtql_jax.run({'env': ENV, 'steps_': 3})
    with pytest.raises(UserError, match="`num_seeds`='two': not a whole number"):
        dtql_jax.run(Request(env=ENV, num_seeds='two'))
    with pytest.raises(UserError, match='give a dict'):
        dtql_jax.run({'env': ENV, 'settings': ['alpha=1']})


def test_make_request__a_setting_that_is_given_twice_is_refused():
    assert refusal(alpha=1, settings={'alpha': 1}) == (
        '`alpha` is given twice: in `settings` and beside it'
    )
    assert refusal(settings={'seed': 1}) == (
        '`seed` is no setting of an agent: give it beside `settings`'
    )


def test_make_request__paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = make_request({'dataset_path': 'sets/x', 'agent': 'mine.py:Mine'})
    assert asked.dataset_path == str(tmp_path / 'sets' / 'x')
    assert asked.agent == f'{tmp_path / "mine.py"}:Mine'
    assert make_request({'agent': 'mine:Mine'}).agent == 'mine:Mine'
    assert make_request({'dataset_path': '~/x'}).dataset_path == str(Path.home() / 'x')


def test_make_request__the_folder_of_own_data_is_absolute_and_may_have_blanks(
    tmp_path, monkeypatch
):
    (tmp_path / 'my sets' / 'x' / 'data').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('HOME', str(tmp_path))
    whole = f'minari:{tmp_path}/my sets/x'
    for name in ('my sets/x', './my sets/x', '~/my sets/x'):
        asked = make_request({'env': f'minari:{name}'})
        assert asked.env == whole
        assert make_plan(asked).task.datasets == (f'{tmp_path}/my sets/x',)
    monkeypatch.chdir('/')
    assert make_plan(asked).task.datasets == (f'{tmp_path}/my sets/x',)
    assert make_request({'env': 'minari:me/x-v0'}).env == 'minari:me/x-v0'


@pytest.mark.parametrize('name', ['env', 'agent', 'dataset_path', 'source'])
def test_make_request__a_slip_in_a_text_is_one_line(name):
    assert refusal(**{name: ''}) == f"`{name}`='' is empty: give a value, or leave it out"
    assert refusal(**{name: 'x '}) == f"`{name}`='x ' has blanks at an end: remove them"
    assert 'control character' in refusal(**{name: 'a\0b'})


@pytest.mark.parametrize('asked', [{'dataset_path': '~nobodyhere/x'}, {'agent': '~nobody9/a.py:A'}])
def test_make_request__an_unknown_home_is_one_line(asked):
    assert 'the home folder is unknown' in refusal(**asked)


def test_by_name__of_a_request_only_what_differs_from_the_defaults_is_asked_for():
    assert by_name(Request()) == {}
    asked = Request(env=ENV, num_seeds=2, seed=3, settings={'alpha': 1.0})
    assert by_name(asked) == {'env': ENV, 'seed': 3, 'alpha': 1.0}


def test_label__is_the_class_of_an_agent_of_ones_own():
    names = ['dtql', 'my_module:Mine', '/a/b.py:Mine']
    assert [label(name) for name in names] == ['dtql', 'Mine', 'Mine']


# Settings.


def test_make_plan__settings_have_the_types_of_their_fields():
    text = {'alpha': '0.5', 'lr_decay': 'TRUE', 'steps': '3e5', 'hidden': 32.0, 'gamma': 1}
    for config in (task_config('dtql', '', text), plan(env=ENV, **text).config):
        assert (config.alpha, config.lr_decay, config.steps, config.hidden) == (
            0.5, True, 300_000, 32,
        )  # fmt: skip
        assert [type(getattr(config, name)) for name in text] == [float, bool, int, int, float]
    for name, value in {'steps': True, 'alpha': False, 'lr_decay': 2, 'reward': 3.5}.items():
        assert re.match(f'`{name}`={value}: not ', refusal(**{name: value}))


def test_make_plan__requests_beat_the_tables_and_tables_beat_the_defaults():
    hopper = plan(env='hopper-medium', steps=7, settings={'alpha': '2'})
    assert (hopper.config.steps, hopper.config.alpha, hopper.config.lr) == (7, 2.0, 1e-4)
    assert hopper.eval_episodes == TASKS['hopper-medium'].eval_episodes
    assert hopper.request.settings == {'steps': 7, 'alpha': 2.0}


@pytest.mark.parametrize(
    ('name', 'nearest'),
    [('num_sedes', 'num_seeds'), ('alhpa', 'alpha'), ('gaol', 'goal'), ('sucess_ends', 'success_')],
)
def test_make_plan__an_unknown_name_suggests_fields_settings_and_those_of_a_maze(name, nearest):
    for asked in ({name: 1}, {'settings': {name: 1}}):
        assert refusal(**asked).startswith(f'unknown setting {name!r}; nearest: {nearest}')


@pytest.mark.parametrize('name', AGENTS)
def test_make_plan__no_setting_of_an_agent_has_the_name_of_something_else(name):
    assert not kinds(AGENTS[name].agent.config_class).keys() & set(OF_ANY_RUN)


def test_make_plan__an_own_agent_whose_setting_has_such_a_name_is_refused(monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(dtql_jax.Config):
        goal: float = setting(1.0, 'of its own')

    class Mine(dtql_jax.Agent):
        config_class = Config

    monkeypatch.setattr(registry, 'AGENTS', dict(AGENTS))
    registry.register_agent('mine', Mine)
    assert refusal(agent='mine').startswith("agent mine: its setting 'goal' has the name of ")


def test_make_plan__a_source_is_part_of_what_a_run_is():
    d4rl, ours = (plan(env='hopper-medium', source=source) for source in ('d4rl', None))
    assert d4rl.config == ours.config  # the settings of DTQL's authors serve both
    with pytest.raises(UserError) as error:
        check_same(d4rl.identity(), ours.identity(), Path('x'))
    assert "task.source: the run has 'minari', asked for 'd4rl'" in str(error.value)
    assert "task.env_id: the run has 'Hopper-v5', asked for 'Hopper-v4'" in str(error.value)
    assert d4rl.run_dir() != ours.run_dir()
    named = plan(env='hopper-medium-v2', source='minari')
    assert named.identity() == ours.identity()
    assert 'mujoco/hopper/medium-v0' in named.note
    assert '\n' not in named.note


def test_make_plan__where_a_file_is_given_no_note_tells_of_the_tasks_own_sets():
    asked = {'env': 'hopper-medium-v2', 'source': 'minari'}
    assert 'served by mujoco/hopper/medium-v0' in plan(**asked).note
    assert plan(**asked, dataset_path='hopper_medium-v2.hdf5').note is None


# Lanes.


def test_make_plan__lanes_are_the_seeds_and_then_those_of_the_clone():
    lanes = plan(env=ENV, seed=5, settings={'clone_seeds': 2}).lanes
    assert [(lane.variant, lane.seed) for lane in lanes] == [
        ('dtql', 5), ('dtql', 6), ('clone', 5), ('clone', 6),
    ]  # fmt: skip
    assert lanes[2].hparams == AGENTS['dtql'].agent.clone


def test_make_plan__variants_are_lanes_of_each_seed():
    variants = {'weak': {'alpha': '0.1'}, 'strong': {'alpha': 10, 'gamma': np.float32(0.5)}}
    made = plan(env=ENV, num_seeds=2, variants=variants, clone_seeds=1)
    weak, strong = {'alpha': 0.1}, {'alpha': 10.0, 'gamma': 0.5}
    assert [(lane.variant, lane.seed, lane.hparams) for lane in made.lanes] == [
        ('weak', 0, weak), ('weak', 1, weak), ('strong', 0, strong), ('strong', 1, strong),
        ('clone', 0, AGENTS['dtql'].agent.clone),
    ]  # fmt: skip
    assert made.request.variants == {'weak': weak, 'strong': strong}
    recorded = json.loads(json.dumps(dataclasses.asdict(made.request)))
    assert make_plan(make_request(recorded)).identity() == made.identity()


@pytest.mark.parametrize(
    ('variants', 'message'),
    [
        ({'x': {'hidden': 8}}, "variant 'x': hidden is the same for all lanes of a run; start a"),
        ({'x': {'goal': 'observe'}}, "variant 'x': goal is the same for all lanes of a run; sta"),
        ({'x': {'seed': 1}}, "variant 'x': seed is the same for all lanes of a run; start a run"),
        ({'x': {'alhpa': 8}}, "variant 'x': unknown setting 'alhpa'; nearest: alpha"),
        ({'x': {'alpha': -1}}, "variant 'x': `alpha`=-1.0: must be at least 0"),
        ({'x': {'alpha': 'nan'}}, "variant 'x': `alpha`='nan': not a finite number"),
        (['x'], "`variants`=['x']: give a dict such as {'weak': {'alpha': 0.1}}, from labels"),
        ({'x': 3}, "`variants`={'x': 3}: give a dict such as"),
        ({1: {}}, '`variants`={1: {}}: give a dict such as'),
        ({'': {}}, "`variants`={'': {}}: give a dict such as"),
    ],
)
def test_make_plan__a_variant_that_cannot_be_is_refused(variants, message):
    assert refusal(variants=variants).startswith(message)


def test_make_plan__what_can_differ_is_named():
    floats = ', '.join(AGENTS['dtql'].agent.config_class().floats())
    assert refusal(variants={'x': {'hidden': 8}}).endswith(f'These can differ: {floats}')


def test_make_plan__two_groups_of_lanes_have_two_labels():
    assert refusal(variants={'clone': {}}, clone_seeds=1) == (
        "`clone_seeds`=1: its lanes are called 'clone'; give the variant of that name another one"
    )
    lanes = plan(env=ENV, variants={'clone': {'eta': 0.0}}, num_seeds=1).lanes
    assert [lane.variant for lane in lanes] == ['clone']


def test_make_plan__an_agent_without_a_clone_has_no_lanes_of_it():
    assert AGENTS['bc'].agent.clone is None
    assert refusal(agent='bc', clone_seeds=1).startswith('`clone_seeds`=1: bc has no settings')


def test_make_plan__lanes_share_the_returns_in_their_data(monkeypatch):
    class Mine(dtql_jax.Agent):
        columns = ('return_to_go',)

    monkeypatch.setattr(registry, 'AGENTS', dict(AGENTS))
    registry.register_agent('mine', Mine)
    message = refusal(agent='mine', variants={'x': {'discount': 0.5}})
    assert message.startswith("variant 'x': discount decides the returns in the data, which")
    assert refusal(variants={'x': {'discount': 0.5}}, horizon_length=2) == message
    assert plan(env=ENV, agent='dtql', variants={'x': {'discount': 0.5}})


# Identity and folder.


def test_identity__differs_where_numbers_would():
    base = make_plan(Request(env=ENV)).identity()
    assert json.loads(json.dumps(base)) == base
    for change, name in (
        ({'seed': 1}, 'lanes'), ({'num_seeds': 3}, 'lanes'), ({'eval_episodes': 3}, 'eval_'),
        ({'settings': {'tau': 1}}, 'config.tau'), ({'steps': 9}, 'config.steps'),
        ({'variants': {'dtql': {'tau': 1}}}, 'lanes'),
    ):  # fmt: skip
        other = plan(env=ENV, **change).identity()
        with pytest.raises(UserError) as error:
            check_same(other, base, Path('x'))
        assert str(error.value).count('the run has') == 1, change
        assert f'settings: {name}' in str(error.value)
    with pytest.raises(UserError, match=r'steps: the run has 1000000, asked for 9\. Leave out'):
        check_same(plan(env=ENV, steps=9).identity(), base, Path('x'))
    for change in ({'eval_envs': 1}, {'overlap': True}, {'log_to': ['wandb']}):
        assert plan(env=ENV, **change).identity() == base


def test_run_dir__has_a_flat_name():
    assert plan(env='minari:/a/b').run_dir() == Path('runs/minari-a-b-dtql')
    assert plan(env='minari:me/x-v0').run_dir() == Path('runs/minari-me-x-v0-dtql')


@pytest.mark.parametrize(('name', 'most'), [('num_seeds', 10_000), ('eval_episodes', 1_000_000)])
def test_make_request__more_than_any_machine_holds_is_a_slip(name, most):
    assert getattr(make_request({name: most}), name) == most
    with pytest.raises(UserError, match=f'`{name}`={most + 1}: must be at most {most}'):
        make_request({name: most + 1})
