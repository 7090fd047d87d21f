"""Faults: each changes the folder, says so, and is the same for the same number."""

import json
import random
import shutil

import pytest

from tools.campaign import damage, faults


@pytest.fixture
def run(tmp_path):
    """The files of a run with two checkpoints, made up."""
    for number in ('7', '8'):
        for name in ('state/d/a', 'state/manifest', 'meta/metadata', '_CHECKPOINT'):
            path = tmp_path / 'run' / 'checkpoints' / number / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f'{number} {name}'.encode() * 9)
    for log in ('metrics', 'eval'):
        rows = [{'step': step, 'x': 0.25, 'log': log} for step in range(5)]
        text = ''.join(json.dumps(row) + '\n' for row in rows)
        (tmp_path / 'run' / f'{log}.jsonl').write_text(text)
    config = {
        'format': 2,
        'identity': {'seed': 1, 'lanes': [{'lr': 0.5}]},
        'versions': {'jax': '1'},
    }
    (tmp_path / 'run' / 'config.json').write_text(json.dumps(config))
    (tmp_path / 'run' / 'wandb_id').write_text('some id')
    return tmp_path / 'run'


def tree(folder):
    """The names in a folder and the digests of its files."""
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob('*'))
    return names, faults.digests(folder)


@pytest.mark.parametrize('fault', damage.FAULTS)
def test_fault__changes_the_folder_and_is_repeatable(fault, run, tmp_path):
    for seed in range(6):
        told = []
        for copy in (tmp_path / 'one', tmp_path / 'two'):
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(run, copy)
            told.append((fault(random.Random(seed), copy), tree(copy)))
        assert told[0] == told[1]
        # A file may be swapped with itself.
        assert told[0][1] != tree(run) or 'swapped' in told[0][0]


def test_field__leaves_versions_alone(run):
    before = json.loads((run / 'config.json').read_text())
    for seed in range(30):
        damage.field(random.Random(seed), run)
        assert json.loads((run / 'config.json').read_text())['versions'] == before['versions']
        (run / 'config.json').write_text(json.dumps(before))


def test_lost_files__finds_a_planted_loss(run):
    before = faults.digests(run)
    assert faults.lost_files(before, faults.digests(run)) == []
    (run / 'new').write_text('a new file is no loss')
    (run / 'eval.jsonl').write_text('')
    (run / 'checkpoints' / '7' / 'state' / 'd' / 'a').unlink()
    assert faults.lost_files(before, faults.digests(run)) == [
        'checkpoints/7/state/d/a',
        'eval.jsonl',
    ]
