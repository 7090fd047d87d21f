"""Exports a trained policy for programs without this package: `export`."""

import json
import pathlib
from typing import Any, Literal, get_args

import jax
import numpy as np

from dtql_jax.runs.export import formats
from dtql_jax.runs.export.card import model_card
from dtql_jax.runs.export.graph import Constants, Graph, input_names, make_graph
from dtql_jax.runs.export.noise import Policy
from dtql_jax.runs.folder import make_folder
from dtql_jax.runs.policy import Run, Which, acting_of
from dtql_jax.training.compilation import own_numbers
from dtql_jax.types import UserError, lasting_path, machine_told

Format = Literal['stablehlo', 'onnx', 'numpy']


@machine_told()
def export(
    run_dir: str | pathlib.Path,
    out: str | pathlib.Path,
    format: Format = 'stablehlo',
    seed: int | None = None,
    which: Which = 'last',
    variant: str | None = None,
) -> pathlib.Path:
    """Writes the policy of one seed of a run for programs without this package.

    Args:
        run_dir: the folder of the run, finished or stopped.
        out: the folder to write. It must not exist.
        format: 'stablehlo' for jax, 'onnx', or 'numpy' for a program that needs NumPy alone.
        seed: the seed; the first one without.
        which: 'last' for the policy of the last update, 'best' for that of the best evaluation.
        variant: the label of the lanes: a variant of the run, or 'clone'; the first without.

    Returns:
        The folder: the policy with noise as an input, the policy without chance, `config.json`
        which describes both, and a model card, `README.md`.

    Raises:
        UserError: there is no such run, seed, variant or evaluation, the folder exists or cannot be
            written, a package is missing, or the agent uses an operation that the format lacks.
    """
    if format not in get_args(Format):
        raise UserError(f"`format`={format!r}: use 'stablehlo', 'onnx' or 'numpy'")
    folder = lasting_path('out', out)
    if folder.exists():
        raise UserError(
            f'{folder} exists and is never overwritten: choose another folder with `out`'
        )
    run = Run(run_dir)
    lane = run.lane(seed, variant)
    with own_numbers():
        policy, files, config = exported(run, lane, which, format)
    files['README.md'] = model_card(run, lane, which, format, config, policy.draws).encode()
    files['config.json'] = (json.dumps(config) + '\n').encode()
    make_folder(folder, files)
    return folder


def exported(
    run: Run, lane: int, which: Which, kind: Format
) -> tuple[Policy, dict[str, bytes], dict[str, Any]]:
    """The policy of a lane with noise as an argument, the files of a format, their description."""
    acting = jax.tree.map(lambda x: x[0], acting_of(run, lane, which))
    precise, spec = run.agent.precise(run.agent.behave), run.agent.spec

    def act(obs: jax.Array, key: jax.Array) -> jax.Array:
        return precise(acting, obs, key)

    policy = Policy(act, spec.obs_dim)
    names = input_names(policy.draws)
    config = {
        'format': kind,
        'task': run.task.name,
        'agent': run.description['request']['agent'],
        'variant': run.lanes[lane].variant,
        'seed': run.lanes[lane].seed,
        'which': which,
        'step': run.step(lane, which),
        'observation': [spec.obs_dim],
        'action': [spec.action_dim],
        'action_low': list(spec.box[0]),
        'action_high': list(spec.box[1]),
        'horizon_length': spec.horizon_length,
        'noise': [
            {'name': name, 'kind': draw.kind, 'shape': list(draw.shape)}
            for name, draw in zip(names, policy.draws, strict=True)
        ],
    }
    if kind == 'stablehlo':
        return policy, formats.stablehlo(act, policy), config
    graphs = both_graphs(policy)
    if kind == 'onnx':
        return policy, formats.onnx(graphs), config
    return policy, formats.numpy(graphs), config | {'graphs': formats.described(graphs)}


def both_graphs(policy: Policy) -> dict[str, Graph]:
    """The graph of a policy that takes noise, and of the one without chance."""
    obs, constants = np.zeros(policy.obs_dim, np.float32), Constants()
    return {
        name: make_graph(policy.act, obs, policy.draws, policy.median(), fixed, constants)
        for name, fixed in (('policy', False), ('deterministic', True))
    }
