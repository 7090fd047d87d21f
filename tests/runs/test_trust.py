"""The trust region of a trained run."""

import contextlib
import copy
import dataclasses
import io

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dtql_jax
from dtql_jax.cli import plot
from dtql_jax.report.console import Console
from dtql_jax.runs import trust
from dtql_jax.runs.policy import Run
from dtql_jax.types import UserError
from tests.helpers.run_files import assert_is_a_chart
from tests.helpers.small_runs import refused

pytestmark = pytest.mark.usefixtures('quick_compile')


@pytest.fixture(scope='module')
def run(cloned, quick_compile):
    return Run(cloned)


@pytest.fixture
def untouched(cloned, here):
    """The run's folder, where its data are found."""
    return cloned


def some_rows(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)), rng.uniform(-3, 3, (count, 1))


def test_trust_region__is_the_agents_loss_over_levels_and_draws(cloned, run):
    found = dtql_jax.trust_region(cloned, seed=1, levels=3, draws=2)
    obs, action = some_rows(5)
    u = jnp.array([1 / 6, 3 / 6, 5 / 6] * 2)
    noise = jax.random.normal(jax.random.key(trust.TRUST_TAG), (6, 1))
    mu = jax.tree.map(lambda x: x[1], run.progress.state.params['mu'])
    for i in (0, 4):
        many = (jnp.tile(jnp.float32(x[i]), (6, 1)) for x in (obs, action))
        expected = float(run.agent.denoising_loss(mu, *many, u, noise))
        assert found(obs[i], action[i]) == pytest.approx(expected, rel=1e-4)


def test_trust_region__of_many_is_that_of_each(run, monkeypatch):
    monkeypatch.setattr(trust, 'BLOCK', 4)
    found = trust.trust_of(run, 0)
    obs, action = some_rows(10)
    loss = found(obs, action)
    assert (loss.shape, loss.dtype) == ((10,), np.float32)
    np.testing.assert_array_equal(loss[[3, 9]], [found(obs[i], action[i]) for i in (3, 9)])
    assert found(obs[:0], action[:0]).shape == (0,)
    # The lanes have networks of their own.
    assert not np.isclose(trust.trust_of(run, 1)(obs, action), loss).any()


def test_trust_region__takes_the_units_of_the_user(run):
    obs, action = some_rows(10)
    plain = trust.trust_of(run, 0)
    spec = dataclasses.replace(
        plain.spec, obs_mean=(1, 2, 3, 4), obs_std=(1, 2, 1, 0.5), action_low=(0,), action_high=(9,)
    )
    own = dataclasses.replace(plain, spec=spec)
    theirs = trust.to_user(spec, obs, action)
    np.testing.assert_allclose(theirs[1], 4.5 + 4.5 * action / spec.max_action, rtol=1e-6)
    for back, x in zip(trust.to_agent(spec, *theirs), (obs, action), strict=True):
        np.testing.assert_allclose(back, x, atol=1e-5)
    np.testing.assert_allclose(own(*theirs), plain(obs, action), rtol=1e-3)


def test_call__names_shapes_that_do_not_fit(run):
    found = trust.trust_of(run, 0)
    for shapes in [((4,), (2,)), ((3, 4), (2, 1)), ((4,), (1, 1)), ((1, 1, 4), (1, 1, 1))]:
        with pytest.raises(UserError, match=r'takes \[4\] and \[1\], or \[B, 4\] and \[B, 1\]'):
            found(*map(np.zeros, shapes))


def test_threshold__is_a_quantile_of_the_losses_of_the_data(untouched):
    found = dtql_jax.trust_region(untouched)
    loss = found(*found.data())
    assert found.threshold(0.9) == pytest.approx(np.quantile(loss, 0.9))
    assert (loss > found.threshold()).mean() == pytest.approx(0.05, abs=1 / len(loss))
    with pytest.raises(UserError, match='`quantile`=95: give a share from 0 to 1'):
        found.threshold(95)


def test_threshold__of_other_actions(run):
    found = trust.trust_of(run, 0)
    obs, action = some_rows(40)
    assert found.threshold(1.0, obs, action) == found(obs, action).max()
    for given in [(obs, None), (None, action), (obs[:0], action[:0])]:
        with pytest.raises(UserError, match='`obs` and `action` belong together: give both'):
            found.threshold(0.5, *given)


