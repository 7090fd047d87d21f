"""Exported policies, read by programs without this package."""

import dataclasses
import importlib.util
import json
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dtql_jax
from dtql_jax.rollout.actor import EVAL_TAG
from dtql_jax.runs.export import write
from dtql_jax.runs.export.card import model_card
from dtql_jax.runs.export.numpy_policy import Policy
from dtql_jax.runs.folder import make_folder
from dtql_jax.runs.policy import Run
from dtql_jax.types import UserError
from tests.helpers.small_runs import FLAGS, make_run, process

pytestmark = pytest.mark.usefixtures('quick_compile', 'here')
SIZE, COUNT, SEED = 4, 6, 1
OBS = np.random.default_rng(0).normal(size=(COUNT, SIZE)).astype(np.float32)


def installed(*packages):
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f'not installed: {", ".join(absent)}')


def expected(run, which='best'):
    """What `load_policy` does on `OBS`, and the words of its keys."""
    policy = dtql_jax.load_policy(run, seed=SEED, which=which, batch=COUNT)
    root = jax.random.fold_in(jax.random.key(EVAL_TAG), SEED)
    keys = [jax.random.fold_in(jax.random.fold_in(root, i), 0) for i in range(COUNT)]
    return policy(OBS), np.stack([jax.random.key_data(key) for key in keys])


def elsewhere(code, folder, *inputs):
    """The actions of a program without this package, in the folder of an export."""
    program = (
        'import json, sys\nimport numpy as np\n'
        'inputs = [np.array(x, dtype) for x, dtype in json.loads(sys.stdin.read())]\n'
        f'{code}\n'
        "assert 'dtql_jax' not in sys.modules\n"
        'print(json.dumps([np.asarray(x).tolist() for x in (actions, fixed)]))'
    )
    given = json.dumps([(np.asarray(x).tolist(), str(np.asarray(x).dtype)) for x in inputs])
    path = {'PYTHONPATH': os.pathsep.join(filter(None, sys.path))}
    result = process('-B', '-c', program, input=given, cwd=folder, env=path)  # leaves no cache
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope='module')
def wanted(trained, quick_compile):
    """What `load_policy` does on `OBS`, its keys, its noise, and the actions without chance."""
    run = Run(trained[0])
    actions = dtql_jax.load_policy(trained[0], seed=SEED, which='best', batch=COUNT)(OBS)
    root = jax.random.fold_in(jax.random.key(EVAL_TAG), SEED)
    keys = [jax.random.fold_in(jax.random.fold_in(root, i), 0) for i in range(COUNT)]
    policy, _, _ = write.exported(run, run.lane(SEED), 'best', 'numpy')
    noise = jax.jit(jax.vmap(policy.draw))(jnp.stack(keys))
    fixed = jax.jit(jax.vmap(lambda obs: policy.act(obs, policy.median())))(OBS)
    return actions, np.stack([jax.random.key_data(key) for key in keys]), noise, fixed


def test_export__numpy(trained, wanted, here):
    actions, _, noise, fixed = wanted
    folder = dtql_jax.export(trained[0], 'policy', 'numpy', seed=SEED, which='best')
    code = (
        'from policy import Policy\n'
        'policy = Policy()\n'
        'obs, *noise = inputs\n'
        'actions = [policy.act(o, z) for o, *z in zip(obs, *noise)]\n'
        'fixed = [policy.deterministic(o) for o in obs]\n'
        "assert not {'jax', 'onnx', 'safetensors'} & set(sys.modules)"
    )
    found = elsewhere(code, folder, OBS, *noise)
    np.testing.assert_allclose(found[0], actions, atol=1e-5)
    np.testing.assert_allclose(found[1], fixed, atol=1e-5)
    assert {path.name for path in folder.iterdir()} == {
        'README.md', 'config.json', 'policy.py', 'weights.safetensors'
    }  # fmt: skip


@pytest.mark.slow
def test_export__numpy_of_dtql_beyond_the_paper(tmp_path_factory, here):
    given = [*FLAGS, '--normalise_q', '--v_layer_norm', '--policy_layer_norm']
    path = make_run(tmp_path_factory.getbasetemp(), 'beyond', *given)[0]
    actions, words = expected(path)
    run = Run(path)
    policy, _, _ = write.exported(run, run.lane(SEED), 'best', 'numpy')
    noise = jax.vmap(policy.draw)(jax.random.wrap_key_data(words))
    alone = Policy(dtql_jax.export(path, 'policy', 'numpy', seed=SEED, which='best'))
    found = [alone.act(obs, z) for obs, *z in zip(OBS, *map(np.asarray, noise), strict=True)]
    np.testing.assert_allclose(found, actions, atol=1e-5)


