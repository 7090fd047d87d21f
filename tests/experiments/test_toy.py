"""The toy figures at tiny sizes, and their folder."""

import json

import pytest

from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.tasks import toys
from dtql_jax.types import UserError
from tests.helpers.compiling import quick_environment
from tests.helpers.scripts import names_of, run_script


@pytest.fixture
def script(monkeypatch):
    return names_of('experiments/toy.py', monkeypatch)


def test_all_jobs__can_be_planned_and_stand_behind_what_they_start_from(script):
    runs = script['toy_runs']
    sizes = script['Sizes'](
        list(toys.SETS), list(runs.REWARDS), list(runs.POLICIES), 5, 100, 16, 50, 40, 32
    )
    jobs = list(runs.all_jobs((1, 2, 3), sizes))
    assert len({job.name for job in jobs}) == len(jobs) == 9 + 5 + 3 + 8 * 3
    seen = set()
    for job in jobs:
        assert job.after is None or job.after in seen
        seen.add(job.name)
        plan = make_plan(make_request(dict(job.request)))
        if job.figure > 1:
            weights = {lane.variant: lane.hparams for lane in plan.lanes}
            assert len(plan.lanes) == 5 * len(weights)
            assert all(bool(w['eta']) == (job.figure == 3) for w in weights.values())


def test_own__refuses_a_folder_with_other_things(script, tmp_path):
    content = {'made_by': script['OURS'], 'asked': {'steps': 1}}
    script['own'](tmp_path / 'new', content)
    script['own'](tmp_path / 'new', content)  # which goes on
    with pytest.raises(UserError, match='holds the results of other flags'):
        script['own'](tmp_path / 'new', {**content, 'asked': {'steps': 2}})
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'figure-1.png').write_text('mine')
    with pytest.raises(UserError, match='holds other files'):
        script['own'](tmp_path / 'mine', content)
    assert (tmp_path / 'mine' / 'figure-1.png').read_text() == 'mine'


def test_table__has_the_means_of_the_seeds(script):
    row = {'figure': 3, 'reward': 'far', 'policy': 'gaussian', 'regulariser': 'trust'}
    row |= {'reward_of_best': [0.5, 1.0], 'modes': [1, 2], 'within': [1.0, 0.5]}
    lines = script['table']([row, {**row, 'reward': 'near', 'modes': [3, 3]}]).splitlines()
    assert lines[2] == '| | far | near |'
    assert lines[4] == '| gaussian, trust | 0.75 / 1.5 / 0.75 | 0.75 / 3.0 / 0.75 |'


@pytest.mark.slow
def test_main__draws_and_counts(tmp_path):
    out = tmp_path / 'toy'
    sizes = ('clone_steps', 'clone_batch_size', 'critic_steps', 'steps', 'batch_size')
    given = ('--num_seeds=1', *(f'--{name}=4' for name in sizes), f'--out={out}')
    run_script('experiments/toy.py', '--figure=3', *given, **quick_environment())
    report = json.loads((out / 'toy.json').read_text())
    assert len(report['results']) == 3 * (7 + 5 + 5 + 2)
    assert all(0 <= row['modes'][0] <= row['of'] for row in report['results'])
    for policy in ('gaussian', 'deterministic', 'implicit'):
        assert (out / f'figure-3-{policy}.png').stat().st_size > 1_000
        assert (out / f'figure-3-{policy}.svg').stat().st_size > 1_000
