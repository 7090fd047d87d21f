"""`sweep`: what is checked before the first job starts, and what goes on."""

import os
import pathlib
import sys

import pytest

import dtql_jax
from dtql_jax.studies import sweep as sweep_module
from dtql_jax.studies.folder import read_plan
from dtql_jax.studies.prepare import Needs
from dtql_jax.studies.status import DONE, FAILED, RUNNING, JobStatus, write_state
from dtql_jax.studies.study import read_study, study_from, to_toml
from dtql_jax.types import UserError

FIELDS = {'env': 'pointmaze-umaze', 'agent': ['bc', 'iql'], 'hidden': 8, 'clone_seeds': 0}
BC, IQL = 'pointmaze-umaze-bc', 'pointmaze-umaze-iql'


@pytest.fixture
def study(tmp_path):
    return tmp_path / 'studies' / 'first'


def test_sweep__makes_the_folder_and_starts_all_jobs(study, launched, capsys):
    found = dtql_jax.sweep({**FIELDS, 'sweep': {'beta': [1, 3]}}, out=study)
    assert [(s.name, s.state) for s in found] == [(BC, 'waiting'), (IQL, 'waiting')]
    (work,) = launched
    assert (work.study_dir, work.jobs, work.options.wait) == (study, (BC, IQL), False)
    plan = read_plan(study)
    assert [(job.lanes, job.memory, job.seconds) for job in plan.jobs] == [(2, 120, 4), (4, 140, 8)]
    assert plan.folder == os.getcwd()
    assert read_study(study / 'study.toml').sweep == {'beta': (1.0, 3.0)}
    assert {path.name for path in study.iterdir()} == {
        'study.toml', 'plan.json', 'jobs', 'state', 'logs',
    }  # fmt: skip
    text = capsys.readouterr().out
    assert 'beta is a setting of iql only' in text
    assert '2 jobs, 6 lanes' in text


