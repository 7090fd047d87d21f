"""The launcher for SLURM, with programs of a few lines in the place of SLURM's commands."""

import os
import signal

import pytest

from dtql_jax.studies import slurm
from dtql_jax.studies.folder import Job, StudyPlan, make, read_json, write_plan
from dtql_jax.studies.launch import Launch, LaunchOptions, StudyStopped
from dtql_jax.studies.slurm import check, launch, parameters
from dtql_jax.studies.status import DONE, JobStatus, write_state
from dtql_jax.types import UserError
from tests.helpers.fake_slurm import FakeSlurm

HOUR = LaunchOptions(time_limit=60)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    pytest.importorskip('submitit', reason='submitit is not installed')
    found = FakeSlurm(tmp_path / 'cluster')
    monkeypatch.setenv('PATH', str(found.bin), prepend=os.pathsep)
    monkeypatch.setattr(slurm, 'LOOK_S', 0.05)
    return found


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / 'first study'
    for name in ('state', 'logs'):
        make(folder / name)
    jobs = tuple(Job(name, {}, 1) for name in 'abc')
    write_plan(folder, StudyPlan({}, str(tmp_path), jobs))
    return folder


class Said(list):
    """The lines of a launcher."""

    def text(self):
        return '\n'.join(self)


def submit(study, jobs='abc', options=HOUR):
    """Launches jobs; returns what was said."""
    said = Said()
    launch(Launch(study, tuple(jobs), options, said.append))
    return said.text()


def numbers(study):
    return read_json(study / 'state' / 'slurm.json', '')


# The options.


def test_parameters__says_what_a_job_is_lent():
    options = LaunchOptions(
        time_limit=90, partition='gpu', account='lab', cpus=4, memory_gb=1.5, gpus=2
    )
    assert parameters(options, 'first') == {
        'job_name': 'dtql-first',
        'wckey': None,
        'time': 90,
        'partition': 'gpu',
        'account': 'lab',
        'cpus_per_task': 4,
        'srun_args': ['-c4'],
        'mem': '1536M',
        'gpus_per_node': 2,
        'signal_delay_s': 120,
        'array_parallelism': 1000,
        'stderr_to_stdout': True,
        'additional_parameters': {'requeue': True},
    }


def test_parameters__leaves_out_what_is_not_asked_for():
    found = parameters(HOUR, 'first')
    assert not {'partition', 'account', 'cpus_per_task', 'mem', 'gpus_per_node'} & set(found)
    assert 'gpus_per_node' not in parameters(LaunchOptions(time_limit=60, gpus=0), 'first')


def test_parameters__a_short_turn_is_told_of_its_end_in_its_middle():
    assert parameters(LaunchOptions(time_limit=1), 'first')['signal_delay_s'] == 30


def test_parameters__needs_a_time_limit():
    with pytest.raises(UserError, match=r'`time_limit` is missing.*goes on in its next turn'):
        parameters(LaunchOptions(), 'first')


def test_parameters__refuses_a_part_of_a_gpu():
    with pytest.raises(UserError, match=r'`gpus`=0\.5: SLURM lends whole GPUs'):
        parameters(LaunchOptions(time_limit=1, gpus=0.5), 'first')


def test_parameters__takes_more_of_sbatchs_options():
    options = LaunchOptions(
        time_limit=1, slurm_args="constraint=a100 --qos=long mail_user=me exclusive comment='a b'"
    )
    assert parameters(options, 'first')['additional_parameters'] == {
        'requeue': True, 'constraint': 'a100', 'qos': 'long', 'mail-user': 'me',
        'exclusive': True, 'comment': 'a b',
    }  # fmt: skip


@pytest.mark.parametrize('text', ['array=0-3', '--signal=USR1@10', 'no_requeue'])
def test_parameters__keeps_its_own_options(text):
    with pytest.raises(UserError, match='is set by the launcher: leave it out'):
        parameters(LaunchOptions(time_limit=1, slurm_args=text), 'first')


def test_parameters__names_an_open_quotation_mark():
    with pytest.raises(UserError, match=r'`slurm_args`="comment=\'a".*close the quotation mark'):
        parameters(LaunchOptions(time_limit=1, slurm_args="comment='a"), 'first')


# A cluster that does not work.


def test_check__needs_the_commands_of_slurm(cluster, monkeypatch):
    check(HOUR)
    monkeypatch.setenv('PATH', os.devnull)
    with pytest.raises(UserError, match=r'no SLURM .*login node of the cluster.*`launcher`'):
        check(HOUR)


def test_check__needs_a_controller_that_answers(cluster):
    (cluster.folder / 'queue').unlink()
    with pytest.raises(UserError, match=r'not answer .*Unable to contact.*scontrol ping'):
        check(HOUR)


def test_check__does_not_wait_for_ever(cluster, monkeypatch):
    cluster.program('squeue', 'import time; time.sleep(60)')
    monkeypatch.setattr(slurm, 'ANSWER_S', 0.2)
    with pytest.raises(UserError, match=r'SLURM does not answer.*timed out'):
        check(HOUR)


