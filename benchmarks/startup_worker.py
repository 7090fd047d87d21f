"""Runs the command `dtql train` up to its first update, for `startup.py`.

  python benchmarks/startup_worker.py --launched=SECONDS --given=out=FOLDER,env=hopper-medium

The last line of the output is JSON: seconds until the first update, of the processor, and of parts.
Parts that run side by side overlap.
"""

import collections
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from absl import flags

from dtql_jax.cli.flags import run_command

FLAGS = flags.FlagValues()
flags.DEFINE_float('launched', 0.0, 'the launch on the clock of time.monotonic', flag_values=FLAGS)
flags.DEFINE_list('given', [], 'flags of dtql train, without dashes', FLAGS)

# jax's own counters of seconds, by the end of their names.
EVENTS = {
    'jaxpr_trace_duration': 'tracing',
    'jaxpr_to_mlir_module_duration': 'lowering',
    'backend_compile_duration': 'compiling',  # or reading the program from the cache
}


def main(asked: flags.FlagValues) -> int:
    launched = asked.launched
    seconds: collections.Counter[str] = collections.Counter()

    import jax

    import dtql_jax.cli.train
    from dtql_jax.runs import run
    from dtql_jax.training import loop

    seconds['imports'] = time.monotonic() - launched

    def listen(event: str, duration: float, **_: Any) -> None:
        if name := EVENTS.get(event.rsplit('/', 1)[-1]):
            seconds[name] += duration

    jax.monitoring.register_event_duration_secs_listener(listen)

    def timed(place: Any, name: str, part: str) -> None:
        function: Callable[..., Any] = getattr(place, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            began = time.monotonic()
            result = function(*args, **kwargs)
            seconds[part] += time.monotonic() - began
            return result

        setattr(place, name, wrapped)

    timed(run, '_load', 'data')
    timed(run, 'describe', 'plan')
    timed(run.Engine, 'init', 'initialisation')
    timed(loop.Trainer, 'save', 'first save')
    advance = run.Engine.advance

    def first(*args: Any) -> None:
        advance(*args)
        told = {'first update': time.monotonic() - launched, 'processor': time.process_time()}
        told |= {name: seconds[name] for name in sorted(seconds)}
        print(json.dumps({name: round(value, 2) for name, value in told.items()}), flush=True)
        os._exit(0)

    run.Engine.advance = first  # type: ignore[method-assign,assignment]
    sys.argv[1:] = [f'--{flag}' for flag in asked.given]
    return dtql_jax.cli.train.main()  # comes back without a first update


if __name__ == '__main__':
    sys.exit(run_command(main, FLAGS, __doc__))
