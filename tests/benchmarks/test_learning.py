"""`learning.py` and the worker of the released code, on a checkout that is made up."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from dtql_jax.cli.flags import parse
from dtql_jax.rollout.simulators import Simulators
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.tasks.env import env_maker
from dtql_jax.tasks.task import Task
from dtql_jax.types import UserError
from tests.helpers.scripts import ROOT, names_of, run_script

CHECKOUT = os.environ.get('REFERENCE_DTQL')  # of the released DTQL

# What the worker imports. It acts by its updates, so that an answer tells how many were made.
FAKES = {
    'torch.py': """
__version__ = 'fake'
def manual_seed(seed): pass
def get_num_threads(): return 1
""",
    'utils/data_sampler.py': """
class Data_Sampler:
    def __init__(self, data, device): self.size = len(data['observations'])
""",
    'agents/dtql.py': """
import numpy as np
class DTQL:
    def __init__(self, alpha, state_dim, action_dim, **other):
        self.alpha, self.action_dim, self.updates = alpha, action_dim, 0
    def pretrain(self, sampler, batch_size, pretrain_steps): self.updates += pretrain_steps
    def train(self, sampler, batch_size):
        self.updates += 1
        return {'ql_loss': [self.updates], 'bc_loss': [sampler.size * self.alpha]}
    def sample_action(self, obs):
        assert obs.shape == (3,)
        return np.full(self.action_dim, self.updates / 10, np.float32)
""",
}
PENDULUM = Task('pendulum', family='pendulum', datasets=(), env_id='Pendulum-v1', horizon=4)


@pytest.fixture
def ask(tmp_path):
    """Asks a worker on the made-up checkout, line by line."""
    for name, text in FAKES.items():
        path = tmp_path / 'checkout' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    data = {'observations': np.zeros((7, 3)), 'actions': np.zeros((7, 1))}
    np.savez(tmp_path / 'data.npz', **data)
    (tmp_path / 'task.json').write_text(json.dumps(dataclasses.asdict(PENDULUM)))
    command = [
        *(sys.executable, str(ROOT / 'benchmarks/reference_worker.py'), '--method=dtql'),
        *(f'--checkout={tmp_path}/checkout', f'--data={tmp_path}/data.npz', '--batch_size=2'),
        *(f'--task={tmp_path}/task.json', '--settings={"alpha": 2.0}'),
    ]
    paths = {'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'}
    pipe, environment = subprocess.PIPE, {**os.environ, **paths}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout.readline() == 'fake 1\n'

        def answer(line):
            print(line, file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        yield answer
        process.stdin.close()
    assert process.returncode == 0


def test_worker__trains_and_plays_in_our_simulator(ask):
    assert ask('pretrain 3') is None
    assert ask('train 2') == {'ql_loss': 4.5, 'bc_loss': 14.0}  # updates 4 and 5; 7 rows, alpha 2
    one = Simulators(env_maker(PENDULUM), [0])
    expected = []
    for seed in (5, 6):
        one.answer('reset', [0], np.array([seed]))
        steps = [one.answer('step', [0], np.full((1, 1), 0.5, np.float32)) for _ in range(4)]
        expected.append(sum(float(step.reward[0]) for step in steps))
    one.close()
    rows = ask('play 5 6')
    assert [row[0] for row in rows] == pytest.approx(expected)
    assert [row[2] for row in rows] == [4, 4]


def row(released, seed, scores, q=(1.0, 2.0)):
    key = {'method': 'dtql', 'env': 'pointmaze-umaze', 'released': released, 'seed': seed}
    losses = {name: list(q) for name in ('critic/loss', 'mu/loss', 'pi/trust_loss', 'pi/q')}
    return {**key, 'steps': [10, 20], 'scores': scores, 'losses': losses}


ROWS = [
    row(False, 0, [0.0, 50.0]),
    row(False, 1, [10.0, 60.0], q=(1.0, 3.0)),
    row(True, 0, [5.0, 70.0], q=(1.0, 2.5)),
    row(True, 1, [30.0, 90.0]),
]


def test_table__tells_where_the_ranges_overlap(monkeypatch):
    script = names_of('benchmarks/learning.py', monkeypatch)
    (both,) = script['pairs']([*ROWS, {**ROWS[0], 'env': 'of one only'}]).values()
    assert both.overlaps('score') == (1, 2)  # 0 to 10 against 5 to 30; 50 to 60 against 70 to 90
    assert both.overlaps('pi/q') == (2, 2)
    lines = script['table'](ROWS).splitlines()
    assert '| score | 50, 60 | 70, 90 | 1 of 2 |' in lines[2]
    assert script['chart'](ROWS).axes[0].lines


def test_released_settings__are_those_of_ours(monkeypatch):
    script = names_of('benchmarks/learning.py', monkeypatch)
    request = {'env': 'pointmaze-medium', 'alpha': 3.0, 'steps': 60, 'candidates': 4}
    found = script['released_settings']('dtql', make_plan(make_request(request)))
    assert found['alpha'] == 3
    assert (found['lr_maxt'], found['repeats']) == (60, 4)
    assert found['expectile'] == 0.9  # of our table
    plan = make_plan(make_request({'env': 'hopper-medium', 'agent': 'diffusion_ql'}))
    assert script['released_settings']('dql', plan)['grad_norm'] == 9


@pytest.mark.parametrize(
    'other', ['steps=40', 'pretrain_steps=20', 'eval_every=5', 'batch_size=9', 'eval_episodes=3']
)
@pytest.mark.parametrize('method', ['dtql', 'dql'])
def test_compare__rows_of_another_budget_are_refused(monkeypatch, method, other):
    script = names_of('benchmarks/learning.py', monkeypatch)
    compare, env = script['compare'], 'pointmaze-umaze'

    class Begun(Exception):
        """The rows fit, and the runs would begin."""

    def begin(*_):
        raise Begun

    monkeypatch.setitem(compare.__globals__, 'ours', begin)

    def asked(*more):
        given = [f'--method={method}', '--steps=20', '--pretrain_steps=10', '--eval_every=10']
        return parse(script['FLAGS'], ['learning.py', *given, *more])

    plan = make_plan(make_request(script['wanted'](env, asked())))
    done = {
        'method': method, 'env': env, 'batch_size': 128, 'eval_episodes': plan.eval_episodes,
        'settings': script['released_settings'](method, plan), 'released': True, 'seed': 0,
        'steps': [20, 30] if method == 'dtql' else [10, 20],
    }  # fmt: skip
    report = types.SimpleNamespace(rows=[done])
    if (method, other) != ('dql', 'pretrain_steps=20'):  # it has no such phase
        with pytest.raises(UserError, match=f'has rows of {env} with other settings or updates'):
            compare(env, asked(f'--{other}'), report)
    with pytest.raises(Begun):
        compare(env, asked(), report)


@pytest.mark.slow
@pytest.mark.skipif(not CHECKOUT, reason='REFERENCE_DTQL names no checkout')
def test_learning__compares_with_the_released_code(tmp_path):
    given = ['--envs=pointmaze-umaze', '--num_seeds=1', '--steps=4', '--pretrain_steps=2']
    given += ['--eval_every=2', '--eval_episodes=1', '--batch_size=8', f'--runs={tmp_path}/runs']
    out = tmp_path / 'learning.json'
    checkout = pathlib.Path(CHECKOUT).resolve()
    run_script('benchmarks/learning.py', f'--reference_dtql={checkout}', f'--out={out}', *given)
    rows = json.loads(out.read_text())['results']
    assert [row['released'] for row in rows] == [False, True]
    assert all(row['steps'] == [4, 6] for row in rows)
