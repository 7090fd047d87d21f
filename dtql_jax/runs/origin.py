"""A run that starts from the networks of another one: `init_from`.

Each lane takes the parameters and targets of the other run's last checkpoint, of all networks or of
those in `Agent.inherited`: from the lane of its seed and its variant or, where the other run has no
such variant, of its only one that is no clone. Optimisers, the count of updates and random numbers
are those of a new run. The other run is only read. Its folder, its update and the digest of its
arrays are part of what the new run is, and the first checkpoint of the new run holds the networks,
so that a resume does not need the other.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dtql_jax.runs.folder import read_run
from dtql_jax.runs.plan import CLONE, Plan, label
from dtql_jax.runs.policy import Run
from dtql_jax.training import checkpoint
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, UserError

Networks = dict[str, Any]  # `params` and `target` of all lanes `[S, ...]`, in host memory


def check_origin(plan: Plan) -> None:
    """Raises UserError where the run of `init_from` can be no origin, as its settings show."""
    path = pathlib.Path(plan.request.init_from or '')
    identity = read_run(path)['identity']
    ours = label(plan.request.agent)
    if identity['agent'] != ours:
        raise UserError(
            f'`init_from`={path} is a run of {identity["agent"]}, and this one of {ours}: ask for '
            'the same `agent`, or for another run'
        )
    origin_lanes(plan, [Lane(**lane) for lane in identity['lanes']])


def origin_lanes(plan: Plan, theirs: Sequence[Lane]) -> list[int]:
    """The lane of the other run that each lane of a plan starts from, by index.

    Raises:
        UserError: there is no such lane, or it is not clear which.
    """
    where = f'`init_from`={plan.request.init_from}'
    by_name = {(lane.variant, lane.seed): i for i, lane in enumerate(theirs)}
    variants = list(dict.fromkeys(lane.variant for lane in theirs))
    usual = [variant for variant in variants if variant != CLONE]
    found = []
    for lane in plan.lanes:
        if lane.variant not in variants and len(usual) != 1:
            raise UserError(
                f'{where} has no variant {lane.variant!r}, and several others: '
                f'{", ".join(usual)}; call the lanes of this run like one of them (`variants`)'
            )
        variant = lane.variant if lane.variant in variants else usual[0]
        if (variant, lane.seed) not in by_name:
            seeds = ', '.join(str(seed) for name, seed in by_name if name == variant)
            raise UserError(
                f'{where} has no seed {lane.seed} of {variant}; there are: {seeds}. Ask for these '
                'with `seed` and `num_seeds`'
            )
        found.append(by_name[variant, lane.seed])
    return found


def take_networks(plan: Plan, engine: Engine) -> tuple[Plan, Networks]:
    """The networks that the lanes of a plan start from, and the plan with their origin.

    The other run's checkpoint is checked by its digest. Nothing is compiled.

    Raises:
        UserError: the other run has none, a network has another shape, a lane diverged, or the plan
            knows its origin already and this is another one.
    """
    run = Run(plan.request.init_from or '')
    state, where = run.progress.state, f'`init_from`={run.run_dir}'
    ours, theirs = engine.agent.spec, run.agent.spec
    for name, what in (('obs_dim', 'observations'), ('action_dim', 'actions')):
        if (a := getattr(theirs, name)) != (b := getattr(ours, name)):
            raise UserError(
                f'{where} has {what} of size {a}, this run of size {b}: start from another run'
            )
    if dataclasses.replace(theirs, max_action=ours.max_action) != ours:
        raise UserError(
            f'{where} has other units: `normalize_obs` or the action box differ, and what its '
            'networks see with them; start from a run on the same data with the same settings'
        )
    names = engine.agent.inherited
    _check_shapes(_networks(state, names), _networks(engine.shapes, names), where)
    lanes = origin_lanes(plan, run.lanes)
    for lane in lanes:
        if reason := run.missing(lane, 'last'):
            raise UserError(f'{where}: {reason.partition(":")[0]}; start from another run')
    origin = {
        'run': str(run.run_dir),
        'step': run.cursor.step,
        'sha256': checkpoint.seal(run.progress, {})['arrays'],
    }
    if plan.origin is not None and dict(plan.origin) != origin:
        raise UserError(
            f'{where} has trained on since this run was made, which has no checkpoint yet: start a '
            'new one in another folder with `out`'
        )
    index = np.array(lanes)
    chosen = jax.tree.map(lambda x: np.asarray(jax.device_get(x))[index], _networks(state, names))
    return dataclasses.replace(plan, origin=origin), chosen


def _networks(state: Any, names: Sequence[str] | None) -> Networks:
    """The arrays of the networks `names`; of all where that is None."""
    fields = {'params': state.params, 'target': state.target}
    return {
        field: {name: tree for name, tree in trees.items() if names is None or name in names}
        for field, trees in fields.items()
    }


def _check_shapes(theirs: Mapping[str, Any], ours: Mapping[str, Any], where: str) -> None:
    """Raises UserError that names the first array that only one run has, or in another shape."""

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        flat = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {
            jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape[1:]
            for path, leaf in flat
        }

    then, now = shapes(theirs), shapes(ours)
    for name in [*now, *then]:
        if then.get(name) != now.get(name):
            a, b = (str(list(x[name])) if name in x else 'absent' for x in (then, now))
            raise UserError(
                f'{where} has other networks: {name} is {a} there and {b} here; give the settings '
                'of that run, such as `hidden`'
            )
