"""Arrays with a mistake: one line names the field, as it was given, and the cure."""

import dataclasses

import numpy as np
import pytest

from dtql_jax.data.load import load
from dtql_jax.tasks.registry import TASKS
from dtql_jax.types import Transition, UserError
from tests.helpers.flat_files import ARRAYS, ROW, THEIRS, fields, flags, table


def message(data, task=ARRAYS):
    """The one line that loading the arrays raises."""
    with pytest.raises(UserError) as caught:
        load(task, arrays=data)
    assert '\n' not in str(caught.value)
    return str(caught.value)


SPOILT = table(ROW)
SPOILT[4, 1] = np.nan
HUGE = table(ROW)
HUGE[4, 1] = 1e39  # beyond float32
MISTAKES = {
    'missing': (
        {'reward': None},
        'data: the field reward is missing (there is: action, mask, next_obs, obs, timeout); add '
        'it, one row a step',
    ),
    'no end of the return': (
        {'mask': None},
        'data: the field mask is missing (there is: action, next_obs, obs, reward, timeout); add '
        'it, or terminal: they tell where the return ends',
    ),
    'no successor': (
        {'next_obs': None, 'timeout': None},
        'data: the field next_obs is missing (there is: action, mask, obs, reward); add it, or '
        'timeout (0 where no episode is cut): they tell where episodes end',
    ),
    'unknown': (
        {'rewrad': ROW},
        "data: unknown field 'rewrad', nearest: reward; rename it or leave it out",
    ),
    'strange': (
        {'infos/qpos': ROW},
        "data: unknown field 'infos/qpos', there are obs, action, reward, mask, terminal, "
        'next_obs, timeout, success, episode; rename it or leave it out',
    ),
    'twice': (
        {'observations': table(ROW)},
        'data: obs and observations are the same field; give one of them',
    ),
    'mask and terminal': (
        {'terminals': flags(5)},
        'data: mask and terminals both tell where the return ends; give one of them '
        "(OGBench's terminals only end episodes: give them as timeouts)",
    ),
    'lengths': (
        {'action': np.zeros((6, 2))},
        'data: the field action has 6 rows, obs has 7; give every field one row a step',
    ),
    'sizes': (
        {'next_obs': np.zeros((7, 2))},
        'data: the field next_obs has shape (7, 2), obs has (7, 3); give both the same size',
    ),
    'images': (
        {'obs': np.zeros((7, 4, 4))},
        'data: the field obs has shape (7, 4, 4), expected [rows, size]; give it one row a step',
    ),
    'no table': (
        {'action': np.zeros(7)},
        'data: the field action has shape (7,), expected [rows, size]; give it one row a step',
    ),
    'a number': (
        {'reward': 1.0},
        'data: the field reward has shape (), expected [rows]; give it one row a step',
    ),
    'empty': (
        {'obs': np.zeros((0, 3))},
        'data: the field obs has no rows; give it one row a step',
    ),
    'words': (
        {'action': [['a', 'b']] * 7},
        'data: the field action has type <U1, not numbers; convert it to numbers',
    ),
    'objects': (
        {'reward': np.array([None] * 7)},
        'data: the field reward has type object, not numbers; convert it to numbers',
    ),
    'complex': (
        {'reward': 1j * ROW},
        'data: the field reward has type complex128, not numbers; convert it to numbers',
    ),
    'ragged': (
        {'action': [[0.5, 0.5]] * 6 + [[0.5]]},
        'data: the field action is no array (',
    ),
    'nan': (
        {'obs': SPOILT},
        'data, row 4, field obs[1]: nan (1 rows are not finite); remove those episodes',
    ),
    'nan after': (
        {'next_obs': SPOILT},
        'data, row 4, field next_obs[1]: nan (1 rows are not finite); remove those episodes',
    ),
    'nan action': (
        {'action': SPOILT[:, :2]},
        'data, row 4, field action[1]: nan (1 rows are not finite); remove those episodes',
    ),
    'infinite': (
        {'reward': np.where(ROW == 6, np.inf, 1)},
        'data, row 6, field reward[0]: inf (1 rows are not finite); remove those episodes',
    ),
    'huge': (
        {'obs': HUGE},
        'data, episode 1, row 1, field observations[1]: inf (1 rows are not finite); remove those',
    ),
    'huge, and episodes to be found': (
        {'obs': HUGE, 'next_obs': HUGE, 'timeout': None},
        'data, episode 4, row 0, field observations[1]: inf (1 rows are not finite); remove those',
    ),
    'flags': (
        {'mask': ROW},
        'data, row 2, field mask: 2 is neither 0 nor 1; give 0 or 1 in each row',
    ),
    'actions': (
        {'action': table(np.where(ROW == 4, -1.5, 0.5), 2)},
        'data, episode 1, row 1, field actions[0]: -1.5 is outside of the box [-1, 1], the worst '
        'of 1 rows; correct the action space, or clip the actions: `actions`=clip',
    ),
    'nothing left': (
        {'next_obs': None, 'mask': np.ones(7), 'timeout': np.ones(7)},
        'data: no row has a successor (each one ends an episode without being terminal); mend the '
        'flags or add next_observations',
    ),
}


MISTAKES['hidden'] = (
    {'reward': np.ma.masked_array(ROW, ROW == 4)},
    'data: the field reward hides some numbers (a mask); fill or drop them',
)


class Guarded:
    """An array of a library that does not hand it over."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


MISTAKES['guarded'] = (
    {'obs': Guarded()},
    "data: the field obs is no array (Can't call numpy() on Tensor that requires grad.); give it",
)


@pytest.mark.parametrize('name', MISTAKES)
@pytest.mark.filterwarnings('error')
def test_read_arrays__mistakes(name):
    changes, expected = MISTAKES[name]
    assert message(fields(**changes)).startswith(expected)


def test_read_arrays__mistakes_name_fields_as_they_were_given():
    given = {THEIRS[name]: value for name, value in fields().items()}
    given['rewards'] = np.zeros(3)
    expected = 'data: the field rewards has 3 rows, observations has 7; give every field one row'
    assert message(given).startswith(expected)


@pytest.mark.parametrize('given', [[1, 2], 'file.hdf5', np.zeros((7, 3)), 3])
def test_read_arrays__neither_a_transition_nor_a_dict(given):
    text = message(given)
    assert text.startswith(f'data: {type(given).__name__} holds no named arrays; give a Transition')


def test_read_arrays__further_columns_of_a_transition():
    text = message(
        Transition(**fields(timeout=None))._replace(extra={'next_action': table(ROW, 2)})
    )
    assert text == (
        'data: the field extra is made by loading, from Agent.columns; leave it out: '
        'data._replace(extra={})'
    )


@pytest.mark.parametrize('name', ['antmaze-large-diverse', 'pointmaze-umaze', 'antmaze-umaze-v2'])
def test_read_arrays__mazes_are_refused(name):
    assert message(fields(), TASKS[name]) == (
        f'{name}: arrays do not tell the goals of a maze; register a task without a goal: '
        'register_task(Task(..., env_id=...))'
    )


def test_read_arrays__an_environment_that_does_not_exist():
    text = message(fields(), dataclasses.replace(ARRAYS, env_id='Nowhere-v0'))
    assert text.startswith('own: cannot make its environment: ')
