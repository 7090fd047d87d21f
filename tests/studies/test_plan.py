"""From a study to its jobs."""

import pytest

from dtql_jax.agents.registry import find_agent
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.studies.folder import Job
from dtql_jax.studies.plan import (
    absolute,
    float_grid,
    import_modules,
    is_of_lanes,
    job_name,
    make_jobs,
    split,
    typed,
    variants,
)
from dtql_jax.studies.study import as_fields, study_from
from dtql_jax.types import UserError


def jobs_of(**fields):
    """The jobs of a study by name, and the notes."""
    jobs, notes = make_jobs(typed(study_from({'env': 'pointmaze-umaze', **fields})))
    return {job.name: job for job in jobs}, notes


def test_make_jobs__float_settings_are_lanes_and_others_jobs():
    jobs, _ = jobs_of(
        env=['pointmaze-umaze', 'pointmaze-medium'],
        agent='iql',
        num_seeds=3,
        clone_seeds=0,
        sweep={'expectile': ['0.7', '0.90'], 'hidden': [16, 32], 'lr': [1e-3]},
    )
    assert list(jobs) == [
        f'pointmaze-{size}-iql-hidden={hidden}'
        for size in ('umaze', 'medium')
        for hidden in (16, 32)
    ]
    job = jobs['pointmaze-umaze-iql-hidden=16']
    assert job.lanes == 6
    assert job.request == {
        'env': 'pointmaze-umaze',
        'agent': 'iql',
        'num_seeds': 3,
        'clone_seeds': 0,
        'hidden': 16,
        'variants': {
            'expectile=0.7 lr=0.001': {'expectile': 0.7, 'lr': 0.001},
            'expectile=0.9 lr=0.001': {'expectile': 0.9, 'lr': 0.001},
        },
    }


def test_make_jobs__a_setting_goes_to_the_agents_that_have_it():
    jobs, notes = jobs_of(agent=['bc', 'iql'], hidden=16, expectile=0.8, sweep={'beta': [1, 2]})
    assert 'expectile' not in jobs['pointmaze-umaze-bc'].request
    assert 'variants' not in jobs['pointmaze-umaze-bc'].request
    assert jobs['pointmaze-umaze-iql'].request['expectile'] == 0.8
    assert list(jobs['pointmaze-umaze-iql'].request['variants']) == [
        'beta=1',
        'beta=2',
    ]
    assert notes == ['expectile is a setting of iql only', 'beta is a setting of iql only']


def test_make_jobs__the_last_value_for_a_setting_counts():
    jobs, _ = jobs_of(
        env=['pointmaze-umaze', 'pointmaze-medium', 'pointmaze-large'],
        agent='iql',
        expectile=0.5,
        hidden=8,
        sweep={'beta': [1.0, 2.0]},
        override=[
            {'env': 'pointmaze-medium', 'beta': 3.0, 'hidden': 16},
            {'agent': 'iql', 'env': ['pointmaze-large'], 'sweep': {'expectile': [0.7, 0.9]}},
        ],
    )
    umaze, medium, large = (job.request for job in jobs.values())
    assert (umaze['hidden'], list(umaze['variants'])) == (8, ['beta=1', 'beta=2'])
    assert (medium['hidden'], medium['beta'], medium.get('variants')) == (16, 3.0, None)
    assert 'expectile' not in large
    assert len(large['variants']) == 4


def test_make_jobs__the_discount_is_a_job_where_it_changes_the_data():
    for agent in ('iql', 'dtql'):
        assert is_of_lanes(find_agent(agent).agent, 'discount') == (
            'return_to_go' not in find_agent(agent).agent.columns
        )


def test_make_jobs__two_jobs_of_one_name(tmp_path, monkeypatch):
    source = 'import dtql_jax.agents.bc\nclass BC(dtql_jax.agents.bc.BC):\n    pass\n'
    for name in ('first_bc', 'second_bc'):
        (tmp_path / f'{name}.py').write_text(source)
    agents = [f'{tmp_path}/{name}.py:BC' for name in ('first_bc', 'second_bc')]
    with pytest.raises(UserError, match='two jobs of the study would have the name'):
        jobs_of(agent=agents)


