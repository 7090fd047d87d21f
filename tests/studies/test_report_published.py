"""The section of published numbers."""

from dtql_jax.report.formats import Table
from dtql_jax.report.page import Note
from dtql_jax.studies.report_lanes import gather
from dtql_jax.studies.report_published import published
from dtql_jax.studies.results import read_runs
from tests.helpers.report_runs import noisy, write_run


def section_of(tmp_path, *tasks):
    for i, task in enumerate(tasks):
        write_run(tmp_path / f'{i}', noisy(i, 2), env=task)
    section = published(gather('s', read_runs(tmp_path)))
    tables = {part.name: part for part in section.parts if isinstance(part, Table)}
    return tables, ' '.join(part.text for part in section.parts if isinstance(part, Note))


def test_published__editions_stand_apart(tmp_path):
    tables, _ = section_of(tmp_path, 'hopper-medium-v2', 'antmaze-large-diverse-v0')
    edition = tables['published'].heading.index('edition of the data')
    pairs = {(row[0], row[edition]) for row in tables['published'].rows}
    assert pairs == {('hopper-medium-v2', 'v2')}
    doubtful = {row[edition] for row in tables['published_doubtful'].rows}
    assert not doubtful & {'v0', 'v1', 'v2'}
    for row in tables['published'].rows:
        assert all(row)  # what a source does not say is said to be not stated
    assert len(set(tables['published'].anchors)) == len(tables['published'].rows)


def test_published__minari_and_tasks_without_numbers_have_a_word(tmp_path):
    tables, notes = section_of(tmp_path, 'walker2d-medium', 'pointmaze-umaze')
    assert not tables
    assert "walker2d-medium: its data are Minari's mujoco/walker2d/medium-v0" in notes
    assert 'No published number is known for: walker2d-medium, pointmaze-umaze.' in notes
