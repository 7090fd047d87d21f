"""The public interface: `dtql_jax.__all__`."""

import inspect

import pytest

import dtql_jax
from tests.helpers.small_runs import process


def test_all__is_what_dir_shows():
    shown = dir(dtql_jax)
    assert [name for name in shown if not name.startswith('_')] == sorted(dtql_jax.__all__)
    assert {'__version__', '__all__', '__doc__'} <= set(shown)
    assert dtql_jax.__all__ == sorted(dtql_jax.__all__)
    assert set(dtql_jax._HOMES) == set(dtql_jax.__all__)


@pytest.mark.parametrize('name', dtql_jax.__all__)
def test_all__each_name_is_at_home_and_has_a_docstring(name):
    found = getattr(dtql_jax, name)
    assert found.__module__ == f'dtql_jax.{dtql_jax._HOMES[name]}'
    first, *rest = inspect.getdoc(found).splitlines()
    assert first.endswith('.')
    assert not rest or not rest[0]
    if inspect.isfunction(found):
        arguments = [x for x in inspect.signature(found).parameters.values() if x.name != 'self']
        text = '\n'.join(rest)
        assert len(arguments) == 1 or all(f'    {x.name}: ' in text for x in arguments)


def test_all__is_imported_at_first_use():
    """The simulators' worker processes do without jax."""
    code = (
        'import sys, dtql_jax\n'
        'assert dir(dtql_jax) and dtql_jax.__version__\n'
        'assert dtql_jax.Task and dtql_jax.register_task and dtql_jax.UserError\n'
        'assert not {"jax", "flax", "matplotlib"} & set(sys.modules)\n'
        'from dtql_jax import *\n'
        'assert run and load_policy and Agent and "jax" in sys.modules'
    )
    result = process('-c', code)
    assert result.returncode == 0, result.stderr


def test_getattr__an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'dtql_jax' has no attribute 'runn'"):
        dtql_jax.runn  # noqa: B018