MISTAKES = {
    'task': ({'env': 'pointmaze-umase'}, "unknown task 'pointmaze-umase'"),
    'agent': ({'agent': 'iqll'}, "unknown agent 'iqll'"),
    'setting': ({'expectil': 1}, "unknown setting 'expectil'; nearest: expectile"),
    'setting of another agent': ({'alpha': 1}, "unknown setting 'alpha'"),
    'swept setting': ({'sweep': {'expectil': [1]}}, "unknown setting 'expectil'"),
    'swept seeds': ({'sweep': {'num_seeds': [1, 2]}}, 'sweep: num_seeds cannot be swept'),
    'swept tasks': ({'sweep': {'env': ['a', 'b']}}, 'sweep: env cannot be swept'),
    'value': ({'expectile': 'much'}, "`expectile`='much': not a finite number"),
    'range': ({'sweep': {'expectile': [0.5, 7]}}, '`expectile`=7.0: must be'),
    'the same value': ({'sweep': {'expectile': ['0.5', '.5']}}, '0.5 stands there twice'),
    'override of another task': (
        {'override': [{'env': 'pointmaze-large', 'hidden': 8}]},
        "override 1 fits no job: the study has no env 'pointmaze-large'",
    ),
    'override of another agent': (
        {'override': [{'agent': 'bc', 'hidden': 8}]},
        "override 1 fits no job: the study has no agent 'bc'",
    ),
    'setting of an override': (
        {'agent': ['bc', 'iql'], 'override': [{'agent': 'bc', 'expectile': 0.5}]},
        "unknown setting 'expectile'",
    ),
    'logger': ({'log_to': ['mlflow']}, "unknown logger 'mlflow'"),
    'source': ({'source': 'd4rl', 'agent': 'bc'}, 'pointmaze-umaze-bc: '),
    'clones of a clone': ({'clone_seeds': 1, 'agent': 'bc'}, 'pointmaze-umaze-bc: `clone_seeds`=1'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_make_jobs__names_a_mistake(name):
    fields, message = MISTAKES[name]
    with pytest.raises(UserError) as error:
        jobs_of(**{'agent': 'iql', **fields})
    assert message in str(error.value)
    assert '\n' not in str(error.value)


def test_job_name__is_short_and_safe():
    assert job_name('hopper-medium', 'dtql', {}) == 'hopper-medium-dtql'
    assert (
        job_name('minari:test/x-v0', 'm:Mine', {'goal': 'a b'}) == 'minari-test-x-v0-Mine-goal=a-b'
    )
    assert job_name('minari:/data/sets/mine', 'bc', {'lr_decay': True}) == 'mine-bc-lr_decay=true'
    with pytest.raises(UserError, match='too long'):
        job_name('hopper-medium', 'dtql', {f'setting_{i}': 'x' * 20 for i in range(9)})


def test_variants__have_labels_in_the_order_of_the_grid():
    found = variants({'lr': [3e-5, 0.123456789], 'alpha': [1.0]})
    assert list(found) == ['lr=3e-05 alpha=1', 'lr=0.123456789 alpha=1']


def test_split__keeps_every_lane_of_the_job():
    request = {
        'env': 'pointmaze-umaze',
        'agent': 'dtql',
        'num_seeds': 7,
        'seed': 10,
        'clone_seeds': 4,
        'variants': {'alpha=1': {'alpha': 1.0}, 'alpha=2': {'alpha': 2.0}},
    }

    def lanes(job):
        plan = make_plan(make_request(job.request))
        assert len(plan.lanes) == job.lanes
        return [(lane.variant, lane.seed) for lane in plan.lanes]

    whole = Job('x', request, 18)
    parts = split(whole, 3)
    assert [part.name for part in parts] == ['x-part1', 'x-part2', 'x-part3']
    assert sorted(lane for part in parts for lane in lanes(part)) == sorted(lanes(whole))
    assert max(part.request['num_seeds'] for part in parts) == 3
    assert split(whole, 7) == [whole]
    more_clones = Job('x', {**request, 'clone_seeds': 9}, 23)
    found = [lane for part in split(more_clones, 4) for lane in lanes(part)]
    assert sorted(found) == sorted(lanes(more_clones))


def test_float_grid__refuses_what_is_no_lane():
    agent = find_agent('iql').agent
    assert float_grid(agent, {'expectile': ['0.5', '0.7']}) == {'expectile': (0.5, 0.7)}
    with pytest.raises(UserError, match='hidden is the same for all lanes of a run: `dtql sweep`'):
        float_grid(agent, {'hidden': ['8', '16']})
    with pytest.raises(UserError, match='unknown setting'):
        float_grid(agent, {'expectle': ['0.5']})
    with pytest.raises(UserError, match='twice'):
        float_grid(agent, {'expectile': ['0.5', '.5']})


def test_absolute__means_the_same_in_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = absolute(study_from({
        'env': ['minari:./mine', 'pointmaze-umaze'], 'agent': 'my.py:Mine',
        'modules': ['t.py', 'm'],
        'override': [{'env': 'minari:./mine', 'hidden': 8}],
    }))  # fmt: skip
    assert study.modules == (f'{tmp_path}/t.py', 'm')
    assert study.agent == (f'{tmp_path}/my.py:Mine',)
    assert study.override[0].env[0] == study.env[0]
    assert study.env[0].startswith('minari:/')
    assert absolute(study) == study


def test_typed__changes_nothing_twice():
    study = typed(study_from({'env': 'pointmaze-umaze', 'steps': '3e5', 'sweep': {'alpha': ['1']}}))
    assert as_fields(study) == {
        'env': ['pointmaze-umaze'], 'agent': ['dtql'], 'steps': 300_000, 'sweep': {'alpha': [1.0]},
    }  # fmt: skip
    assert typed(study) == study


def test_import_modules__names_a_mistake(tmp_path):
    with pytest.raises(UserError, match='there is no such file'):
        import_modules([f'{tmp_path}/none.py'])
    (tmp_path / 'broken_module.py').write_text('1 / 0')
    with pytest.raises(UserError, match=r'line 1: ZeroDivisionError'):
        import_modules([f'{tmp_path}/broken_module.py'])
