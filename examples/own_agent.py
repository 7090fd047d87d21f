"""An agent of your own, in a file outside the package: advantage-weighted regression.

python examples/own_agent.py                        # trains, is stopped, resumes, is loaded
dtql train --agent=examples/own_agent.py:Mine       # the same agent on any task of the package

V(s) learns the mean return of the data; the policy repeats the data's actions, and more so those
that led to more than V(s). The agent asks for one column beside the usual five: the return-to-go.
It takes about 20 seconds.
"""

import dataclasses
import os
import pathlib
import signal
import tempfile
import threading
import time

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import dtql_jax
from dtql_jax import setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(dtql_jax.Config):
    """Settings: floats may differ between lanes of one program, all others are compiled in."""

    lr: float = setting(1e-3, 'learning rate of both networks')
    beta: float = setting(3.0, 'inverse temperature of the weights; 0 leaves a clone of the data')
    hidden: int = setting(64, 'width of the hidden layers', least=1)


class MLP(nn.Module):
    """Two hidden layers: `[B, O] -> [B, out]`."""

    hidden: int
    out: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        x = nn.tanh(nn.Dense(self.hidden)(obs))
        return nn.Dense(self.out)(nn.tanh(nn.Dense(self.hidden)(x)))


class Mine(dtql_jax.Agent):
    """V by regression on the return-to-go, the policy by weighted regression on the action."""

    config_class = Config
    columns = ('return_to_go',)
    clone = {'beta': 0.0}  # noqa: RUF012

    @property
    def pi(self) -> MLP:
        return MLP(self.config.hidden, self.spec.action_dim)

    @property
    def v(self) -> MLP:
        return MLP(self.config.hidden, 1)

    def networks(self):
        obs, _ = self.examples
        return {'v': (self.v, (obs,)), 'pi': (self.pi, (obs,))}

    def phases(self):
        return (dtql_jax.Phase('train', self.train, self.config.steps, self.config.batch_size),)

    def train(self, state, batch):
        lr = state.hparams['lr']
        state, v_metrics = self.descend(state, 'v', lr, self.v_loss, batch)
        state, pi_metrics = self.descend(state, 'pi', lr, self.pi_loss, batch)
        return state.replace(step=state.step + 1), {**v_metrics, **pi_metrics}

    def advantage(self, state, batch):
        """`G - V(s)`, `[B]`."""
        value = self.v.apply({'params': state.params['v']}, batch.obs)[:, 0]
        return batch.extra['return_to_go'] - value

    def v_loss(self, state, batch):
        """L = E (G - V(s))^2."""
        loss = (self.advantage(state, batch) ** 2).mean()
        return loss, {'v/loss': loss}

    def pi_loss(self, state, batch):
        """L = E w |a - pi(s)|^2 with w = exp(beta A / std A), at most 20."""
        advantage = self.advantage(state, batch)
        advantage = advantage / (advantage.std() + 1e-6)
        weight = jnp.minimum(jnp.exp(state.hparams['beta'] * advantage), 20.0)
        error = batch.action - self.act({'pi': state.params['pi']}, batch.obs, None)
        loss = (weight * (error**2).sum(-1)).mean()
        return loss, {'pi/loss': loss, 'pi/weight': weight.mean()}

    def acting(self, state):
        return {'pi': state.params['pi']}

    def act(self, acting, obs, key):
        return self.spec.max_action * nn.tanh(self.pi.apply({'params': acting['pi']}, obs))


dtql_jax.register_agent('mine', Mine)  # the name for `agent=`; a third argument: rows per task


def interrupt_after_evaluation(run_dir: pathlib.Path) -> None:
    """Sends the process Ctrl-C after the first evaluation."""
    log = run_dir / 'eval.jsonl'
    while not (log.exists() and log.stat().st_size):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)


def main() -> None:
    from own_data import SMALL, TASK, swings  # a task of one's own and its data

    dtql_jax.register_task(TASK)
    request = {'env': TASK.name, 'agent': 'mine', 'clone_seeds': 2, 'num_seeds': 2, **SMALL}
    with tempfile.TemporaryDirectory() as folder:
        run_dir = pathlib.Path(folder, 'run')
        threading.Thread(target=interrupt_after_evaluation, args=(run_dir,), daemon=True).start()
        try:
            dtql_jax.run(request, data=swings(), out=run_dir)
        except dtql_jax.Interrupted as stopped:
            print(f'{stopped}\n')
        result = dtql_jax.run({}, data=swings(), out=run_dir, resume=True)
        policy = dtql_jax.load_policy(run_dir, seed=1, which='best')
        print('scores:', result.scores('mine'), 'clone:', result.scores('clone'))
        print('torque when it hangs still:', policy(np.array([-1.0, 0.0, 0.0])))


if __name__ == '__main__':
    main()
