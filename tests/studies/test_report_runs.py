"""The sections on runs: failures, times, and commands that repeat a run."""

import dataclasses
import shlex

import numpy as np
import pytest

from dtql_jax.cli import train
from dtql_jax.cli.flags import given, parse
from dtql_jax.report.formats import Table
from dtql_jax.report.page import Details, Note
from dtql_jax.runs.plan import make_plan, make_request
from dtql_jax.studies.report_lanes import gather
from dtql_jax.studies.report_runs import command, commands, problems, repeat, times
from dtql_jax.studies.results import read_run, read_runs
from dtql_jax.studies.status import JobStatus
from tests.helpers.report_runs import noisy, write_run

HOPPER = 'hopper-medium-v2'


def tables(section):
    return {part.name: part for part in section.parts if isinstance(part, Table)}


def notes(section):
    return ' '.join(part.text for part in section.parts if isinstance(part, Note))


def asked(line):
    """The request that a command line makes, by the command's own flags."""
    words = shlex.split(line)
    assert words[:2] == ['dtql', 'train']
    values, _ = train.define(train.agent_asked(words[1:]))
    parsed = parse(values, words[1:])
    return make_request(given(parsed, [name for name in parsed if name not in train.NO_REQUEST]))


def test_commands__make_the_same_plan(tmp_path):
    flags = {
        'env': HOPPER, 'agent': 'dql_kl', 'num_seeds': 3, 'seed': 7, 'eval_episodes': 4,
        'lr': 1e-5 / 3, 'lr_decay': False, 'steps': 2000, 'source': 'd4rl',
    }  # fmt: skip
    record = read_run(write_run(tmp_path / 'a', noisy(0, 3), **flags))
    (line,) = commands(record)
    assert make_plan(asked(line)).identity() == record.config['identity']
    assert '--lr_decay=false' in line
    assert 'eval_timeout' not in line  # its default


def test_commands__one_for_each_variant(tmp_path):
    variants = {'alpha=0.5': {'alpha': 0.5}, 'alpha=0.1': {'alpha': 0.1}}
    record = read_run(write_run(tmp_path / 'a', noisy(0, 4), env=HOPPER, variants=variants))
    lines = commands(record)
    assert lines[0::2] == ['# alpha=0.5', '# alpha=0.1']
    for line, variant in zip(lines[1::2], variants, strict=True):
        plan = make_plan(asked(line))
        lanes = [lane for lane in record.lanes if lane.variant == variant]
        assert [lane.seed for lane in plan.lanes] == [lane.seed for lane in lanes]
        assert plan.config.alpha == lanes[0].hparams['alpha']


def test_commands__quote_what_a_shell_would_read(tmp_path):
    folder = tmp_path / "it's a $folder"
    folder.mkdir()
    data = folder / 'x.hdf5'
    data.write_text('')
    flags = {'env': HOPPER, 'dataset_path': str(data)}
    (line,) = commands(read_run(write_run(tmp_path / 'a', noisy(0, 2), **flags)))
    assert asked(line).dataset_path == str(data.resolve())


def with_config(record, **changes):
    return dataclasses.replace(record, config={**record.config, **changes})


def test_commands__say_what_a_command_cannot_repeat(tmp_path):
    record = read_run(write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER))
    data = {**record.config['data'], 'source': 'arrays'}
    (line,) = commands(with_config(record, data=data))
    assert line.startswith('# trained on arrays')
    identity = {**record.config['identity']}
    identity['task'] = {**identity['task'], 'name': 'mine'}
    note, _ = commands(with_config(record, identity=identity))
    assert 'registered by a module of your own' in note


def test_commands__an_agent_of_ones_own_is_named_by_its_file(tmp_path):
    record = read_run(write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER))
    request = {**record.config['request'], 'agent': 'mine'}
    own = with_config(record, request=request, agent_file='here/my.py', agent_class='Mine')
    note, line = commands(own)
    assert '--agent=here/my.py:Mine' in line
    assert note == '# the agent was registered as mine'


def test_command__is_one_line_for_a_shell():
    line = command({'env': 'a b', 'x': True, 'lr': 0.1})
    assert line == "dtql train '--env=a b' --x=true --lr=0.1"


