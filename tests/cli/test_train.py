"""The command line and the Python API: what is refused and how, and one small run of everything."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import h5py
import jax
import numpy as np
import pytest
from data import minari_sets
from minari.data_collector import EpisodeBuffer

import dtql_jax
from dtql_jax.agents.registry import task_config
from dtql_jax.report.console import Console
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs import plan, policy
from dtql_jax.runs import run as runner
from dtql_jax.runs.plan import Request, make_plan
from dtql_jax.tasks import registry as tasks
from dtql_jax.tasks.env import make_env
from dtql_jax.training import loop as training
from dtql_jax.types import Stopped, UserError

pytestmark = pytest.mark.usefixtures('quick_compile')

EXPERIMENTS = Path(__file__).parent.parent / 'experiments'
ENV = 'minari:test/pendulum-v0'
SMALL = ['--set', 'hidden=8', '--set=candidates=4', '--batch_size=8', '--pretrain_steps=0']


def script(name):
    spec = importlib.util.spec_from_file_location(f'experiments_{name}', EXPERIMENTS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUN, EVALUATE, PLOT = script('run'), script('evaluate'), script('plot')
COLLECT = script('collect')


def command(name, *arguments, **options):
    """A script in a process of its own."""
    line = [sys.executable, str(EXPERIMENTS / f'{name}.py'), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, **options)


def pendulum_episodes(env):
    """Random actions until the pole falls."""
    rng = np.random.default_rng(0)
    for seed in range(20):
        obs, rows, ended = [env.reset(seed=seed)[0]], [], False
        while not ended:
            action = rng.uniform(-3, 3, 1).astype(np.float32)
            after, reward, terminated, truncated, _ = env.step(action)
            obs.append(after)
            rows.append((action, float(reward), terminated, truncated))
            ended = terminated or truncated
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        names = ('actions', 'rewards', 'terminations', 'truncations')
        yield EpisodeBuffer(
            observations=np.array(obs), infos={}, **dict(zip(names, columns, strict=True))
        )


@pytest.fixture(scope='session')
def minari_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('minari')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINARI_DATASETS_PATH', str(root))
        env = gym.make('InvertedPendulum-v5')
        episodes = list(pendulum_episodes(env))
        spaces = (env.observation_space, env.action_space)
        minari_sets.write('test/pendulum-v0', episodes, *spaces, env=env)
    return root


@pytest.fixture(autouse=True)
def here(minari_root, tmp_path, monkeypatch):
    """Every test runs in an empty folder and finds the small dataset."""
    monkeypatch.setenv('MINARI_DATASETS_PATH', str(minari_root))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compiled():
    """The names of what jax compiled since the test began."""
    names = []

    def listen(event, _, **details):
        if event == '/jax/core/compile/backend_compile_duration':
            names.append(details)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


# What is refused.


def refused(capsys, main, *arguments):
    """The one line on stderr of a script that ends with exit code 2."""
    assert main(['script', *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: '), error
    assert error.count('\n') == 1
    assert error.endswith('\n')
    return error.removeprefix('error: ').rstrip()


MISTAKES = {
    'task': (['--env=hoper-medium'], "unknown task 'hoper-medium'; nearest: hopper-medium"),
    'source': (['--source=gym'], '--source=gym: there are minari, d4rl, ogbench'),
    'replay': (
        ['--env=hopper-medium-replay', '--source=minari'],
        'hopper-medium-replay does not come from minari: there is --source=d4rl',
    ),
    'no dataset': (['--env=minari:test/none-v0'], 'dataset test/none-v0 is not in'),
    'agent': (['--agent=dqtl'], "unknown agent 'dqtl'; nearest: idql, dtql"),
    'setting': (['--set', 'alhpa=1'], "unknown setting 'alhpa'; nearest: alpha"),
    'task setting': (['--set=gaol=observe'], "unknown setting 'gaol'; nearest: goal"),
    'whole setting': (['--set=hidden=2.5'], "hidden='2.5': not a whole number"),
    'float setting': (['--set=alpha=much'], "alpha='much': not a finite number"),
    'infinite': (['--set=alpha=inf'], "alpha='inf': not a finite number"),
    'nan': (['--set=alpha=nan'], "alpha='nan': not a finite number"),
    'switch': (['--set=lr_decay=maybe'], "lr_decay='maybe': not true or false"),
    'negative': (['--set=lr=-1'], 'lr=-1.0: must not be negative'),
    'share': (['--set=expectile=7'], 'expectile=7.0: must be between 0 and 1'),
    'width': (['--set=hidden=0'], 'hidden=0: must be at least 1'),
    'reward': (
        ['--set=reward=iql_ant'],
        "unknown reward transform 'iql_ant', nearest: iql_antmaze",
    ),
    'no equals': (['--set', 'alpha'], '--set alpha: write --set name=value'),
    'setting twice': (['--set=alpha=1', '--set=alpha=2'], '--set alpha is given twice'),
    'flag and setting': (['--steps=5', '--set=steps=6'], 'steps is given by --steps and by --set'),
    'goal of a maze only': (['--set=goal=observe'], "goal='observe' has no meaning here"),
    'goal': (['--env=antmaze-umaze', '--set=goal=here'], "use 'observe' or 'relabel'"),
    'success': (['--env=antmaze-umaze', '--set=success_ends=often'], "success_ends='often'"),
    'seeds': (['--num_seeds=0'], '--num_seeds=0: must be at least 1'),
    'seed': (['--seed=-1'], '--seed=-1: must be at least 0'),
    'large seed': ([f'--seed={2**32}'], 'the seeds must stay below 2^32'),
    'steps': (['--steps=0'], '--steps=0: must be at least 1'),
    'batch': (['--batch_size=0'], '--batch_size=0: must be at least 1'),
    'episodes': (['--eval_episodes=0'], '--eval_episodes=0: must be at least 1'),
    'simulators': (['--eval_envs=0'], '--eval_envs=0: must be at least 1'),
    'number': (['--steps=many'], '--steps=many: not a whole number'),
    'fraction': (['--steps=2.5'], '--steps=2.5: not a whole number'),
    'bool': (['--resume=maybe'], '--resume=maybe: not true or false'),
    'flag': (['--num_seed=3'], 'unknown flag --num_seed; nearest: --num_seeds'),
    'no value': (['--num_seeds'], 'Missing value for flag --num_seeds'),
    'word': (['hopper-medium'], "'hopper-medium' is no flag: flags begin with --"),
    'path': (['--dataset_path=nowhere'], 'nowhere is no Minari dataset'),
    'logger': (['--log_to=mlflow'], "unknown logger 'mlflow': choose from tensorboard, wandb"),
    'not a run': (['--resume', '--out=nowhere'], 'nowhere is no run folder'),
    'default run': (['--resume'], 'is no run folder (no config.json): check the path'),
    'in a file': ([f'--out={__file__}/run'], f'run cannot be made in {__file__}'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2_before_anything_is_compiled(
    name, capsys, compiled, here, monkeypatch
):
    monkeypatch.setattr('dtql_jax.data.minari._online', lambda: False)
    arguments, message = MISTAKES[name]
    if not any(argument.startswith('--env') for argument in arguments):
        arguments = [f'--env={ENV}', *arguments]
    assert message in refused(capsys, RUN.main, *arguments)
    assert not compiled
    assert not list(here.iterdir()), 'a mistake leaves no folder behind'


@pytest.mark.parametrize('package', ['wandb', 'tensorboard'])
def test_a_logger_that_is_not_installed_is_named_before_the_run_begins(
    package, capsys, here, monkeypatch
):
    for module in (package, f'{package}.summary'):
        monkeypatch.setitem(sys.modules, module, None)
    error = refused(capsys, RUN.main, f'--env={ENV}', f'--log_to={package}')
    assert error.startswith(f'logging to {package} needs the package {package}')
    assert f"pip install '{package}'" in error
    assert not list(here.iterdir())


def test_an_existing_folder_is_never_overwritten(capsys, here, compiled):
    (here / 'mine').mkdir()
    (here / 'mine' / 'letter.txt').write_text('dear')
    error = refused(capsys, RUN.main, f'--env={ENV}', '--out=mine')
    assert error.startswith('mine exists and is never overwritten: add --resume')
    assert (here / 'mine' / 'letter.txt').read_text() == 'dear'
    assert not compiled


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'no run to evaluate: name its folder as --run=DIR'),
        (['--run=nowhere'], 'nowhere is no run folder'),
        (['--run=x', '--episodes=0'], '--episodes=0: must be at least 1'),
        (['--run=x', '--video=film.avi'], '--video=film.avi: end its name in .gif or .mp4'),
        (['--run=x', '--epsiodes=3'], 'unknown flag --epsiodes; nearest: --episodes'),
    ],
)
def test_mistakes_in_evaluating(arguments, message, capsys):
    assert message in refused(capsys, EVALUATE.main, *arguments)


def test_mistakes_in_plotting(capsys):
    assert 'no runs to draw' in refused(capsys, PLOT.main)
    error = refused(capsys, PLOT.main, '--behaviour=high')
    assert error == '--behaviour=high: not a number'


def test_a_real_process_says_one_line_and_no_more():
    result = command('run', '--env=hoper-medium')
    assert (result.returncode, result.stdout) == (2, '')
    assert result.stderr.startswith("error: unknown task 'hoper-medium'; nearest: hopper-medium")
    assert result.stderr.count('\n') == 1


# Pages.


@pytest.mark.parametrize(
    ('name', 'module'),
    [('run', RUN), ('evaluate', EVALUATE), ('plot', PLOT), ('collect', COLLECT)],
)
def test_help_is_a_page_of_the_docstring_and_our_flags(name, module, capsys):
    for flag in ('--help', '-h'):
        assert module.main([name, flag]) == 0
        page, errors = capsys.readouterr()
        assert not errors
        assert page.startswith(module.__doc__.strip())
        assert all(len(line) <= 100 for line in page.splitlines())
        flags = page.split('\nFlags:\n')[1].splitlines()
        assert [x.split()[0].split('=')[0] for x in flags if x.startswith('  --')] == [
            f'--{flag}' for flag in module.FLAGS
        ]
        columns = {len(x) - len(x[2:].split(None, 1)[1]) for x in flags if x.startswith('  --')}
        assert len(columns) == 1, 'not aligned'
    assert module is not RUN or '(default: pointmaze-umaze)' in page


def test_help_needs_no_jax():
    code = (
        'import sys; sys.argv[1:] = ["--help"]; import runpy\n'
        'try: runpy.run_path(sys.argv[0], run_name="__main__")\n'
        'except SystemExit as end: assert end.code == 0\n'
        'assert "jax" not in sys.modules'
    )
    path = EXPERIMENTS / 'run.py'
    program = f'import sys; sys.argv = [{str(path)!r}]\n{code}'
    result = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_list_names_every_task_and_agent_with_their_sources(capsys):
    assert RUN.main(['run', '--list']) == 0
    text = capsys.readouterr().out
    words = set(text.split())
    for name in [*tasks.TASKS, *runner.AGENTS]:
        assert re.sub(r'singletask(-task\d)?', 'singletask[-taskN]', name) in words
    (ant,) = (line for line in text.splitlines() if line.startswith('antmaze-large-diverse '))
    fields = 'minari D4RL/antmaze/large-diverse-v1 AntMaze_Large_Diverse_GR-v4 100 x 1000 0..1'
    assert ant.split()[1:] == [*fields.split(), 'released', 'released']
    (cube,) = (line for line in text.splitlines() if line.startswith('cube-single-play'))
    assert cube.split()[-6:] == ['50', 'x', '200', 'success', 'ours', 'ours']
    assert 'arXiv 2405.19690' in text


# The plan.


def test_settings_have_the_types_of_their_fields():
    text = {'alpha': '0.5', 'lr_decay': 'TRUE', 'steps': '3e5', 'hidden': 32.0, 'gamma': 1}
    config = task_config('dtql', '', text)
    assert (config.alpha, config.lr_decay, config.steps, config.hidden) == (0.5, True, 300_000, 32)
    assert [type(getattr(config, name)) for name in text] == [float, bool, int, int, float]
    for name, value in {'steps': True, 'alpha': False, 'lr_decay': 2, 'reward': 3.5}.items():
        with pytest.raises(UserError, match=f'^{name}={value}: not '):
            task_config('dtql', '', {name: value})


def test_flags_beat_the_tables_and_tables_beat_the_defaults():
    hopper = make_plan(Request(env='hopper-medium', steps=7, settings={'alpha': '2'}))
    assert (hopper.config.steps, hopper.config.alpha, hopper.config.lr) == (7, 2.0, 1e-4)
    assert hopper.eval_episodes == tasks.TASKS['hopper-medium'].eval_episodes


def test_whole_numbers_may_be_written_with_an_exponent(monkeypatch):
    asked = {}
    monkeypatch.setattr(runner, 'run', lambda request, **_: asked.update(request))
    assert RUN.main(['run', '--steps=3e5', '--num_seeds=4']) == 0
    assert asked == {'steps': 300_000, 'num_seeds': 4}


def test_a_source_is_part_of_what_a_run_is():
    d4rl, ours = (make_plan(Request(env='hopper-medium', source=s)) for s in ('d4rl', None))
    assert d4rl.config == ours.config  # the settings of DTQL's authors serve both
    different = plan.differences(d4rl.identity(), ours.identity())
    assert "task.source: the run has 'minari', asked for 'd4rl'" in different
    assert "task.env_id: the run has 'Hopper-v5', asked for 'Hopper-v4'" in different
    assert d4rl.run_dir() != ours.run_dir()
    named = make_plan(Request(env='hopper-medium-v2', source='minari'))
    assert named.identity() == ours.identity()
    assert 'mujoco/hopper/medium-v0' in named.note
    assert '\n' not in named.note


def test_lanes_are_the_seeds_and_then_those_of_the_clone():
    lanes = make_plan(Request(env=ENV, seed=5, settings={'clone_seeds': 2})).lanes
    assert [(lane.variant, lane.seed) for lane in lanes] == [
        ('dtql', 5), ('dtql', 6), ('clone', 5), ('clone', 6),
    ]  # fmt: skip
    assert lanes[2].hparams == runner.AGENTS['dtql'].agent.clone


def test_identities_differ_where_numbers_would():
    base = make_plan(Request(env=ENV)).identity()
    assert json.loads(json.dumps(base)) == base
    for change in (
        {'seed': 1}, {'num_seeds': 3}, {'eval_episodes': 3}, {'settings': {'tau': 1}}, {'steps': 9},
    ):  # fmt: skip
        other = make_plan(Request(env=ENV, **change)).identity()
        assert len(plan.differences(other, base)) == 1, change
    (line,) = plan.differences(make_plan(Request(env=ENV, steps=9)).identity(), base)
    assert line == 'config.steps: the run has 1000000, asked for 9'
    assert not plan.differences(base, base)


@pytest.mark.parametrize('name', ['pointmaze-umaze', 'antmaze-large-diverse', 'hopper-medium', ENV])
def test_the_task_of_a_run_comes_back_from_its_file(name):
    settings = {'goal': 'observe', 'success_ends': 'no'} if 'maze' in name else {}
    asked = make_plan(Request(env=name, settings=settings))
    recorded = json.loads(
        json.dumps({'identity': asked.identity(), 'request': {'dataset_path': None}})
    )
    assert plan.task_of_run(recorded) == asked.task
    recorded['request']['dataset_path'] = 'folder'
    assert plan.task_of_run(recorded).datasets == ('folder',)


def test_a_request_comes_back_from_the_run_folder(here):
    asked = make_plan(
        Request(env='antmaze-umaze', steps=9, settings={'alpha': '0.5', 'goal': 'observe'})
    )
    plan.create_run(here / 'run', {'request': vars(asked.request), 'identity': asked.identity()})
    again = make_plan(plan.request_of_run(here / 'run', {}))
    assert again.identity() == asked.identity()
    more = make_plan(plan.request_of_run(here / 'run', {'settings': {'alpha': 2.0}}))
    assert plan.differences(more.identity(), asked.identity()) == [
        'config.alpha: the run has 0.5, asked for 2.0'
    ]
    (here / 'run' / 'config.json').write_text('{')
    with pytest.raises(UserError, match=r'config\.json is damaged'):
        plan.request_of_run(here / 'run', {})


def test_run_folders_have_flat_names():
    assert make_plan(Request(env='minari:/a/b')).run_dir() == Path('runs/minari-a-b-dtql')
    assert make_plan(Request(env='minari:me/x-v0')).run_dir() == Path('runs/minari-me-x-v0-dtql')


def test_a_python_request_is_checked_like_a_command_line():
    with pytest.raises(UserError, match=r"no 'steps_'; nearest: steps"):
        dtql_jax.run({'env': ENV, 'steps_': 3})
    with pytest.raises(UserError, match="num_seeds='2': not a whole number"):
        dtql_jax.run({'env': ENV, 'num_seeds': '2'})
    with pytest.raises(UserError, match='give a dict'):
        dtql_jax.run({'env': ENV, 'settings': ['alpha=1']})


# One small run, and what can be done with it.


@pytest.fixture(scope='module')
def trained(minari_root, tmp_path_factory, quick_compile):
    """A run of two seeds and a clone: its folder and what it printed."""
    folder = tmp_path_factory.mktemp('runs')
    log = (folder / 'output.txt').open('w+')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINARI_DATASETS_PATH', str(minari_root))
        patch.setattr(runner, 'Console', lambda: Console(log))
        flags = ['--steps=5', '--eval_every=2', '--eval_episodes=2', '--set=clone_seeds=1']
        code = RUN.main(['run', f'--env={ENV}', f'--out={folder / "run"}', *SMALL, *flags])
    log.seek(0)
    assert code == 0
    return folder / 'run', log.read()


def test_a_run_writes_its_folder_and_says_where_and_what_next(trained):
    run_dir, output = trained
    names = {path.name for path in run_dir.iterdir()}
    assert names >= {
        'config.json', 'metrics.jsonl', 'eval.jsonl', 'curves.png', 'table.txt', 'checkpoints',
    }  # fmt: skip
    for text in ('dataset card', 'updates/s', f'folder    {run_dir}', 'curves.png', 'load_policy('):
        assert text in output
    assert f'experiments/evaluate.py --run={run_dir}' in output
    assert (run_dir / 'table.txt').read_text() in output
    config = json.loads((run_dir / 'config.json').read_text())
    assert config['versions']['jax'] == jax.__version__
    assert config['identity']['config.hidden'] == 8


def test_evaluations_happen_when_the_time_left_expects_them(trained):
    """At 2, 4 and the end; the console counts those that are still to come."""
    rows = read_jsonl(trained[0] / 'eval.jsonl')
    steps = sorted({row['step'] for row in rows})
    config = task_config('dtql', '', {'steps': 5, 'eval_every': 2, 'pretrain_steps': 0})
    spec = dtql_jax.types.Spec(4, 1, 3.0)
    assert runner.evaluation_steps(runner.AGENTS['dtql'].agent(spec, config)) == steps == [2, 4, 5]


def test_a_run_is_evaluated_again_with_the_same_result(trained, capsys):
    """The same episodes by the same machinery: the last row of training, digit for digit."""
    run_dir, _ = trained
    before = (run_dir / 'eval.jsonl').read_bytes()
    assert EVALUATE.main(['evaluate', f'--run={run_dir}', '--episodes=2', '--eval_envs=1']) == 0
    assert (run_dir / 'eval.jsonl').read_bytes() == before
    last = {(r['variant'], r['seed']): r for r in read_jsonl(run_dir / 'eval.jsonl')}
    again = {(r['variant'], r['seed']): r for r in read_jsonl(run_dir / 'reeval.jsonl')[-3:]}
    assert again.keys() == last.keys()
    for lane, row in again.items():
        numbers = {k: v for k, v in row.items() if k.startswith('eval/')}
        assert numbers == {k: v for k, v in last[lane].items() if k.startswith('eval/')}
        assert (row['which'], row['step']) == ('last', 5)
    assert 'score: each seed or IQM' in capsys.readouterr().out


def test_a_choice_of_seeds_variants_and_starts(trained, capsys):
    run_dir, _ = trained
    arguments = ['--episodes=2', '--which=best', '--variant=dtql', '--seed=1', '--eval_seed=3']
    assert EVALUATE.main(['evaluate', f'--run={run_dir}', *arguments]) == 0
    row = read_jsonl(run_dir / 'reeval.jsonl')[-1]
    assert (row['variant'], row['seed'], row['which'], row['eval_seed']) == ('dtql', 1, 'best', 3)
    capsys.readouterr()
    assert 'has no seed 7' in refused(capsys, EVALUATE.main, f'--run={run_dir}', '--seed=7')


def test_lanes_and_policies_that_there_are_not(trained, monkeypatch):
    run = policy.Run(trained[0])
    assert [run.lane(None), run.lane(1), run.lane(0, 'clone')] == [0, 1, 2]
    with pytest.raises(UserError, match='has no seed 7 of dtql; there are: 0, 1'):
        run.lane(7)
    with pytest.raises(UserError, match="has no variant 'iql'; there are: dtql, clone"):
        run.lane(0, 'iql')
    with pytest.raises(UserError, match="which='worst': use 'last' or 'best'"):
        run.acting('worst')
    assert EVALUATE.choose(run, 'last', None, 0) == [0, 2]
    assert EVALUATE.choose(run, 'best', 'dtql', None) == [0, 1]
    # A lane that diverged before any evaluation has neither.
    run.cursor.diverged['1'] = 3
    run.progress = run.progress.replace(best_score=np.array([1.0, -np.inf, 1.0]))
    assert EVALUATE.choose(run, 'last', None, None) == [0, 2]
    for which, reason in {'last': 'diverged at update 3', 'best': 'no evaluation yet'}.items():
        with pytest.raises(UserError, match=f'dtql seed 1 .*{reason}'):
            policy.policy_of(run, 1, which)
    with pytest.raises(UserError, match='no run folder'):
        dtql_jax.load_policy('nowhere')


def test_a_film_shows_the_first_episode_that_was_evaluated(trained, capsys, monkeypatch):
    """The same start and the same actions, so the same return; drawn by a stand-in."""
    run_dir, _ = trained

    class Drawn(gym.Wrapper):
        metadata = {'render_fps': 10}  # noqa: RUF012

        def render(self):
            return np.zeros((16, 16, 3), np.uint8)

    make_env = make_env
    monkeypatch.setattr(tasks, 'make_env', lambda task, **_: Drawn(make_env(task)))
    arguments = ['--episodes=1', '--seed=1', '--variant=dtql', '--video=film.gif']
    assert EVALUATE.main(['evaluate', f'--run={run_dir}', *arguments]) == 0
    assert Path('film.gif').read_bytes().startswith(b'GIF')
    score = read_jsonl(run_dir / 'reeval.jsonl')[-1]['eval/return']
    assert f'film film.gif: dtql seed 1, return {score:.1f}' in capsys.readouterr().out


def test_a_finished_run_resumes_to_its_table(trained, capsys):
    run_dir, _ = trained
    before = {name: (run_dir / name).read_bytes() for name in ('eval.jsonl', 'metrics.jsonl')}
    assert RUN.main(['run', f'--out={run_dir}', '--resume']) == 0
    assert (run_dir / 'table.txt').read_text() in capsys.readouterr().out
    for name, content in before.items():
        assert (run_dir / name).read_bytes() == content


def test_a_resume_names_the_settings_that_differ(trained, capsys, compiled):
    error = refused(
        capsys, RUN.main, f'--out={trained[0]}', '--resume', '--steps=6', '--set=alpha=3'
    )
    assert 'config.alpha: the run has 1.0, asked for 3.0' in error
    assert 'config.steps: the run has 5, asked for 6' in error
    assert not compiled


def test_a_policy_acts_on_one_observation_or_many(trained):
    act = dtql_jax.load_policy(trained[0], seed=1, which='best', batch=3)
    obs = np.random.default_rng(0).normal(size=(3, 4))
    one, many = act(obs[0]), act(obs)
    assert (one.shape, many.shape) == ((1,), (3, 1))
    assert np.abs(many).max() <= 3
    assert many.dtype == np.float32
    with pytest.raises(UserError, match=r'4 observations at once: load_policy\(\.\.\., batch=4\)'):
        act(np.zeros((4, 4)))
    with pytest.raises(UserError, match=r'shape \(5,\): the policy takes \[4\] or \[B, 4\]'):
        act(np.zeros(5))


def test_a_policy_acts_alike_in_every_process(trained):
    ours = dtql_jax.load_policy(trained[0])
    obs = np.linspace(-1, 1, 4)
    code = (
        'import sys, numpy as np, dtql_jax\n'
        'policy = dtql_jax.load_policy(sys.argv[1])\n'
        'print([policy(np.linspace(-1, 1, 4)).tobytes().hex() for _ in range(3)])'
    )
    line = [sys.executable, '-c', code, str(trained[0])]
    environment = os.environ | {'JAX_DISABLE_MOST_OPTIMIZATIONS': 'true'}
    result = subprocess.run(line, capture_output=True, text=True, env=environment, check=True)
    actions = [ours(obs).tobytes().hex() for _ in range(3)]
    assert result.stdout.strip() == str(actions)
    assert len(set(actions)) == 3


# Dry runs, own tasks and stop signals; training itself is replaced.


@pytest.fixture
def no_training(monkeypatch):
    """A trainer that ends at once; returns what was asked of it."""
    calls = []
    monkeypatch.setattr(training.Trainer, 'run', lambda self, resume: calls.append((self, resume)))
    monkeypatch.setattr(runner, 'read_jsonl', lambda path: [])
    monkeypatch.setattr(runner.plots, 'plot_curves', lambda *_: 'curves.png')
    monkeypatch.setattr(runner, 'describe', lambda *_: 'plan')
    return calls


def test_a_dry_run_prints_the_plan_and_writes_nothing(capsys, here):
    assert RUN.main(['run', f'--env={ENV}', '--dry_run', '--steps=3000', *SMALL]) == 0
    output = capsys.readouterr().out
    for word in ('dataset card', 'lanes', 'devices', 'memory', 'train 3,000 x 8', 'folder', 'time'):
        assert word in output
    assert not list(here.iterdir())


def test_own_tasks_and_datasets(here, no_training, minari_root, monkeypatch):
    monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
    dtql_jax.register(
        dtql_jax.Task('mine', ('test/pendulum-v0',), env_id='InvertedPendulum-v5', horizon=9)
    )
    assert dtql_jax.run({'env': 'mine'}, out='own').evals == []
    ((trainer, resume),) = no_training
    assert not resume
    assert trainer.evaluate.task.horizon == 9
    # A folder takes the place of the task's set, also for the environment; kept as a whole path.
    monkeypatch.chdir(minari_root)
    path = 'test/pendulum-v0'
    monkeypatch.delenv('MINARI_DATASETS_PATH')
    dtql_jax.run({'env': 'minari:no/where-v0', 'dataset_path': path}, out=here / 'other')
    recorded = plan.read_run(here / 'other')
    assert recorded['request']['dataset_path'] == str(minari_root / path)
    assert plan.task_of_run(recorded).datasets == (str(minari_root / path),)


def pendulum_file(path, reward=1.0, bound=3.0):
    """Two episodes of the pendulum as a D4RL or an OGBench file."""
    rng = np.random.default_rng(0)
    last = np.isin(np.arange(40), [19, 39])
    fields = {
        'observations': rng.normal(size=(40, 4)),
        'actions': rng.uniform(-bound, bound, (40, 1)),
        'rewards': np.full(40, reward),
        'terminals': last,
        'masks': np.ones(40),
    }
    if path.endswith('.npz'):
        np.savez(path, **fields)
    else:
        with h5py.File(path, 'w') as file:
            file.update(fields)


@pytest.mark.parametrize('path', ['own-v2.hdf5', 'own-v0.npz'])
def test_a_file_as_dataset(path, here, no_training, monkeypatch, capsys):
    monkeypatch.setattr(tasks, 'TASKS', dict(tasks.TASKS))
    dtql_jax.register(dtql_jax.Task('mine', ('no/where-v0',), env_id='InvertedPendulum-v5'))
    pendulum_file(path)
    flags = ['run', '--env=mine', f'--dataset_path={path}', *SMALL]
    assert RUN.main([*flags, '--dry_run']) == 0
    output = capsys.readouterr().out
    assert f'data     {here / path}' in output
    assert 'action 1 in ±3' in output
    # A run records the file's fingerprint, and goes on with these data only.
    assert RUN.main([*flags, '--out=own']) == 0
    recorded = plan.read_run(here / 'own')
    assert recorded['request']['dataset_path'] == str(here / path)
    assert recorded['data']['datasets'] == [str(here / path)]
    assert RUN.main(['run', '--out=own', '--resume']) == 0
    assert [resume for _, resume in no_training] == [False, True]
    pendulum_file(path, reward=2.0)
    capsys.readouterr()
    error = refused(capsys, RUN.main, '--out=own', '--resume')
    assert "own cannot be resumed with these settings: data: the run has '" in error


def test_the_data_of_another_task_are_refused(here, capsys):
    pendulum_file('own-v2.hdf5', bound=1.0)
    error = refused(capsys, RUN.main, '--env=hopper-medium-v2', '--dataset_path=own-v2.hdf5')
    assert error == (
        'hopper-medium-v2: the environment has observation size 11, the data 4: is it the data of '
        'another task?'
    )


def test_where_a_file_is_given_no_note_tells_of_the_tasks_own_sets():
    asked = {'env': 'hopper-medium-v2', 'source': 'minari'}
    assert 'served by mujoco/hopper/medium-v0' in make_plan(Request(**asked)).note
    given = Request(**asked, dataset_path='hopper_medium-v2.hdf5')
    assert make_plan(given).note is None


def test_a_run_without_a_checkpoint_starts_over(here, no_training, capsys):
    """It was killed between making its folder and the first save."""
    dtql_jax.run({'env': ENV}, out='early')
    assert RUN.main(['run', '--out=early', '--resume']) == 0
    assert [resume for _, resume in no_training] == [False, True]
    assert 'early has no checkpoint yet: starting from the beginning' in capsys.readouterr().out


def test_a_run_whose_seeds_all_diverged_fails(here, no_training, monkeypatch, capsys):
    def run(self, resume):
        self.cursor.diverged = {str(i): 3 for i in range(len(self.engine.lanes))}

    monkeypatch.setattr(training.Trainer, 'run', run)
    assert RUN.main(['run', f'--env={ENV}', '--out=lost']) == 1
    assert 'dtql seed 0: diverged at update 3' in capsys.readouterr().out


@pytest.mark.parametrize(('number', 'code'), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_told_by_the_exit_code(number, code, no_training, monkeypatch, capsys):
    def run(self, resume):
        os.kill(os.getpid(), number)
        assert self.stop()
        raise Stopped

    monkeypatch.setattr(training.Trainer, 'run', run)
    assert RUN.main(['run', f'--env={ENV}', '--out=x']) == code
    assert capsys.readouterr().err == 'stopped, with a checkpoint: go on with --out=x --resume\n'