@installed('onnx', 'onnxruntime')
def test_export__onnx(trained, wanted, here):
    actions, _, noise, fixed = wanted
    folder = dtql_jax.export(trained[0], 'policy', 'onnx', seed=SEED, which='best')
    code = (
        'import onnxruntime\n'
        "policy, still = (onnxruntime.InferenceSession(f'{name}.onnx')\n"
        "                 for name in ('policy', 'deterministic'))\n"
        'names = [x.name for x in policy.get_inputs()]\n'
        'actions = [policy.run(None, dict(zip(names, z)))[0] for z in zip(*inputs)]\n'
        "fixed = [still.run(None, {'obs': obs})[0] for obs in inputs[0]]"
    )
    found = elsewhere(code, folder, OBS, *map(np.asarray, noise))
    np.testing.assert_allclose(found[0], actions, atol=1e-5)
    np.testing.assert_allclose(found[1], fixed, atol=1e-5)


@installed('flatbuffers')
def test_export__stablehlo(trained, wanted, here):
    actions, words, _, fixed = wanted
    folder = dtql_jax.export(trained[0], 'policy', seed=SEED, which='best')
    code = (
        'from jax import export\n'
        "policy, still = (export.deserialize(open(f'{name}.stablehlo', 'rb').read())\n"
        "                 for name in ('policy', 'deterministic'))\n"
        "assert policy.platforms == ('cpu', 'cuda', 'tpu')\n"
        'actions, fixed = policy.call(*inputs), still.call(inputs[0])'
    )
    found = elsewhere(code, folder, OBS, words)
    np.testing.assert_allclose(found[0], actions, atol=1e-5)
    np.testing.assert_allclose(found[1], fixed, atol=1e-5)


def test_exported__has_the_units_of_the_user(trained):
    run = Run(trained[0])
    agent = run.agent
    low, high = (2.0,), (10.0,)
    units = {'obs_mean': (1, 2, 3, 4), 'obs_std': (1, 2, 1, 0.5)}
    spec = dataclasses.replace(agent.spec, **units, action_low=low, action_high=high)
    run.agent = type(agent)(spec, agent.config)
    policy, _, config = write.exported(run, run.lane(SEED), 'last', 'numpy')
    run.agent = agent
    plain, _, _ = write.exported(run, run.lane(SEED), 'last', 'numpy')
    inner = (OBS - np.array(units['obs_mean'])) / np.array(units['obs_std'])
    still = policy.median()
    for obs, theirs in zip(OBS, inner.astype(np.float32), strict=True):
        share = plain.act(theirs, still) / spec.max_action
        np.testing.assert_allclose(policy.act(obs, still), 6 + 4 * share, rtol=1e-4)
    assert (config['action_low'], config['action_high']) == ([2.0], [10.0])
    run.agent = type(agent)(spec, agent.config)
    card = model_card(run, run.lane(SEED), 'last', 'numpy', config, policy.draws)
    assert 'of float32 in 2 to 10 |' in card
    assert 'as the data have it; the policy normalises it |' in card


def test_export__mistakes(trained, here, monkeypatch):
    with pytest.raises(UserError, match="`format`='pickle': use 'stablehlo', 'onnx' or 'numpy'"):
        dtql_jax.export(trained[0], 'policy', 'pickle')
    (here / 'policy').mkdir()
    with pytest.raises(UserError, match='policy exists and is never overwritten: choose another'):
        dtql_jax.export(trained[0], 'policy', 'numpy')
    with pytest.raises(UserError, match='has no seed 9'):
        dtql_jax.export(trained[0], 'new', 'numpy', seed=9)
    for kind, package in (('onnx', 'onnx'), ('stablehlo', 'flatbuffers')):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(UserError, match=f"needs .* {package} .*pip install '{package}'"):
                dtql_jax.export(trained[0], 'new', kind)
    assert not (here / 'new').exists()
    (here / 'file').write_text('')
    with pytest.raises(UserError, match=r'file/new cannot be made: .*choose another folder'):
        make_folder(here / 'file' / 'new', {})


def test_export__model_card(cloned, here):
    folder = dtql_jax.export(cloned, 'policy', 'numpy', which='best')
    card = (folder / 'README.md').read_text()
    for text in (
        '# bc on minari:test/pendulum-v0',
        '| agent | `bc`, bc seed 0 |',
        ', the best of its evaluations |',
        '| licence of the data | unknown |',
        '| training | 2 |',
        '| `normal_0` | [1, 1, 1] | standard normal |',
        "request = {\n    'env': 'minari:test/pendulum-v0',\n    'agent': 'bc',\n",
    ):
        assert text in card
    config = json.loads((folder / 'config.json').read_text())
    assert (config['agent'], config['seed'], config['which']) == ('bc', 0, 'best')
