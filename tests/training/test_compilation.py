"""How programs are compiled, and the folder of compiled programs."""

import functools
import pwd
import types

import jax
import numpy as np
import pytest

from dtql_jax.rollout.actor import Actor
from dtql_jax.training import compilation
from dtql_jax.training.compilation import (
    CACHE,
    compiler_settings,
    own_numbers,
    repeating,
    start_jax,
)
from dtql_jax.training.progress import fresh_progress, policies
from dtql_jax.types import UserError
from tests.helpers import toy
from tests.helpers.permissions import obeying_permissions

NAME = 'jax_compilation_cache_dir'


@pytest.fixture
def cache_dir():
    """jax's setting, put back at the end."""
    before = getattr(jax.config, NAME)
    yield
    jax.config.update(NAME, before)


@pytest.mark.usefixtures('cache_dir')
@pytest.mark.parametrize(
    ('asked', 'kept'), [(None, CACHE), ('~/elsewhere', '~/elsewhere'), ('gs://far/x', 'gs://far/x')]
)
def test_start_jax__leaves_a_folder_that_is_set(asked, kept, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    jax.config.update(NAME, asked)
    start_jax()
    assert getattr(jax.config, NAME) == kept.replace('~', str(tmp_path))
    assert not (tmp_path / '~').exists()


@pytest.mark.usefixtures('cache_dir')
@pytest.mark.parametrize('folder', ['{}/file/x', '/proc/none', '{}/locked/x', '{}/locked'])
def test_start_jax__a_folder_that_cannot_be_written_is_not_used(folder, tmp_path, caplog):
    (tmp_path / 'file').touch()
    (tmp_path / 'locked').mkdir(mode=0o500)
    jax.config.update(NAME, folder.format(tmp_path))
    with caplog.at_level('WARNING'), obeying_permissions():
        start_jax()
    assert getattr(jax.config, NAME) is None
    assert 'export JAX_COMPILATION_CACHE_DIR=' in caplog.text


@pytest.mark.usefixtures('cache_dir')
def test_start_jax__without_a_home_keeps_nothing(monkeypatch, caplog):
    monkeypatch.delenv('HOME')
    monkeypatch.setattr(pwd, 'getpwuid', lambda uid: raise_(KeyError(uid)))
    jax.config.update(NAME, None)
    with caplog.at_level('WARNING'):
        start_jax()
    assert getattr(jax.config, NAME) is None
    assert 'are not kept' in caplog.text


@pytest.mark.parametrize('error', [RuntimeError('no backend\n of that name'), AssertionError()])
def test_start_jax__a_platform_that_is_absent_is_one_line(error, monkeypatch):
    monkeypatch.setattr(jax, 'local_devices', lambda: raise_(error))
    with pytest.raises(UserError) as caught:
        start_jax()
    assert str(caught.value).startswith('jax cannot start on JAX_PLATFORMS=cpu (')
    assert 'unset JAX_PLATFORMS' in str(caught.value)
    assert '\n' not in str(caught.value)


USERS = {
    'jax_enable_x64': True,
    'jax_default_prng_impl': 'rbg',
    'jax_threefry_partitionable': False,
    'jax_numpy_dtype_promotion': 'strict',
    'jax_numpy_rank_promotion': 'raise',
    'jax_default_matmul_precision': 'bfloat16',
    'jax_disable_jit': True,
}


@pytest.fixture(params=USERS)
def of_the_user(request):
    """A setting of jax that a user changed."""
    before = getattr(jax.config, request.param)
    jax.config.update(request.param, USERS[request.param])
    yield request.param
    jax.config.update(request.param, before)


def test_own_numbers__settings_of_the_user_change_no_bit(of_the_user):
    with own_numbers():
        assert getattr(jax.config, of_the_user) != USERS[of_the_user]
    assert getattr(jax.config, of_the_user) == USERS[of_the_user]
    changed = bits_of_a_run()
    jax.config.update(of_the_user, DEFAULTS[of_the_user])
    assert changed == bits_by_default()


DEFAULTS = {name: getattr(jax.config, name) for name in USERS}


@functools.cache
def bits_by_default():
    return bits_of_a_run()


def bits_of_a_run():
    """Every bit of a toy's states, sums and actions after some updates."""
    engine = toy.engine(toy.lanes(0, 1))
    progress = fresh_progress(engine)
    phase = engine.agent.phases()[1]
    state, sums, _ = engine.dispatch(phase, progress.state, progress.sums[phase.name], 2)
    actor = Actor(engine.agent.precise(engine.agent.act), 2)
    acting = actor.to_device(policies(engine.agent, state))
    action = actor(acting, [0, 1], [0, 1], [0, 0], [0, 0], np.ones((2, 3), np.float32))
    leaves = jax.tree.leaves((toy.bits((state, sums, progress.best_score)), action))
    return [(x.dtype, x.tobytes()) for x in leaves]


def test_compiler_settings__are_those_that_may_change_bits(monkeypatch):
    monkeypatch.setenv('XLA_FLAGS', ' --b=1  --a ')
    found = compiler_settings()
    found.pop('jax_disable_most_optimizations', None)
    assert found == {'XLA_FLAGS': '--a --b=1'}
    monkeypatch.delenv('XLA_FLAGS')
    assert 'XLA_FLAGS' not in compiler_settings()


def test_compile_for__an_option_that_the_compiler_does_not_know_is_left_out(monkeypatch):
    """As it may be in another version of jaxlib."""
    monkeypatch.setattr(compilation, 'COMPILER_OPTIONS', {'cpu': {'xla_cpu_no_such': 'x'}})
    engine = toy.engine(toy.lanes(0))
    *_, finite = engine.dispatch(*toy.start(engine), 2)
    assert jax.device_get(finite).all()
    monkeypatch.setattr(
        jax.stages.Lowered, 'compile', lambda *_: raise_(jax.errors.JaxRuntimeError('no memory'))
    )
    with pytest.raises(jax.errors.JaxRuntimeError, match='no memory'):
        engine.compile(engine.agent.phases()[1])


def test_repeating__options_are_those_of_a_gpu_if_asked():
    cpu, gpu, tpu, cuda = (types.SimpleNamespace(platform=p) for p in ('cpu', 'gpu', 'tpu', 'cuda'))
    for device in (cpu, gpu, tpu, cuda):
        assert repeating(device, False) == {}
    assert repeating(cpu, True) == repeating(tpu, True) == {}
    for device in (gpu, cuda):
        asked = repeating(device, True)
        assert asked == {'xla_gpu_deterministic_ops': True, 'xla_gpu_autotune_level': '0'}


def test_deterministic__its_options_reach_what_trains_and_acts(monkeypatch):
    """What changes no number stands for them here: a CPU has none."""
    options, given = {'xla_cpu_enable_fast_math': False}, []
    monkeypatch.setattr(compilation, 'DETERMINISTIC', {'cpu': options})
    compile_, jitted = jax.stages.Lowered.compile, jax.jit

    def compiled(self, asked=None):
        given.append(asked)
        return compile_(self, asked)

    def told(*args, compiler_options=None, **kwargs):
        given.append(compiler_options)
        return jitted(*args, compiler_options=compiler_options, **kwargs)

    monkeypatch.setattr(jax.stages.Lowered, 'compile', compiled)
    monkeypatch.setattr(jax, 'jit', told)
    engine = toy.engine(toy.lanes(0), deterministic=True)
    engine.compile(engine.agent.phases()[1])
    Actor(engine.agent.act, 1, engine.agent.config.deterministic)
    assert sum(options.items() <= (asked or {}).items() for asked in given) == 2


def raise_(error):
    raise error
