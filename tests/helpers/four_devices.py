"""Lanes on four emulated devices: `test_engine.py` runs it with the flag that emulates them."""

import pathlib
import re
import tempfile

import jax
import numpy as np

from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Stopped
from tests.helpers import toy, toy_run

COLLECTIVES = (
    'all-reduce|all-gather|collective-permute|all-to-all|reduce-scatter|collective-broadcast'
    '|send|recv'
)


def pair(lanes, agent=toy.Toy):
    """Engines of the same lanes on all devices, and on one."""
    return toy.engine(lanes, agent=agent), toy.engine(lanes, jax.local_devices()[:1], agent)


def check_lanes(engine):
    assert jax.local_device_count() == 4
    assert len(engine.devices) == 4
    assert len(toy.engine(toy.lanes(*range(5))).devices) == 1
    for leaf in jax.tree.leaves(engine.init()):
        assert len(leaf.sharding.device_set) == 4
        assert leaf.addressable_shards[0].data.shape[0] == 1


def check_collectives(engine):
    for phase in engine.agent.phases():
        text = engine.compile(phase).as_text()
        assert 'while' in text
        found = re.findall(rf'= \S+ ({COLLECTIVES})[-(]', text)
        assert not found, found


def plant_collective(engine):
    """The search above does find a collective."""
    mesh = engine.mesh
    lane, nowhere = jax.P('lane'), jax.P()
    total = jax.shard_map(
        lambda x: jax.lax.psum(x, 'lane'), mesh=mesh, in_specs=lane, out_specs=nowhere
    )
    x = jax.device_put(np.ones(4), jax.NamedSharding(mesh, lane))
    text = jax.jit(total).lower(x).compile().as_text()
    assert re.findall(rf'= \S+ ({COLLECTIVES})[-(]', text)


def near(ours, theirs):
    for x, y in zip(*map(jax.tree.leaves, map(toy.bits, (ours, theirs))), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def check_results(engines):
    near(*[engine.dispatch(*toy.start(engine), 8) for engine in engines])


def check_divergence(engines):
    results = []
    for engine in engines:
        phase, state, sums = toy.start(engine)
        state, sums, done = engine.advance(phase, state, sums, 12, np.ones(4, bool))
        assert done.tolist() == [12, 12, 9, 12]
        state, sums, _ = engine.advance(phase, state, sums, 8, done == 12)
        results.append((state, sums))
    near(*results)


def check_run(engines):
    """Rows, evaluations, saves and resumes leave arrays where the compiled program wants them."""
    with tempfile.TemporaryDirectory() as folder:
        results = []
        for i, engine in enumerate(engines):
            run_dir = pathlib.Path(folder, str(i))
            stop = StopFlag()
            trainer = toy_run.trainer(run_dir, engine, stop=stop)
            trainer.report.progress = lambda *a, stop=stop: setattr(stop, 'signal', 1)
            for resume in (False, True, True):
                try:
                    trainer.run(resume)
                except Stopped:
                    stop.signal = None
            trainer.report.progress = lambda *a: None
            results.append(trainer.run(resume=True))
            assert trainer.cursor.diverged == {'2': 9}
            assert engine.traces == toy.TRACED_ONCE
        near(*results)


four = pair(toy.lanes(0, 1, 2, 3, at2={'blow_at': 9.0}))
check_lanes(four[0])
print('lanes')
plant_collective(four[0])
check_collectives(four[0])
print('collectives')
check_results(four)
check_results(pair(toy.lanes(*range(6))))  # on three devices
check_results(pair(toy.lanes(0, 1, 2, 3), toy.Delayed))
print('results')
check_divergence(four)
print('divergence')
check_run(four)
print('run')
