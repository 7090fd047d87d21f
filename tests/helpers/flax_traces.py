"""Golden traces of seohongpark/fql: formula weights, gradients and summaries in its layout.

A critic's tensor has both members in front, `[2, in, out]`; kernels are `[in, out]`, as here.
"""

import dataclasses
import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtql_jax.agents.base import Agent, State
from dtql_jax.types import Transition
from tests.helpers.golden_weights import blank


def places(tree: dict, module: str) -> dict[str, list[tuple[str, ...]]]:
    """The released name of each tensor of a network, sorted, and where it is in ours."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for keys, _ in jax.tree_util.tree_flatten_with_path(tree)[0]:
        path = tuple(key.key for key in keys)
        layer, leaf = path[-2:]
        where = f'{module}/{layer.replace("XavierDense", "Dense")}'
        name = f'{"mean_net" if layer == "SmallDense_0" else where}/{leaf}'
        found.setdefault(name, []).append(path)
    return dict(sorted(found.items()))


def tensor(tree: dict, paths: list[tuple[str, ...]]) -> np.ndarray:
    """A tensor in the released layout, as float64."""
    parts = [np.asarray(functools.reduce(operator.getitem, path, tree)) for path in paths]
    return np.float64(parts[0] if len(parts) == 1 else np.stack(parts))


def filled(tree: dict, module: str, j: int) -> dict:
    """Network number `j` with the weights of the formula."""
    values = {}
    for k, (name, paths) in enumerate(places(tree, module).items()):
        shape = tensor(tree, paths).shape
        m = np.arange(np.prod(shape))
        s = np.float32(np.sin(1.7 * m + 0.01 * m**2 + 0.3 * k + 0.9 * j)).reshape(shape)
        if name.endswith('kernel'):
            s *= np.float32(2 / np.sqrt(shape[-2]))
        else:
            s *= np.float32(0.1)
        s += np.float32(name.endswith('scale'))
        values |= dict(zip(paths, s if len(paths) > 1 else [s], strict=True))
    return jax.tree_util.tree_map_with_path(
        lambda keys, _: jnp.asarray(values[tuple(key.key for key in keys)]), tree
    )


@dataclasses.dataclass(frozen=True)
class Trace:
    """A file of traces. `nets` are ours by name: the released name and module, in their order."""

    file: np.lib.npyio.NpzFile
    nets: dict[str, tuple[str, str]]

    def __call__(self, case: str, key: str) -> np.ndarray:
        return self.file[f'{case}/{key}']

    def meta(self, case: str, **names: str) -> dict:
        """Settings by our names."""
        return {ours: self(case, f'meta/{theirs}').item() for ours, theirs in names.items()}

    def steps(self, case: str) -> range:
        return range(int(self(case, 'meta/dims')[3]))

    def start(self, agent: Agent) -> State:
        state = blank(agent)
        params = {
            name: filled(state.params[name], module, j)
            for j, (name, (_, module)) in enumerate(self.nets.items())
        }
        target = jax.tree.map(jnp.copy, {name: params[name] for name in agent.targets})
        return state.replace(params=params, target=target)

    def batch(self, case: str, i: int) -> Transition:
        columns = {k: self(case, f'batch{i}/{k}') for k in ('obs', 'action', 'next_obs')}
        told = self.file.get(f'{case}/batch{i}/next_action')
        return Transition(
            **columns,
            reward=self(case, f'batch{i}/reward')[:, 0],
            mask=self(case, f'batch{i}/not_done')[:, 0],
            extra={} if told is None else {'next_row_action': told},
        )

    def losses(self, case: str, i: int) -> dict[str, np.ndarray]:
        """What the released update returned, without the gradient's numbers."""
        prefixes = tuple(f'{case}/step{i}/{part}/' for part in ('critic', 'actor'))
        return {
            key.removeprefix(f'{case}/step{i}/'): self.file[key]
            for key in self.file
            if key.startswith(prefixes)
        }

    def check_gradient(self, case: str, i: int, gradients: dict) -> None:
        """Against the sum of the tensors' norms, the largest and the smallest entry of all."""
        tensors = [
            tensor(gradients[name], paths)
            for name, (_, module) in self.nets.items()
            for paths in places(gradients[name], module).values()
        ]
        ours = {
            'norm': sum(np.linalg.norm(x) for x in tensors),
            'max': max(0, *(x.max() for x in tensors)),  # the targets have zeros
            'min': min(0, *(x.min() for x in tensors)),
        }
        for name, value in ours.items():
            close(value, self(case, f'step{i}/grad/{name}'), f'{case} step {i} grad/{name}')

    def check_parameters(self, case: str, i: int, state: State) -> None:
        """Every tensor's sum, norm, first four and last two entries; none may be left out."""
        trees = {theirs: (state.params[k], module) for k, (theirs, module) in self.nets.items()}
        for name, tree in state.target.items():
            theirs, module = self.nets[name]
            trees[f'target_{theirs}'] = (tree, module)
        prefix, seen = f'{case}/step{i}/params/', set()
        for net, (tree, module) in trees.items():
            for name, paths in places(tree, module).items():
                key = f'{prefix}{net}/{name}'
                total, norm, *entries = self.file[key]
                flat = tensor(tree, paths).ravel()
                ours = [*flat[:4], *flat[-2:]]
                np.testing.assert_allclose(flat.sum(), total, atol=1e-4, rtol=0, err_msg=key)
                np.testing.assert_allclose(np.linalg.norm(flat), norm, rtol=2e-6, err_msg=key)
                np.testing.assert_allclose(ours, entries, atol=5e-7, rtol=0, err_msg=key)
                seen.add(key)
        assert seen == {key for key in self.file if key.startswith(prefix)}


def close(ours: object, theirs: np.ndarray, label: str) -> None:
    """A loss, or a number of the gradient."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5, err_msg=label)


def keeping_gradients(agent: type[Agent]) -> type[Agent]:
    """The agent with the last gradient of each network beside its optimiser's state."""

    def optimiser(self: Agent, name: str) -> optax.GradientTransformation:
        adam = agent.optimiser(self, name)

        def update(gradient, state, params=None):
            direction, moments = adam.update(gradient, state[0], params)
            return direction, (moments, gradient)

        return optax.GradientTransformation(
            lambda params: (adam.init(params), jax.tree.map(jnp.zeros_like, params)), update
        )

    return type('KeepingGradients', (agent,), {'optimiser': optimiser})


def gradients(state: State) -> dict:
    """Of the last update of an agent of `keeping_gradients`, by network."""
    return {name: opt[1] for name, opt in state.opt.items()}
