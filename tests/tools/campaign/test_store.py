"""Results in a file that a later call goes on with."""

import json

import pytest

from tools.campaign.store import Store


def test_Store__goes_on_where_it_was(tmp_path):
    path = tmp_path / 'kills.json'
    Store(path, 'kills', {'seed': 1}).add('run 0', {'verdict': 'same'})
    again = Store(path, 'kills', {'seed': 1})
    assert list(again.records) == ['run 0']
    again.add('run 1', {'verdict': 'different'})
    assert Store(path, 'kills', {'seed': 1}).tally() == {'same': 1, 'different': 1}
    assert json.loads(path.read_text())['kind'] == 'kills'


def test_Store__refuses_results_of_something_else(tmp_path):
    path = tmp_path / 'kills.json'
    Store(path, 'kills', {'seed': 1}).add('run 0', {'verdict': 'same'})
    with pytest.raises(SystemExit, match='another --out'):
        Store(path, 'kills', {'seed': 2})


def test_Store__ends_in_time(tmp_path):
    assert Store(tmp_path / 'x.json', 'kills', {}).time_left
    assert not Store(tmp_path / 'x.json', 'kills', {}, minutes=0).time_left
