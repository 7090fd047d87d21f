"""The settings of networks: depth, width, activation and normalisation.

`golden/shapes.json` has the shapes of all parameters, for 17 observation and 6 action dims. It was
recorded when these sizes were not settings yet.
"""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import pytest

from dtql_jax.agents.registry import AGENTS
from dtql_jax.types import Spec

SHAPES = json.loads((pathlib.Path(__file__).parents[1] / 'golden' / 'shapes.json').read_text())
SPEC = Spec(17, 6)
ENDINGS = ('hidden', '_layers', '_blocks', '_activation', '_layer_norm', 'value_norm')
OTHER = {'hidden': 24, '_layers': 5, '_blocks': 2, '_activation': 'elu'}
CASES = [
    (agent, field.name)
    for agent in AGENTS
    for field in dataclasses.fields(AGENTS[agent].agent.config_class)
    if field.name.endswith(ENDINGS)
]
# What each setting changes; `hidden` changes all networks.
CHANGED = {
    'actor': {'actor'},
    'mu': {'mu'},
    'flow': {'flow'},
    'policy': {'pi'},
    'critic': {'critic', 'q', 'v'},
    'q': {'critic'},
    'v': {'critic'},
    'value': {'v'},
}


def make(name, **settings):
    cls = AGENTS[name].agent
    return cls(SPEC, cls.config_class(**settings))


@functools.cache
def traced(module, *inputs):
    """The shapes of a network's parameters, and its program as text."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return str(shapes), str(jax.make_jaxpr(module.apply)(shapes, *inputs))


def described(agent):
    """What each network traces to; equal modules are traced once."""
    return {
        name: traced(module, *(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs))
        for name, (module, inputs) in agent.networks().items()
    }


@pytest.mark.parametrize('name', AGENTS)
def test_networks__have_the_shapes_of_the_released_codes_by_default(name):
    state = jax.eval_shape(make(name).init, jax.random.key(0))
    paths, _ = jax.tree_util.tree_flatten_with_path(state.params)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator='/'): list(x.shape) for path, x in paths
    }
    assert shapes == SHAPES[name]


@pytest.mark.parametrize(('name', 'setting'), CASES)
def test_networks__change_with_each_setting_where_they_should_and_nowhere_else(name, setting):
    default = make(name)
    value = getattr(default.config, setting)
    other = (
        not value
        if isinstance(value, bool)
        else next(v for ending, v in OTHER.items() if setting.endswith(ending))
    )
    before, after = described(default), described(make(name, **{setting: other}))
    changed = {network for network in before if before[network] != after[network]}
    if setting == 'hidden':
        assert changed == set(before)
    else:
        expected = CHANGED[setting.split('_')[0]] & set(before)
        if name == 'dql_kl' and expected == {'mu'}:
            expected |= {'pi', 'fake'}  # they have mu's architecture
        assert changed == expected


def test_networks__every_agent_has_settings_for_all_of_them():
    for name in set(AGENTS) - {'dql_kl'}:  # its pi and fake have mu's settings
        settings = {setting for agent, setting in CASES if agent == name}
        assert 'hidden' in settings
        for network in make(name).networks():
            groups = {group for group, networks in CHANGED.items() if network in networks}
            assert any(
                f'{group}_{kind}' in settings for group in groups for kind in ('layers', 'blocks')
            ), (name, network)
            assert any(f'{group}_activation' in settings for group in groups), (name, network)


@pytest.mark.parametrize('name', AGENTS)
def test_act__works_with_other_sizes(name):
    """Traced only; the contract runs the default sizes."""
    settings = {
        setting: next(v for ending, v in OTHER.items() if setting.endswith(ending))
        for agent, setting in CASES
        if agent == name and setting.endswith(tuple(OTHER))
    }
    agent = make(name, **settings)
    acting = jax.eval_shape(lambda key: agent.acting(agent.init(key)), jax.random.key(0))
    action = jax.eval_shape(agent.act, acting, jnp.zeros(17), jax.random.key(0))
    assert action.shape == (6,)