def test_launch__says_why_slurm_takes_no_job(cluster, study, capfd):
    options = LaunchOptions(time_limit=60, partition='absent')
    with pytest.raises(UserError, match=r'takes no job.*partition specified: absent; .*sinfo'):
        submit(study, options=options)
    assert capfd.readouterr() == ('', '')
    assert not (study / 'state' / 'slurm.json').exists()


def test_launch__refuses_a_folder_that_slurm_would_misread(cluster, study):
    with pytest.raises(UserError, match='SLURM reads % as a mark'):
        launch(Launch(study / '50%j', ('a',), HOUR, print))


# Submission.


def test_launch__submits_one_array(cluster, study):
    said = submit(study, options=LaunchOptions(time_limit=60, cpus=2))
    assert 'submitted to SLURM: 1_0 to 1_2' in said
    assert "'squeue' shows them" in said
    assert numbers(study) == {'a': '1_0', 'b': '1_1', 'c': '1_2'}
    (script,) = cluster.scripts()
    lines = script.splitlines()
    for line in ('array=0-2%3', 'time=60', 'cpus-per-task=2', 'signal=USR2@120', 'requeue'):
        assert f'#SBATCH --{line}' in lines
    assert (study / 'logs' / 'slurm' / '1_0_submitted.pkl').exists()


def test_launch__submits_no_job_twice(cluster, study):
    submit(study, 'ab')
    said = submit(study)
    assert 'SLURM has 2 of the jobs, which are not submitted again' in said
    assert 'a (1_0 PENDING Priority), b (1_1 PENDING Priority)' in said
    assert numbers(study) == {'a': '1_0', 'b': '1_1', 'c': '2'}
    assert 'submitted to' not in submit(study)
    assert len(cluster.scripts()) == 2


def test_launch__submits_a_job_again_that_left_the_queue(cluster, study):
    submit(study)
    cluster.queue('1_1|RUNNING|None\n')
    said = submit(study)
    assert 'b (1_1 RUNNING)' in said
    assert numbers(study) == {'a': '2_0', 'b': '1_1', 'c': '2_1'}


def test_launch__splits_what_is_too_long_for_an_array(cluster, study, monkeypatch):
    monkeypatch.setattr(slurm, 'ARRAY', 2)
    submit(study)
    assert numbers(study) == {'a': '1_0', 'b': '1_1', 'c': '2'}


def test_launch__hides_the_job_that_the_driver_is_part_of(cluster, study, monkeypatch):
    for name, value in {'SLURM_CONF': '/x', 'SLURM_MEM_PER_NODE': '5', 'SRUN_DEBUG': '3'}.items():
        monkeypatch.setenv(name, value)
    submit(study, 'a')
    monkeypatch.setenv('SLURM_JOB_ID', '1')
    submit(study, 'b')
    names = {'SLURM_CONF', 'SLURM_MEM_PER_NODE', 'SRUN_DEBUG', 'SLURM_JOB_ID'}
    seen = [set((cluster.folder / f'environment{i}').read_text().split()) for i in (1, 2)]
    assert seen[0] & names == names - {'SLURM_JOB_ID'}
    assert seen[1] & names == {'SLURM_CONF'}
    assert os.environ['SLURM_MEM_PER_NODE'] == '5'


# Watching.

WAIT = LaunchOptions(time_limit=60, wait=True)


def wait(study, **answers):
    """Launches jobs and waits; calls an answer at the first line that has its words."""
    said, left = Said(), {words.replace('_', ' '): answer for words, answer in answers.items()}

    def say(text):
        said.append(text)
        for words in [words for words in left if words in text]:
            left.pop(words)()

    launch(Launch(study, ('a', 'b', 'c'), WAIT, say))
    return said.text()


def test_launch__waits_until_the_queue_has_none_of_the_jobs(cluster, study):
    def end():
        for name in 'abc':
            write_state(study, JobStatus(name=name, state=DONE))
        cluster.queue('99|RUNNING|None\n')

    said = wait(study, in_the_queue=end)
    assert '3 jobs: 3 waiting; 3 in the queue of SLURM' in said
    assert '3 jobs: 3 done' in said


def test_launch__waits_through_a_restart_of_the_controller(cluster, study):
    said = wait(
        study,
        in_the_queue=(cluster.folder / 'queue').unlink,
        asks_again=lambda: cluster.queue(''),
    )
    assert said.count('the driver asks again') == 1


def test_launch__does_not_wait_for_a_controller_for_ever(cluster, study, monkeypatch):
    monkeypatch.setattr(slurm, 'PATIENCE', 3)
    with pytest.raises(UserError, match='SLURM does not answer'):
        wait(study, in_the_queue=(cluster.folder / 'queue').unlink)


def test_launch__a_signal_ends_the_waiting_and_no_job(cluster, study):
    def stop():
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StudyStopped) as error:
        wait(study, in_the_queue=stop)
    assert error.value.signal == signal.SIGTERM
    assert len((cluster.folder / 'queue').read_text().splitlines()) == 3
