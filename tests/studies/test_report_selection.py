"""The section on the best of several policies."""

from dtql_jax.report.formats import Table
from dtql_jax.report.page import Note
from dtql_jax.studies.report_lanes import gather
from dtql_jax.studies.report_selection import selection
from dtql_jax.studies.results import read_runs
from tests.helpers.report_runs import write_run

HOPPER = 'hopper-medium-v2'


def test_selection__all_agents_choose_from_as_many_policies(tmp_path):
    """Policies that never vary: the best is found as soon as each has played."""
    scores = [[[value] * 4] for value in (10, 20, 60)]
    write_run(tmp_path / 'a', scores, env=HOPPER, num_seeds=3)
    write_run(tmp_path / 'b', scores[:2], env=HOPPER, agent='iql')
    section = selection(gather('s', read_runs(tmp_path)))
    (table,) = (part for part in section.parts if isinstance(part, Table))
    first, second = table.rows
    assert first[:5] == (HOPPER, 'dtql', '3', '2', '30.0')
    assert second[:5] == (HOPPER, 'iql', '2', '2', '15.0')
    assert second[7:] == ('–', '20.0', '4', '20.0')  # after 50, at the end, episodes, best mean
    assert 40 < float(first[8]) < 53  # of two of three: 46.7
    assert first[10] == '60.0'


def test_selection__policies_without_episodes_take_no_part(tmp_path):
    scores = [[[1, 2, 3, 4]], [[5]], ['failed'], [[9, 9]]]
    write_run(tmp_path / 'a', scores, diverged={3: 1500}, env=HOPPER, num_seeds=4)
    section = selection(gather('s', read_runs(tmp_path)))
    (table,) = (part for part in section.parts if isinstance(part, Table))
    assert [row[2] for row in table.rows] == ['1']
    notes = [part.text for part in section.parts if isinstance(part, Note)]
    assert notes[0].startswith('3 policies take no part')
    assert 'Some policies have 4 recorded episodes' in notes[1]


def test_selection__none_where_no_episodes_are_recorded(tmp_path):
    write_run(tmp_path / 'a', [[[5]], []], env=HOPPER)
    assert selection(gather('s', read_runs(tmp_path))) is None
