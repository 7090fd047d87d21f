"""Results of campaigns as Markdown tables, for docs/reliability.md."""

import json
import pathlib
from collections import Counter
from typing import Any

# The verdicts that are as promised. `without effect`: the fault was in something nobody reads.
GOOD = ('same', 'recovered', 'refused', 'told', 'without effect', 'as promised', 'skipped', 'none')


def good(record: dict[str, Any]) -> bool:
    """Whether a record is as promised."""
    return record['verdict'] in GOOD


def table(paths: list[pathlib.Path]) -> str:
    """Two tables of some results: the numbers of each kind, and accidents side by side."""
    results = [json.loads(path.read_text()) for path in paths]
    numbers = [['kind', 'revision', 'tried', 'verdicts', 'not as promised']]
    numbers += [_numbers(result) for result in sorted(results, key=lambda r: r['kind'])]
    accidents = [result for result in results if result['kind'] == 'accidents']
    return markdown(numbers) + ('\n\n' + _side_by_side(accidents) if accidents else '')


def _numbers(result: dict[str, Any]) -> list[str]:
    """The row of a kind's numbers."""
    counts: Counter = Counter(record['verdict'] for record in result['records'].values())
    bad = sum(count for verdict, count in counts.items() if verdict not in GOOD)
    told = ', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())
    tried = _tried(list(result['records'].values()))
    return [result['kind'], result['about']['revision'], tried, told, str(bad)]


def _side_by_side(results: list[dict[str, Any]]) -> str:
    """The table of accidents, a column for each revision."""
    rows = [['accident', *(result['about']['revision'] for result in results)]]
    for name in dict.fromkeys(name for result in results for name in result['records']):
        found = [result['records'].get(name) for result in results]
        what = next(record['what'] for record in found if record)
        rows.append([f'`{name}`: {what}'.replace('|', '\\|'), *map(_cell, found)])
    return markdown(rows)


def _tried(records: list[dict[str, Any]]) -> str:
    """What was tried, in numbers."""
    strikes = sum(len(record.get('strikes', ())) for record in records)
    if strikes:
        return f'{strikes} strikes in {len(records)} runs'
    if examples := sum(record.get('tried', 0) for record in records):
        return f'{examples:,} examples in {len(records)} batches'
    return str(len(records))


def _cell(record: dict[str, Any] | None) -> str:
    """An outcome in a cell."""
    if record is None:
        return 'not tried'
    text = ' '.join(record['text'].split()).replace('|', '\\|')
    text = text if len(text) <= 160 else text[:157] + '...'
    return (
        f'{"" if good(record) else "**"}{record["verdict"]}{"" if good(record) else "**"}: {text}'
    )


def markdown(rows: list[list[str]]) -> str:
    """Rows as a Markdown table, the first as its head."""
    lines = ['| ' + ' | '.join(row) + ' |' for row in rows]
    return '\n'.join([lines[0], '|' + '---|' * len(rows[0]), *lines[1:]])
