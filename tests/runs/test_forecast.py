"""The description of a run before it starts."""

import jax
import numpy as np
import pytest

import dtql_jax
from dtql_jax.agents.registry import AGENTS, task_config
from dtql_jax.data.columns import one_row
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.forecast import (
    changes,
    check_memory,
    evaluation_steps,
    matmul_rate,
    tree_bytes,
)
from dtql_jax.training.engine import Engine
from dtql_jax.types import Lane, Spec, UserError
from tests.helpers.small_runs import ENV

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


def test_changes__names_what_may_change_the_bits_of_a_resumed_run():
    def description(jax='0.10', devices=('TFRT_CPU_0',), **compiler):
        return {'versions': {'jax': jax}, 'devices': list(devices), 'compiler': compiler}

    then = description()
    assert changes(then, description()) is None
    assert changes(then, description(devices=('TFRT_CPU_0', 'TFRT_CPU_1'))) is None
    text = 'its bits may differ from those of an undisturbed run; '
    assert changes(then, description('0.11')) == text + 'jax 0.10 then, 0.11 now'
    now = description(devices=('cuda:0',), XLA_FLAGS='--a')
    assert changes(then, now) == (
        text + 'devices TFRT_CPU then, cuda now; XLA_FLAGS without then, --a now'
    )
    del then['compiler']  # of an earlier version
    assert changes(then, description()) is None


def test_tree_bytes__counts_keys_as_their_words():
    tree = {'a': np.zeros((3, 2), np.float32), 'b': np.int8(0), 'key': jax.random.key(0)}
    assert tree_bytes(tree) == 24 + 1 + 8
    assert tree_bytes(jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))) == 24


def test_matmul_rate__is_a_rate():
    assert 1e6 < matmul_rate(n=64, repeats=2) < 1e15


@pytest.fixture
def engine():
    agent = AGENTS['bc'].agent(Spec(4, 1), task_config('bc', '', {'hidden': 8, 'batch_size': 2}))
    data = one_row(agent.spec, agent.columns)
    return Engine(agent, data, [Lane('bc', seed) for seed in range(2)], jax.local_devices()[:1])


def test_check_memory__a_run_that_cannot_fit_is_one_line(engine, monkeypatch):
    size = 2 * tree_bytes(engine.init())
    monkeypatch.setattr('dtql_jax.runs.forecast.available', lambda: size + 2 * 100)
    check_memory(engine)
    monkeypatch.setattr('dtql_jax.runs.forecast.available', lambda: None)  # nothing tells
    check_memory(engine)
    monkeypatch.setattr('dtql_jax.runs.forecast.available', lambda: size)
    with pytest.raises(UserError, match=r'the run needs .* GB of memory and more, .*num_seeds'):
        check_memory(engine)


@pytest.mark.parametrize('changes', [{'hidden': 3_000_000}, {'batch_size': 10**13}])
def test_check_memory__a_network_or_batch_beyond_any_machine_compiles_nothing(
    changes, here, compiled
):
    with pytest.raises(UserError, match='ask for fewer seeds'):
        dtql_jax.run({'env': ENV, 'agent': 'bc', **changes}, out='x')
    assert not (here / 'x').exists()
    assert len(compiled) < 20  # small programs about the data, and no training
