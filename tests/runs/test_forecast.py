"""The description of a run before it starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.forecast import evaluation_steps, flops, matmul_rate, tree_bytes
from dtql_jax.types import Spec

pytestmark = pytest.mark.usefixtures('quick_compile')


def test_evaluation_steps__are_those_at_which_a_run_evaluates(trained):
    """At 2, 4 and the end; the console counts those that are still to come."""
    rows = read_jsonl(trained[0] / 'eval.jsonl')
    steps = sorted({row['step'] for row in rows})
    config = task_config('dtql', '', {'steps': 5, 'eval_every': 2, 'pretrain_steps': 0})
    assert evaluation_steps(AGENTS['dtql'].agent(Spec(4, 1, 3.0), config)) == steps == [2, 4, 5]


def test_evaluation_steps__count_the_updates_of_pretraining():
    config = task_config('dtql', '', {'steps': 5, 'eval_every': 5, 'pretrain_steps': 7})
    assert evaluation_steps(AGENTS['dtql'].agent(Spec(4, 1), config)) == [12]


def test_tree_bytes__counts_keys_as_their_words():
    tree = {'a': np.zeros((3, 2), np.float32), 'b': np.int8(0), 'key': jax.random.key(0)}
    assert tree_bytes(tree) == 24 + 1 + 8
    assert tree_bytes(jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))) == 24


def test_flops__are_those_of_a_product():
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    y = jax.ShapeDtypeStruct((16, 4), jnp.float32)
    assert flops(jnp.matmul, x, y) == 2 * 8 * 16 * 4


def test_matmul_rate__is_a_rate():
    assert 1e6 < matmul_rate(n=64, repeats=2) < 1e15
