"""The sealed `config.json`, read without the run's checkpoints."""

import json

import pytest

from dtql_jax.runs import config_file
from dtql_jax.runs.config_file import CONFIG, FORMAT, parse_config, read_config
from dtql_jax.types import UserError


def write(folder, description):
    (folder / CONFIG).write_text(json.dumps(description))


def test_read_config__gives_back_what_was_sealed_however_it_is_laid_out(tmp_path):
    description = {'format': FORMAT, 'identity': {'agent': 'dtql', 'config': {'lr': 1e-3}}}
    mixed = dict(reversed([*description.items(), ('sha256', config_file.seal(description))]))
    write(tmp_path, mixed)
    assert read_config(tmp_path) == description
    assert parse_config(tmp_path) == (description, True)


@pytest.mark.parametrize('change', [{'format': FORMAT, 'x': 2}, {'sha256': None}])
def test_read_config__refuses_an_edit(tmp_path, change):
    description = {'format': FORMAT, 'x': 1}
    write(tmp_path, {**description, 'sha256': config_file.seal(description), **change})
    assert parse_config(tmp_path)[1] is False
    with pytest.raises(UserError, match=r'config.json was edited or is damaged: restore the file'):
        read_config(tmp_path)


@pytest.mark.parametrize(('text', 'message'), [
    (None, 'is no run folder'),
    ('{', 'config.json is damaged: JSONDecodeError'),
    ('[]', 'config.json has format None'),
    ('{"format": 2}', 'config.json has format 2'),
])  # fmt: skip
def test_read_config__mistakes(tmp_path, text, message):
    if text is not None:
        (tmp_path / CONFIG).write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_config(tmp_path)
    assert '\n' not in str(error.value)
