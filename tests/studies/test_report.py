"""The whole page, read with a parser: tables, ids, links, and no reference to the network."""

import csv
import html.parser
import json
import re

import pytest

from dtql_jax.studies.folder import Job, StudyPlan, write_plan
from dtql_jax.studies.report import report_runs, report_study
from dtql_jax.studies.status import JobStatus, write_state
from dtql_jax.types import UserError
from tests.helpers.report_runs import noisy, write_run

VOID = {'meta', 'br', 'link', 'img', 'input', 'hr'}


class Page(html.parser.HTMLParser):
    """What is on a page: ids, links, rows of tables, elements that are open at the end."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.rows, self.open, self.outside = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == 'id':
                self.ids.append(value)
            if name in ('href', 'src', 'xlink:href', 'action', 'srcset'):
                (self.links if value.startswith('#') else self.outside).append(value)
        if tag == 'table':
            self.rows.append([])
        elif tag == 'tr':
            self.rows[-1].append(0)
        elif tag in ('th', 'td'):
            self.rows[-1][-1] += 1

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """A study of 3 tasks and 6 agents with a sweep, failures, and a job that never began."""
    folder = tmp_path_factory.mktemp('studies') / 'a <study> & more'
    tasks = ('hopper-medium-v2', 'antmaze-large-diverse-v2', 'halfcheetah-medium')
    agents = ('dtql', 'diffusion_ql', 'idql', 'srpo', 'iql', 'bc')
    jobs = [f'{task}-{agent}' for task in tasks for agent in agents]
    for i, job in enumerate(jobs):
        task, agent = tasks[i // len(agents)], agents[i % len(agents)]
        flags = {'env': task, 'agent': agent, 'num_seeds': 5}
        count = 5
        if agent == 'dtql':
            flags['variants'] = {f'alpha={a:g}': {'alpha': a} for a in (0.5, 1.0, 5.0)}
            count = 15
        scores = noisy(i, count, evaluations=20, episodes=10, mean=40 + 3 * i)
        if agent == 'bc':
            scores[0] = [*scores[0][:2], 'the simulator <broke>']
        diverged = {1: 2500} if agent == 'srpo' else None
        write_run(folder / 'jobs' / job, scores, diverged, **flags)
    plan = StudyPlan({'env': list(tasks)}, '.', tuple(Job(job, {}, 5) for job in [*jobs, 'late']))
    write_plan(folder, plan)
    return folder


@pytest.fixture(scope='module')
def text(study):
    return report_study(study).read_text(encoding='utf-8')


def test_report_study__the_page_is_sound_and_needs_nothing_else(text):
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.links
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert page.outside == []
    tags = ' '.join(re.findall('<[^>]*>', text))  # a text may name an address
    assert not re.search('https?://', tags)
    assert not re.search(r'@import|<script|<link|<iframe|url\((?!#)', text)
    for rows in page.rows:
        assert len(set(rows)) == 1
        assert len(rows) > 1


def test_report_study__a_study_of_3_tasks_and_6_agents_stays_small(text):
    assert len(text.encode()) < 1_000_000


def test_report_study__has_all_sections_each_with_words(text):
    names = re.findall(r'<section id="([\w-]+)">\n<h2>[^<]+</h2>\n<p>([^<]{80,})</p>', text)
    assert [name for name, _ in names] == [
        'by-task', 'overall', 'profiles', 'improvement', 'curves', 'sweeps', 'stability',
        'selection', 'problems', 'times', 'published-scores', 'repeat',
    ]  # fmt: skip


def test_report_study__escapes_names_and_reasons(text):
    assert '<title>a &lt;study&gt; &amp; more</title>' in text
    assert 'the simulator &lt;broke&gt;' in text
    assert '<broke>' not in text


def test_report_study__tells_of_the_job_that_never_began(text):
    assert re.search(r'<td>late</td><td>waiting</td>', text)
    assert '<p>Jobs: 19 waiting.</p>' in text


def test_report_study__light_and_dark(text):
    assert '@media (prefers-color-scheme: dark)' in text
    assert '@media print' in text
    drawings = ''.join(re.findall(r'<svg.*?</svg>', text, re.DOTALL))
    assert not re.search(r'#[0-9a-fA-F]{6}', drawings)


def test_report_study__the_other_formats_have_the_same_tables(study, text):
    folder = study / 'report'
    names = re.findall(r'<table id="table-(\w+)"', text)
    assert {path.name for path in folder.iterdir()} == {
        'index.html', 'tables.md', 'tables.tex', *(f'{name}.csv' for name in names),
    }  # fmt: skip
    rows = list(csv.DictReader((folder / 'scores.csv').open(encoding='utf-8')))
    assert len(rows) == 3 * (5 + 3)
    assert rows[0]['agent'] == 'dtql alpha=0.5'
    assert (folder / 'tables.md').read_text().count('\n## ') == len(names) - 1
    latex = (folder / 'tables.tex').read_text()
    assert latex.count(r'\begin{tabular}') == len(names)
    assert not re.search(r'(?<!\\)[&]\s*$', latex, re.MULTILINE)


def test_report_study__may_be_written_again(study):
    assert report_study(study) == study / 'report' / 'index.html'


def test_report_runs__of_folders_without_a_study(tmp_path):
    for name in 'ab':
        flags = {'env': 'hopper-medium-v2', 'alpha': float(ord(name))}
        write_run(tmp_path / name, noisy(ord(name), 2), **flags)
    path = report_runs([tmp_path / 'a', tmp_path / 'b'], tmp_path / 'out')
    text = path.read_text()
    assert '<title>a, b</title>' in text
    assert 'The states of jobs are not known' in text
    assert Page(text).open == []


def test_report_runs__one_run_that_has_just_begun(tmp_path):
    write_run(tmp_path / 'a', [[], []], env='hopper-medium-v2')
    text = report_runs([tmp_path / 'a'], tmp_path / 'out').read_text()
    page = Page(text)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert 'not evaluated yet' in text
    assert 'nan' not in re.sub('<svg.*?</svg>', '', text, flags=re.DOTALL)


def test_report_study__bad_folders_are_one_line(tmp_path):
    with pytest.raises(UserError, match='there is no such folder: check the path'):
        report_study(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='has no run'):
        report_study(tmp_path)
    write_run(tmp_path / 'jobs' / 'a', noisy(0, 2), env='hopper-medium-v2')
    (tmp_path / 'plan.json').write_text(json.dumps({'format': 99}))
    with pytest.raises(UserError, match='has format 99'):
        report_study(tmp_path)


def test_report_study__without_a_run_tells_what_became_of_the_jobs(tmp_path):
    write_plan(tmp_path, StudyPlan({}, '.', (Job('a', {}, 1), Job('b', {}, 1))))
    with pytest.raises(UserError, match=r'has no run yet \(2 jobs: 2 waiting\)'):
        report_study(tmp_path)
    write_state(tmp_path, JobStatus(name='b', state='failed', reason='no disk'))
    with pytest.raises(UserError, match='1 failed, 1 waiting; b: no disk'):
        report_study(tmp_path)
