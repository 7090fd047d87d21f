"""Fills in what the code and the result files know: settings and numbers of each agent.

A line `<!-- settings: dtql -->` on a page becomes the table of the agent's settings, and
`<!-- numbers: dtql -->` the table of its measured scores and speeds. So neither can be out of date.
"""

import dataclasses
import json
import pathlib
import re
from typing import Any

from dtql_jax.agents.registry import AGENTS
from dtql_jax.agents.settings import kinds, limits, meaning

RESULTS = pathlib.Path(__file__).parent.parent / 'benchmarks' / 'results'
MARK = re.compile(r'^<!-- (settings|numbers): (\w+) -->$', re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The hook that mkdocs calls with the text of each page."""
    tables = {'settings': settings_table, 'numbers': numbers_table}
    return MARK.sub(lambda mark: tables[mark[1]](mark[2]), markdown)


def settings_table(agent: str) -> str:
    """Settings with default, range and meaning; then the settings of tasks, folded."""
    found = AGENTS[agent]
    types = kinds(found.agent.config_class)
    rows = [
        f'| `{field.name}` | {types[field.name].__name__} | `{shown(field.default)}` '
        f'| {allowed(field)} | {meaning(field)} |'
        for field in dataclasses.fields(found.agent.config_class)
    ]
    head = ['| setting | type | default | allowed | meaning |', '|---|---|---|---|---|']
    tasks = [
        f'    | `{task}` | {", ".join(f"`{k}={shown(v)}`" for k, v in row.items()) or "defaults"} |'
        for task, row in found.table.items()
    ]
    fold = ['', '??? note "Settings of tasks"', '', '    | task | differs from the defaults |']
    return '\n'.join([*head, *rows, *fold, '    |---|---|', *tasks])


def shown(value: Any) -> str:
    """A value as a flag takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def allowed(field: dataclasses.Field) -> str:
    """The range or the choices of a setting, in words."""
    bound = limits(field)
    if bound.choices is not None:
        return ', '.join(f'`{choice}`' for choice in bound.choices)
    words = {'at least': bound.least, 'above': bound.above}
    words |= {'at most': bound.most, 'below': bound.below}
    return ', '.join(f'{word} {value:g}' for word, value in words.items() if value is not None)


def numbers_table(agent: str) -> str:
    """Scores beside the other agents, and speed, each with its script and file."""
    rows = ['| what | value | script, file |', '|---|---|---|']
    source = '`experiments/studies/comparison.py`, `benchmarks/results/comparison.json`'
    for result in _results('comparison'):
        if result['agent'] == agent:
            scores = ', '.join(f'{score:.1f}' for score in result['scores'])
            updates = ' + '.join(f'{n:,}' for n in result['updates'].values())
            rows += [
                f'| score on {result["env"]} after {updates} updates, each of two seeds; the data '
                f'score {result["behaviour"]:.1f} | {scores} | {source} |',
                f'| one action on {result["env"]} | {result["ms_per_action"]:.2f} ms | {source} |',
            ]
    source = '`experiments/studies/scores.py`, `benchmarks/results/rivals.json`'
    for result in _results('rivals'):
        if result['agent'] == agent:
            updates, last = list(result['scores'].items())[-1]
            variant = '' if result['variant'] == agent else f', {result["variant"]}'
            rows.append(
                f'| score on {result["task"]}{variant} after {int(updates):,} updates of batch '
                f'{result["batch_size"]}, each seed | {", ".join(map(str, last))} '
                f'| {source} |'
            )
    source = '`benchmarks/speed.py`, `benchmarks/results/training_speed_cpu.json`'
    for result in _results('training_speed_cpu'):
        if result['agent'] == agent and result['seeds'] == 1:
            size = f'{result["dims"]}, batch {result["batch_size"]}'
            size += f', {result["variant"]}' if result['variant'] else ''
            rates = ', '.join(f'{phase} {x:.1f}' for phase, x in result['updates_per_s'].items())
            rows.append(f'| updates/s at observation/action {size} | {rates} | {source} |')
    if len(rows) == 2:
        return 'Not measured yet.'
    return '\n'.join([*rows, '', 'All on two cores, without a GPU; each file names the processor.'])


def _results(name: str) -> list[dict[str, Any]]:
    return json.loads((RESULTS / f'{name}.json').read_text())['results']