def test_problems__names_every_seed_and_job(tmp_path):
    scores = [[[1, 2]], ['no such door'], [[1, 2]], []]
    write_run(tmp_path / 'a', scores, diverged={2: 1500}, env=HOPPER, num_seeds=4)
    statuses = [
        JobStatus(name='a', state='done', step=5, total=5),
        JobStatus(name='b', state='failed', reason='no data', host='node1', step=1200, total=5000),
        JobStatus(name='c', state='waiting'),
    ]
    section = problems(gather('s', read_runs(tmp_path), statuses))
    assert [row[2:4] for row in tables(section)['lanes'].rows] == [
        ('1', 'the evaluation at update 1,000 failed: no such door'),
        ('2', 'diverged at update 1,500'),
        ('3', 'not evaluated yet'),
    ]
    assert list(tables(section)['jobs'].rows) == [
        ('b', 'failed', '1,200 of 5,000', 'no data', 'node1'),
        ('c', 'waiting', '–', '–', '–'),
    ]


def test_problems__a_run_that_has_not_ended_has_no_last_score(tmp_path):
    scores = [[[10], [20]], [[30], [40], [50]]]  # at updates 1000, 2000 and 3000
    write_run(tmp_path / 'a', scores, end=3000, env=HOPPER, num_seeds=2)
    results = gather('s', read_runs(tmp_path))
    (row,) = tables(problems(results))['lanes'].rows
    assert row[2:4] == ('0', 'not at its end: evaluated at update 2,000 of 3,000')
    (half, whole) = results.lanes
    assert (np.isnan(half.last), half.best, whole.last) == (True, 20, 50)


def test_problems__a_run_ends_with_its_part_in_the_environment(tmp_path):
    asked = {'env': HOPPER, 'num_seeds': 1, 'online_steps': 1000}
    write_run(tmp_path / 'a', [[[10], [20], [30]]], end=3000, **asked)
    (row,) = tables(problems(gather('s', read_runs(tmp_path))))['lanes'].rows
    assert row[3] == 'not at its end: evaluated at update 3,000 of 4,000'


def test_problems__says_where_no_evaluation_was_asked_for(tmp_path):
    write_run(tmp_path / 'a', [[]], env=HOPPER, num_seeds=1, eval_episodes=0)
    (row,) = tables(problems(gather('s', read_runs(tmp_path))))['lanes'].rows
    assert row[3] == 'no evaluation: `eval_episodes` is 0'


def test_problems__says_that_there_is_none_or_that_it_is_not_known(tmp_path):
    write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER)
    records = read_runs(tmp_path)
    text = notes(problems(gather('s', records)))
    assert 'The states of jobs are not known' in text
    assert 'All seeds have a last score.' in text
    text = notes(problems(gather('s', records, [JobStatus(name='a', state='done')])))
    assert 'All jobs are done.' in text


@pytest.mark.parametrize('same', [True, False])
def test_problems__different_data_under_one_name(tmp_path, same):
    write_run(tmp_path / 'a', noisy(0, 2), env=HOPPER)
    other = ('f' if same else 'e') * 64
    write_run(tmp_path / 'b', noisy(0, 2), env=HOPPER, seed=2, fingerprint=other)
    text = notes(problems(gather('s', read_runs(tmp_path))))
    assert ('fingerprints differ' in text) != same


def test_times__by_hand(tmp_path):
    write_run(tmp_path / 'a', noisy(0, 2, episodes=5), env=HOPPER)
    (row,) = tables(times(gather('s', read_runs(tmp_path))))['times'].rows
    # 3 s of 2 lanes, 5 episodes and 100 steps: 3 ms.
    assert [str(cell) for cell in row] == [
        HOPPER, 'dtql', 'a', '2', '2 x cuda', '1,000', '250.0', '1:24 min', '3 s', '3.00',
    ]  # fmt: skip


def test_times__what_is_not_known_is_not_0(tmp_path):
    run_dir = write_run(tmp_path / 'a', [[], []], env=HOPPER)
    (run_dir / 'metrics.jsonl').write_text('')
    (row,) = tables(times(gather('s', read_runs(tmp_path))))['times'].rows
    assert row[5:] == ('–',) * 5


def test_repeat__has_the_facts_of_each_run(tmp_path):
    write_run(tmp_path / 'a', noisy(0, 3), env=HOPPER, num_seeds=3)
    (details,) = repeat(gather('s', read_runs(tmp_path))).parts
    assert isinstance(details, Details)
    facts = dict(details.facts)
    assert (details.anchor, details.title) == ('run-0', f'run 1, a: dtql on {HOPPER}')
    assert facts['seeds'] == '0 to 2'
    assert facts['fingerprint of the data'] == 'f' * 64
    assert facts['device'] == '2 x cuda'
    assert facts['wall time'] == '1:24 min'
    assert facts['commit'] == 'not known'
    assert 'jax ' in facts['versions']
    assert 'stands in' in facts['caveat']
