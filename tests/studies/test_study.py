"""The file of a study: what it holds, how it is written, and what it refuses."""

import tomllib

import pytest

from dtql_jax.studies.study import (
    Override,
    Study,
    as_fields,
    differences,
    read_study,
    study_from,
    to_toml,
)
from dtql_jax.types import UserError

FULL = {
    'env': ['hopper-medium', 'walker2d-medium'],
    'agent': ['dtql', 'diffusion_ql'],
    'modules': ['my_tasks.py'],
    'num_seeds': 10,
    'seed': 0,
    'lr': 3e-05,
    'lr_decay': True,
    'log_to': ['wandb'],
    'sweep': {'alpha': [0.5, 1, 5], 'hidden': [256, 512], 'name "of" a\\key': ['ü', 'b']},
    'override': [
        {'env': ['hopper-medium'], 'agent': ['dtql'], 'alpha': 2.0, 'sweep': {'alpha': [2, 4]}},
        {'agent': ['diffusion_ql'], 'hidden': 64},
    ],
}


def test_study_from__reads_every_field():
    study = study_from(FULL)
    assert study.env == ('hopper-medium', 'walker2d-medium')
    assert study.settings['lr_decay'] is True
    assert study.sweep['hidden'] == (256, 512)
    assert study.override[0] == Override(
        ('hopper-medium',), ('dtql',), {'alpha': 2.0}, {'alpha': (2, 4)}
    )
    assert as_fields(study) == FULL


def test_study_from__has_the_defaults_of_a_run():
    assert study_from({}) == Study(env=('pointmaze-umaze',), agent=('dtql',))
    assert study_from({'env': 'a'}).env == ('a',)


def test_to_toml__is_read_back_as_it_was(tmp_path):
    assert tomllib.loads(to_toml(FULL)) == FULL
    path = tmp_path / 'study.toml'
    path.write_text(to_toml({**FULL, 'sweep': {'alpha': [0.5]}}), encoding='utf-8')
    assert as_fields(read_study(path)) == {**FULL, 'sweep': {'alpha': [0.5]}}


@pytest.mark.parametrize('value', [1e-300, 1e16, -0.1, 3, -3, True, 'a"b\\c\t\x7f\x01é𝛼'])
def test_to_toml__keeps_each_value(value):
    found = tomllib.loads(to_toml({'x': value}))['x']
    assert (found, type(found)) == (value, type(value))


MISTAKES = {
    'no task': ({'env': []}, '`env` is empty: name at least one'),
    'task': ({'env': 3}, '`env`=3: give a text or a list of texts'),
    'task twice': ({'env': ['a', 'a']}, "env: 'a' stands there twice"),
    'grid': ({'sweep': 3}, 'sweep=3: give a table'),
    'no list': ({'sweep': {'alpha': 1.0}}, 'sweep: alpha=1.0: give a list of values'),
    'empty grid': ({'sweep': {'alpha': []}}, 'sweep: alpha has no values'),
    'value twice': ({'sweep': {'alpha': [1, 2, 1.0]}}, 'sweep: alpha: 1.0 stands there twice'),
    'list as setting': ({'alpha': [1, 2]}, 'values to try belong into the table sweep'),
    'unknown table': ({'swep': {'alpha': [1]}}, 'not a single value; nearest: sweep'),
    'settings': ({'settings': {'alpha': 1}}, '`settings` is no setting of a study'),
    'blank': ({'critic': ' a'}, 'has blanks at an end'),
    'overrides': ({'override': {'alpha': 1}}, 'give a list of tables'),
    'override of all': ({'override': [{'alpha': 1}]}, 'override 1 is for no task and no agent'),
    'override of nothing': ({'override': [{'env': 'a'}]}, 'override 1 changes nothing'),
    'seeds': (
        {'override': [{'env': 'a', 'num_seeds': 1}]},
        'override 1: num_seeds is the same for all jobs',
    ),
}


@pytest.mark.parametrize('name', MISTAKES)
def test_study_from__names_a_mistake(name):
    fields, message = MISTAKES[name]
    with pytest.raises(UserError) as error:
        study_from({'env': 'a', **fields})
    assert message in str(error.value)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('text', ['env = [', 'env = ""'])
def test_read_study__names_the_file(text, tmp_path):
    path = tmp_path / 'x.toml'
    path.write_text(text)
    with pytest.raises(UserError, match=r'x\.toml'):
        read_study(path)
    with pytest.raises(UserError, match=r'none\.toml cannot be read'):
        read_study(tmp_path / 'none.toml')


def test_differences__names_each_field_with_both_values():
    ours = {'env': ['a'], 'sweep': {'alpha': [1.0]}, 'hidden': 8}
    theirs = {'env': ['a'], 'sweep': {'alpha': [2.0]}, 'override': [{'env': ['a'], 'lr': 1}]}
    assert differences(ours, theirs) == (
        'hidden: the study has none, asked for 8; '
        'override 1: the study has {"env": ["a"], "lr": 1}, asked for none; '
        'sweep.alpha: the study has [2.0], asked for [1.0]'
    )
    assert differences(ours, ours) == ''