def test_sweep__a_file_names_the_folder(tmp_path, launched, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path('mine.toml').write_text(to_toml({**FIELDS, 'env': ['pointmaze-umaze']}))
    dtql_jax.sweep('mine.toml')
    assert launched[0].study_dir == tmp_path / 'studies' / 'mine'


def test_sweep__takes_a_study_too(study, launched):
    dtql_jax.sweep(study_from(FIELDS), out=study)
    assert launched[0].jobs == (BC, IQL)


def test_sweep__a_dry_run_leaves_nothing(study, launched, capsys):
    assert dtql_jax.sweep(FIELDS, out=study, dry_run=True) == []
    assert not launched
    assert not study.parent.exists()
    assert BC in capsys.readouterr().out


def test_sweep__goes_on_with_what_is_left(study, launched, prepared):
    _, calls = prepared
    dtql_jax.sweep(FIELDS, out=study)
    write_state(study, JobStatus(name=BC, state=DONE))
    dtql_jax.sweep(FIELDS, out=study)
    dtql_jax.sweep(out=study)
    assert [work.jobs for work in launched[1:]] == [(IQL,), (IQL,)]
    assert calls[1:] == [[IQL], [IQL]]
    write_state(study, JobStatus(name=IQL, state=FAILED, reason='no'))
    dtql_jax.sweep(out=study)
    assert len(launched) == 3
    dtql_jax.sweep(out=study, retry_failed=True)
    assert launched[3].jobs == (IQL,)


def test_sweep__leaves_alone_what_runs_elsewhere(study, launched):
    dtql_jax.sweep(FIELDS, out=study)
    beats = {'host': 'elsewhere', 'updated': 2.0**40}
    write_state(study, JobStatus(name=BC, state=RUNNING, **beats))
    dtql_jax.sweep(out=study)
    assert launched[1].jobs == (IQL,)


def test_sweep__splits_what_does_not_fit(study, launched, prepared):
    needs, _ = prepared
    needs[IQL] = Needs(shared=100, lane=100, free=1000, seconds=2.0)  # 8 lanes
    fields = {**FIELDS, 'num_seeds': 5, 'sweep': {'beta': [1, 3]}}
    dtql_jax.sweep(fields, out=study)
    jobs = read_plan(study).jobs
    assert [job.name for job in jobs] == [BC, f'{IQL}-part1', f'{IQL}-part2']
    assert [job.lanes for job in jobs] == [5, 4, 6]
    needs.clear()  # another machine
    dtql_jax.sweep(fields, out=study)
    assert launched[1].jobs == launched[0].jobs


def test_sweep__not_even_one_seed_fits(study, launched, prepared):
    needs, _ = prepared
    needs[IQL] = Needs(shared=100, lane=1000, free=1000, seconds=2.0)
    with pytest.raises(UserError, match=f'{IQL}: one seed needs'):
        dtql_jax.sweep(FIELDS, out=study)
    assert not study.exists()


def test_sweep__modules_register_tasks_and_agents(study, tmp_path, launched, monkeypatch):
    module = tmp_path / 'own_registrations.py'
    module.write_text(
        'import dtql_jax.agents.bc\n'
        "dtql_jax.register_agent('mine', type('Mine', (dtql_jax.agents.bc.BC,), {}))\n"
    )
    monkeypatch.chdir(tmp_path)
    dtql_jax.sweep({**FIELDS, 'agent': 'mine', 'modules': ['own_registrations.py']}, out=study)
    assert launched[0].jobs == ('pointmaze-umaze-mine',)
    assert read_plan(study).study['modules'] == [str(module)]


MISTAKES = {
    'no folder': ({'out': None}, '`out` is missing'),
    'launcher': ({'launcher': 'cloud'}, '`launcher`=cloud: must be one of local, print'),
    'option': ({'jobs_per_devise': 2}, "unknown setting 'jobs_per_devise'; nearest: jobs_per_dev"),
    'option value': ({'jobs_per_device': 'many'}, "`jobs_per_device`='many': not a whole number"),
    'setting': ({'study': {**FIELDS, 'hiden': 8}}, "unknown setting 'hiden'; nearest: hidden"),
    'module': ({'study': {**FIELDS, 'modules': ['no.py']}}, '`modules`=no.py: there is no such'),
    'no study': ({'study': None}, 'is no folder of a study (no plan.json)'),
    'file': ({'study': 'none.toml'}, 'none.toml cannot be read'),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_sweep__a_mistake_is_one_line_and_leaves_nothing(name, study, launched, prepared):
    changes, message = MISTAKES[name]
    with pytest.raises(UserError) as error:
        dtql_jax.sweep(**{'study': FIELDS, 'out': study, **changes})
    assert message in str(error.value)
    assert '\n' not in str(error.value)
    assert not study.parent.exists()
    assert not launched
    assert not prepared[1]


def test_sweep__a_folder_of_another_study_is_left_alone(study, launched):
    dtql_jax.sweep(FIELDS, out=study)
    before = {path: path.read_bytes() for path in study.glob('*.*')}
    with pytest.raises(UserError) as error:
        dtql_jax.sweep({**FIELDS, 'hidden': 16, 'num_seeds': 3}, out=study)
    assert (
        'holds a study of other settings: hidden: the study has 8, asked for 16; num_seeds: '
        in (str(error.value))
    )
    assert {path: path.read_bytes() for path in study.glob('*.*')} == before


def test_sweep__a_folder_of_other_things_is_left_alone(study, launched):
    study.mkdir(parents=True)
    dtql_jax.sweep(FIELDS, out=study)  # an empty one is no other thing
    other = study.parent / 'other'
    other.mkdir()
    (other / 'thesis.txt').write_text('')
    with pytest.raises(UserError, match='other exists and is no study'):
        dtql_jax.sweep(FIELDS, out=other)
    with pytest.raises(UserError, match='is a file: choose another folder'):
        dtql_jax.sweep(FIELDS, out=other / 'thesis.txt' / 'study')
    with pytest.raises(UserError, match='exists and is no study'):
        dtql_jax.sweep(FIELDS, out=other / 'thesis.txt')


def test_sweep__an_edited_file_is_told(study, launched):
    dtql_jax.sweep(FIELDS, out=study)
    path = study / 'study.toml'
    path.write_text(path.read_text().replace('hidden = 8', 'hidden = 9'))
    for asked in (None, FIELDS):
        with pytest.raises(UserError, match=r'study\.toml was edited: hidden: the study has 8'):
            dtql_jax.sweep(asked, out=study)


def test_sweep__a_folder_that_cannot_be_made(tmp_path, launched, monkeypatch):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='file'):
        dtql_jax.sweep(FIELDS, out=tmp_path / 'file' / 'study')
    assert not launched


def test_sweep__printed_commands_have_the_output_to_themselves(study, prepared, capsys):
    dtql_jax.sweep(FIELDS, out=study, launcher='print')
    output = capsys.readouterr()
    assert output.out.splitlines() == [
        f'{sys.executable} -m dtql_jax.studies.job {study} {job}' for job in (BC, IQL)
    ]
    assert '2 jobs, 4 lanes' in output.err
    assert sweep_module.read_status(study)[0].state == 'waiting'
