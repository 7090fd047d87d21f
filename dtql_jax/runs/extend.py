"""A run that is resumed and asked for more: more updates, other evaluations.

What it has trained already must be what a run would have trained that was asked for it from the
start. So a change is allowed where it changes none of the agent's programs, as jax lowers them: an
agent whose learning rate decays over `steps` has another program for other `steps`. This needs no
word of an agent and holds for any. A run that has come to its end may so be asked to go on in the
environment: `online_steps` changes no program. Once it is there, its `steps` stay.

Rows stay. The evaluation at the old end is one of the run, also where the new run would have none
at that step: its row remains, and `best` is the best of all evaluations with a row. All other
arrays end with the bits of a run that was asked for the new settings from the start.

`config.json` is replaced as a whole, and its `extended` tells each change: the update that was
reached (of the newest checkpoint), what was changed, as `[then, now]`, and the seal of the file
before. The checkpoints that repeat the file as it was then are known by that seal (`read_run`). So
there is one moment at which the run is another one, and whenever the process ends, the folder holds
either request whole.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from dtql_jax.agents.base import Agent
from dtql_jax.data.columns import one_row
from dtql_jax.runs.config_file import seal
from dtql_jax.runs.folder import check_same, write_config
from dtql_jax.runs.plan import Plan
from dtql_jax.tasks.task import recorded_fields
from dtql_jax.training import checkpoint
from dtql_jax.training.compilation import own_numbers
from dtql_jax.training.progress import CHECKPOINTS
from dtql_jax.types import Spec, UserError

# Of any agent, which a resume may be asked to change.
SETTINGS = ('steps', 'online_steps', 'eval_every')
CALL = 'callback'  # in the name of every such target
Changes = dict[str, list[Any]]  # [then, now] by name


def check_resume(plan: Plan, recorded: Mapping[str, Any], run_dir: pathlib.Path) -> None:
    """Raises UserError where a run cannot go on as a plan asks.

    Args:
        plan: what is asked for now.
        recorded: the run's `config.json`.
        run_dir: the run folder.
    """
    now, then = plan.identity(), recorded['identity']
    # A version without one of the settings did as it says by default.
    config = {**dataclasses.asdict(plan.agent.config_class()), **then['config']}
    then = {**then, 'config': config, 'task': recorded_fields(then['task'])}
    kept = {name: then['config'][name] for name in SETTINGS}
    same = {'config': {**now['config'], **kept}, 'eval_episodes': then['eval_episodes']}
    check_same({**now, **same}, then, run_dir)
    changed = changes(plan, recorded)
    if not changed.keys() & set(SETTINGS):
        return
    before, after = (
        plan.agent(Spec(**recorded['spec']), plan.agent.config_class(**config))
        for config in (then['config'], now['config'])
    )
    _check_end(before, after, reached(run_dir), run_dir)
    different = different_programs(before, after)
    if different or _before_the_last(before) != _before_the_last(after):
        names = ', '.join(f'`{name}`={changed[name][1]}' for name in SETTINGS if name in changed)
        raise UserError(
            f'{run_dir} cannot be resumed with {names}: the updates of {then["agent"]} depend on '
            f'it ({", ".join(different)}), like a learning rate that decays over `steps`, so those '
            'made so far would have been others. Leave it out, or start a new run in another '
            'folder with `out`'
        )


def changes(plan: Plan, recorded: Mapping[str, Any]) -> Changes:
    """What a plan asks for otherwise than the run has it, of what a resume may change."""
    now, then = ({**found['config'], **found} for found in (plan.identity(), recorded['identity']))
    names = (*SETTINGS, 'eval_episodes')
    return {name: [then[name], now[name]] for name in names if then[name] != now[name]}


def extend(
    plan: Plan, recorded: dict[str, Any], run_dir: pathlib.Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Records what a plan changes about the run, in one step; returns the run's `config.json`.

    The plan has passed `check_resume`, and this process holds the run folder's lock.
    """
    changed = changes(plan, recorded)
    if not changed:
        return recorded
    step = reached(run_dir)
    new = json.loads(json.dumps(recorded))
    for name, (_, now) in changed.items():
        if name in SETTINGS:
            new['identity']['config'][name] = new['request']['settings'][name] = now
        else:
            new['identity'][name] = new['request'][name] = now
    entry = {'step': step, 'changed': changed, 'sha256': seal(recorded)}
    new['extended'] = [*new.get('extended', []), entry]
    write_config(run_dir, new)
    texts = [f'{name} {then:,} -> {now:,}' for name, (then, now) in changed.items()]
    say(f'from update {step:,} on: {", ".join(texts)}')
    return new


def reached(run_dir: pathlib.Path) -> int:
    """The update of a run's newest checkpoint; 0 where it has none."""
    meta = checkpoint.read_meta(run_dir / CHECKPOINTS)
    return meta['step'] if meta else 0


def _check_end(before: Agent, after: Agent, step: int, run_dir: pathlib.Path) -> None:
    """Raises UserError where a run has made updates that it would not make any more."""
    then, end = (sum(phase.steps for phase in agent.phases()) for agent in (before, after))
    name = 'steps'
    if step > then:  # it is in the environment
        if end != then:
            raise UserError(
                f'`steps`={after.config.steps}: {run_dir} goes on in the environment since update '
                f'{then:,}: leave it out, and ask for more `online_steps`'
            )
        name, end = 'online_steps', end + after.config.online_steps
    if end < step:
        asked = getattr(after.config, name)
        raise UserError(
            f'`{name}`={asked}: {run_dir} has made {step:,} updates already, and would end after '
            f'{end:,}: ask for {asked + step - end:,} or more, or leave it out'
        )


def _before_the_last(agent: Agent) -> list[tuple[str, int]]:
    """Names and lengths of all phases, without the length of the last one, which may change."""
    phases = [(phase.name, phase.steps) for phase in agent.phases()]
    return [*phases[:-1], (phases[-1][0], 0)]


def different_programs(before: Agent, after: Agent) -> list[str]:
    """The programs of two agents that may compute different numbers, by name."""
    ours, theirs = programs(before), programs(after)
    return [
        name
        for name in ours | theirs
        # jax does not write down what a function of Python does that a program calls back.
        if ours.get(name) != theirs.get(name) or CALL in ours[name]
    ]


@own_numbers()
def programs(agent: Agent) -> dict[str, str]:
    """The programs of an agent, as jax hands them to the compiler; nothing is compiled.

    Equal texts compute equal numbers, unless they have a `CALL`.
    """
    row = one_row(agent.spec, agent.columns)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(agent.init, key)
    acting = jax.eval_shape(agent.acting, state)
    obs = jax.ShapeDtypeStruct(row.obs.shape[1:], row.obs.dtype)

    def text(function: Callable, *shapes: Any) -> str:
        return jax.jit(agent.precise(function)).lower(*shapes).as_text()

    found = {'the first state': text(agent.init, key)}
    for phase in agent.phases():
        batch = jax.tree.map(
            lambda x, b=phase.batch_size: jax.ShapeDtypeStruct((b, *x.shape[1:]), x.dtype), row
        )
        found[phase.name] = text(phase.update, state, batch)
        if phase.enter is not None:
            found[f'the start of {phase.name}'] = text(phase.enter, state)
    return {
        **found,
        'what acts': text(agent.acting, state),
        'the actions': text(agent.act, acting, obs, key),
    }