def test_trust_region__needs_the_data_of_the_run(run, here):
    run = copy.copy(run)
    run.description = {**run.description, 'data': {'source': 'arrays', 'fingerprint': 'x'}}
    with pytest.raises(UserError, match='was trained on arrays: give their observations and'):
        trust.trust_of(run, 0).threshold()
    run.description['data']['source'] = 'minari'
    with pytest.raises(UserError, match=r'was trained on other data than .* has now: restore'):
        trust.trust_of(run, 0).threshold()


def test_trust_region__refuses_what_has_none(run, tmp_path):
    with pytest.raises(UserError, match='no run folder'):
        dtql_jax.trust_region(tmp_path / 'nowhere')
    with pytest.raises(UserError, match='`levels`=0: give at least 1'):
        trust.trust_of(run, 0, levels=0)
    other = copy.copy(run)
    other.agent = dtql_jax.Agent(run.agent.spec, dtql_jax.Config())
    with pytest.raises(UserError, match=r'has no diffusion policy .* use a run of dtql, dql_kl or'):
        trust.trust_of(other, 0)
    other = copy.copy(run)
    other.cursor = copy.copy(run.cursor)
    other.cursor.diverged = {'1': 3}
    with pytest.raises(UserError, match='seed 1 diverged at update 3, so it has no trust region'):
        trust.trust_of(other, 1)


def test_nearest__counts_each_dimension_in_its_deviation():
    obs = np.array([[0.0, 0.0, 7.0], [1.0, 0.0, 7.0], [0.0, 200.0, 7.0], [3.0, 300.0, 7.0]])
    assert trust.nearest(obs, 0, 3).tolist() == [0, 1, 2]


# The picture.


@pytest.fixture(scope='module')
def hopped(tmp_path_factory, quick_compile):
    """A run whose actions have three dimensions."""
    folder, rng = tmp_path_factory.mktemp('hopped'), np.random.default_rng(0)
    with h5py.File(folder / 'data.hdf5', 'w') as file:
        file['observations'] = rng.normal(size=(80, 11))
        file['actions'] = rng.uniform(-1, 1, (80, 3))
        file['rewards'] = rng.normal(size=80)
        file['terminals'] = np.arange(80) % 20 == 19
    dtql_jax.run(
        {
            'env': 'hopper-medium', 'agent': 'bc', 'num_seeds': 1, 'eval_episodes': 1,
            'dataset_path': str(folder / 'data.hdf5'), 'hidden': 8, 'batch_size': 8, 'steps': 2,
            'sampler_steps': 2, 'eval_every': 2, 'eval_envs': 1,
        },
        out=folder / 'run',
        console=Console(io.StringIO()),
    )  # fmt: skip
    return folder / 'run'


def test_plot__draws_the_trust_region_at_a_state(hopped, tmp_path):
    out, printed = tmp_path / 'trust.png', io.StringIO()
    flags = [f'--plot_trust={hopped}', '--state=7', '--dims=2,0', f'--out={out}']
    with contextlib.redirect_stdout(printed):
        assert plot.main(['dtql plot', *flags]) == 0
    assert printed.getvalue() == f'{out}\n'
    assert_is_a_chart(out)


def test_plot_trust__mistakes(hopped, capsys):
    mistakes = {
        '--state=80': '--state=80: the data have 80 rows, counted from 0',
        '--dims=0,3': '--dims=0,3: give two different dimensions of the action, which has 3',
        '--dims=1,1': '--dims=1,1: give two different dimensions',
        '--dims=0,x': '--dims=0,x: give two whole numbers',
        '--seed=5': f'{hopped} has no seed 5 of bc',
        '--runs=a': '--runs is not for the chart of a trust region: leave it out',
    }
    for flag, error in mistakes.items():
        assert refused(capsys, plot.main, f'--plot_trust={hopped}', flag).startswith(error)
    error = refused(capsys, plot.main, '--runs=a', '--state=1')
    assert error == '--state is not for the chart of runs: leave it out'
