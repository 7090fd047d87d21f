"""The model card of an exported policy: what it is, what it was trained on, how it is used."""

from collections.abc import Mapping, Sequence
from typing import Any

from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.export.noise import Draw
from dtql_jax.runs.policy import Run
from dtql_jax.types import Spec

# What the data's publisher says, by the source of a task.
LICENCES = {'d4rl': "CC BY 4.0 unless otherwise noted, says D4RL's README"}
LOADING = {
    'stablehlo': """\
`policy.stablehlo` takes any number of observations, and two 32-bit words for each, from which its
noise derives. Equal words give equal actions. It needs `jax` and `flatbuffers`:

```python
import numpy as np
from jax import export

policy = export.deserialize(open('policy.stablehlo', 'rb').read()).call
words = np.random.default_rng(0).integers(2**32, size=(many, 2), dtype=np.uint32)
action = policy(obs, words)  # [many, {obs}], [many, 2] -> [many, {action}]

deterministic = export.deserialize(open('deterministic.stablehlo', 'rb').read()).call
action = deterministic(obs)
```""",
    'onnx': """\
`policy.onnx` takes one observation `obs` and the noise below, `deterministic.onnx` the observation
alone. With the package `onnxruntime`:

```python
import numpy as np
import onnxruntime

policy = onnxruntime.InferenceSession('policy.onnx')
draws = {{'normal': np.random.standard_normal, 'uniform': np.random.random}}
noise = {{
    x.name: draws[x.name.split('_')[0]](x.shape).astype(np.float32)
    for x in policy.get_inputs()[1:]
}}
(action,) = policy.run(None, {{'obs': obs, **noise}})  # [{obs}] -> [{action}]
```""",
    'numpy': """\
`policy.py` needs NumPy alone, and this folder's `config.json` and `weights.safetensors`:

```python
import numpy as np
from policy import Policy

policy = Policy()
action = policy(obs, np.random.default_rng(0))  # [{obs}] -> [{action}]
action = policy.deterministic(obs)
```""",
}


def model_card(
    run: Run, lane: int, which: Any, kind: str, config: Mapping[str, Any], draws: Sequence[Draw]
) -> str:
    """The text of a model card, in Markdown.

    Args:
        run: the run.
        lane: the index of the lane.
        which: 'last' or 'best'.
        kind: the format.
        config: the export's `config.json`.
        draws: the noise that the policy takes.
    """
    description, data = run.description, run.description['data']
    spec, versions = run.agent.spec, description['versions']
    chosen = ', the best of its evaluations' if which == 'best' else ''
    environment = f' (`{data["environment"]}`)' if data['environment'] else ''
    commit = description.get('commit') or 'unknown'  # older runs have none
    rows = {
        'task': f'{config["task"]}{environment}',
        'agent': f'`{config["agent"]}`, {config["variant"]} seed {config["seed"]}',
        'policy': f'of update {config["step"]:,}{chosen}',
        'observation': f'`[{spec.obs_dim}]` of float32, as the data have it'
        f'{"; the policy normalises it" if spec.obs_mean else ""}',
        'action': f'`[{spec.action_dim}]` of float32 in {_box(spec)}{_in_a_row(spec)}',
        'data': f'{" + ".join(data["datasets"])} (source: {data["source"]}), '
        f'{data["transitions"]:,} transitions in {data["episodes"]:,} episodes, '
        f'rewards: {data["reward_transform"]}, sha256 {data["fingerprint"]}',
        'licence of the data': LICENCES.get(data['source'], 'unknown'),
        "score of the data's policy": _number(data['score']),
        'trained with': f'dtql_jax {versions["dtql_jax"]} (commit {commit}), jax {versions["jax"]}',
    }
    parts = [
        f'# {config["agent"]} on {config["task"]}',
        f'A policy of offline reinforcement learning, in the format {kind}.',
        _table(('', ''), rows.items()),
        '## Scores',
        _scores(run, lane, config['step']),
        '## Use',
        LOADING[kind].format(obs=spec.obs_dim, action=spec.action_dim),
        '## Noise',
        _noise(draws),
        '## Train it again',
        f'```python\nimport dtql_jax\n\nrequest = {_request(run)}\ndtql_jax.run(request)\n```',
    ]
    return '\n\n'.join(parts) + '\n'


def _box(spec: Spec) -> str:
    """The range of the actions, in the units of the simulator or of the data."""
    if not spec.action_low:
        return f'±{spec.max_action:g}'
    return ', '.join(f'{low:g} to {high:g}' for low, high in zip(*spec.box, strict=True))


def _in_a_row(spec: Spec) -> str:
    """What a chunk of actions is; '' for one action."""
    h = spec.horizon_length
    if h == 1:
        return ''
    return f': {h} actions of {spec.action_dim // h} numbers, to play before the next observation'


def _table(head: Sequence[str], rows: Any) -> str:
    """A table in Markdown."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(map(str, line)) + ' |' for line in lines)


def _number(value: float | None) -> str:
    return 'unknown' if value is None else f'{value:.1f}'


def _scores(run: Run, lane: int, step: int) -> str:
    """The evaluations of the policy; training's own chose the best policy, so it favours it."""
    name, rows = run.lanes[lane], []
    for file, by in (('eval.jsonl', 'training'), ('reeval.jsonl', 'evaluated again')):
        path = run.run_dir / file
        for row in read_jsonl(path) if path.exists() else []:
            same = (row['variant'], row['seed'], row['step']) == (name.variant, name.seed, step)
            if same and 'eval/score' in row:
                episodes, mean = len(row.get('episode/return', [])), row['eval/return']
                rows.append((by, episodes, _number(row['eval/score']), f'{mean:.4g}'))
    if not rows:
        return 'This policy was not evaluated.'
    note = "Training's evaluations choose the best policy, so their score of it is optimistic."
    return _table(('evaluation', 'episodes', 'score', 'mean return'), rows) + f'\n\n{note}'


def _noise(draws: Sequence[Draw]) -> str:
    """What the policy draws, and what the deterministic one does instead."""
    if not draws:
        return 'This policy draws no noise: both variants are the same function.'
    kinds = {'normal': 'standard normal', 'uniform': 'uniform in [0, 1)'}
    rows = [(f'`{d.kind}_{i}`', list(d.shape), kinds[d.kind]) for i, d in enumerate(draws)]
    return (
        'One action takes this noise. In the deterministic variant each number is its median: 0 '
        f'or 0.5.\n\n{_table(("input", "shape", "distribution"), rows)}'
    )


def _request(run: Run) -> str:
    """What the user asked for as a Python dict, without the fields that were left open."""
    asked = run.description['request'].items()
    rows = [f'    {k!r}: {v!r},\n' for k, v in asked if v not in (None, {}, [], ())]
    return f'{{\n{"".join(rows)}}}'
