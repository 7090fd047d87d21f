"""Settings and rows of a run that somebody edits."""

import functools
import json

from tools.campaign import victim
from tools.campaign.accidents import Outcome, Place, accident, check, expect
from tools.campaign.accidents.folders import half_run
from tools.campaign.processes import Ended


def edited(place: Place, then: str, **changes) -> Ended:
    """A stopped run whose config.json was edited, resumed or evaluated."""
    run = half_run(place)
    config = json.loads((run / 'config.json').read_text())
    for name, value in changes.items():
        *path, last = name.split('__')
        functools.reduce(lambda tree, key: tree[key], path, config)[last] = value
    (run / 'config.json').write_text(json.dumps(config))
    if then == 'evaluate':
        return place.dtql('evaluate', '--run=run', '--episodes=1')
    return place.dtql('train', '--out=run', '--resume')


@accident
def edited_score_range(place: Place) -> Outcome:
    """Another score range in config.json, then an evaluation."""
    ended = edited(place, 'evaluate', identity__task__score_range=[0, 1])
    return expect(ended, 'refused', 'config.json')


@accident
def edited_seed(place: Place) -> Outcome:
    """Another seed in all places of config.json, then a resume."""
    lanes = [{'variant': 'Line', 'seed': seed, 'hparams': {}} for seed in (7, 8)]
    ended = edited(place, 'resume', request__seed=7, identity__lanes=lanes)
    return expect(ended, 'refused', 'config.json')


@accident
def edited_discount(place: Place) -> Outcome:
    """Another discount in config.json, then a resume."""
    ended = edited(place, 'resume', identity__config__discount=0.5)
    return expect(ended, 'refused', 'config.json')


@accident
def edited_spec(place: Place) -> Outcome:
    """Another action bound in config.json, then an evaluation."""
    return expect(edited(place, 'evaluate', spec__max_action=2.0), 'refused', 'config.json')


@accident
def config_without_fields(place: Place) -> Outcome:
    """config.json is valid JSON with the right format and nothing else."""
    run = half_run(place)
    (run / 'config.json').write_text('{"format": 2}')
    ended = place.dtql('train', '--out=run', '--resume')
    return check(expect(ended, 'refused', 'config.json'), refuses_evaluation(place))


@accident
def config_is_a_folder(place: Place) -> Outcome:
    """A folder of the name config.json."""
    run = half_run(place)
    (run / 'config.json').unlink()
    (run / 'config.json').mkdir()
    ended = place.dtql('train', '--out=run', '--resume')
    return check(expect(ended, 'refused', 'config.json'), refuses_evaluation(place))


def refuses_evaluation(place: Place) -> tuple[bool, str]:
    """Whether `dtql evaluate` refuses the run in one line too."""
    ended = place.dtql('evaluate', '--run=run', '--episodes=1')
    return ended.verdict == 'refused', f'evaluate: {ended.verdict} {ended.last[:80]}'


@accident
def changed_digit(place: Place) -> Outcome:
    """A digit of a logged number is changed, then a resume."""
    run = half_run(place)
    text = (run / 'metrics.jsonl').read_text()
    at = text.index('"pi/loss":') + len('"pi/loss":')
    digit = '5' if text[at] != '5' else '6'
    (run / 'metrics.jsonl').write_text(text[:at] + digit + text[at + 1 :])
    ended = place.dtql('train', '--out=run', *victim.FLAGS, '--resume')
    return expect(ended, 'refused', 'metrics.jsonl')
