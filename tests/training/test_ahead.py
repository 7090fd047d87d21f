"""Phases that are compiled beside the training."""

import threading

import pytest

from dtql_jax.training.ahead import compiled_ahead
from dtql_jax.types import Phase


def phase(name, online=False):
    return Phase(name, lambda state, batch: (state, {}), 1, 1, online=online)


FIRST, SECOND, LAST = phase('first'), phase('second'), phase('last', online=True)


class Compiler:
    """Compiles where its gate is open, and remembers what."""

    def __init__(self, on_cpu=True, error=None):
        self.on_cpu, self.error = on_cpu, error
        self.done, self.threads, self.gate = [], set(), threading.Event()
        self.gate.set()

    def compile(self, phase):
        assert self.gate.wait(60)
        if self.error:
            raise self.error
        self.threads.add(threading.get_ident())
        self.done.append(phase.name)


def ahead(compiler, phases, told, online=None):
    return compiled_ahead(compiler, online, phases, lambda phase, _: told.append(phase.name))


def test_compiled_ahead__compiles_the_next_phase_beside_the_training():
    compiler, online, told = Compiler(), Compiler(), []
    with ahead(compiler, [FIRST, SECOND, LAST], told, online) as ready:
        ready(FIRST)
        assert told == ['first']
        ready(SECOND)
        ready(SECOND)
        assert told == ['first', 'second']
        ready(LAST)
    assert (compiler.done, online.done) == (['first', 'second'], ['last'])
    assert threading.get_ident() not in compiler.threads | online.threads


def test_compiled_ahead__an_accelerator_compiles_all_before_it_trains():
    compiler, told = Compiler(on_cpu=False), []
    with ahead(compiler, [SECOND, LAST], told) as ready:
        ready(FIRST)  # a past one, of a run that is resumed
        assert told == compiler.done == ['second', 'last']


@pytest.mark.parametrize('on_cpu', [True, False])
def test_compiled_ahead__without_a_phase_nothing_is_compiled(on_cpu):
    compiler = Compiler(on_cpu)
    with ahead(compiler, [], []) as ready:
        ready(FIRST)
    assert not compiler.done


def test_compiled_ahead__whoever_waits_sees_the_error():
    with (
        pytest.raises(MemoryError),
        ahead(Compiler(error=MemoryError()), [FIRST], []) as ready,
    ):
        ready(FIRST)


def test_compiled_ahead__the_end_waits_for_a_compilation():
    compiler = Compiler()
    compiler.gate.clear()
    with ahead(compiler, [FIRST, SECOND], []):
        threading.Timer(0.05, compiler.gate.set).start()
    assert compiler.done == ['first']
