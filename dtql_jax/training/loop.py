"""The run: dispatches, logs, evaluations and checkpoints in an order that a resume repeats exactly.

The loop knows an agent as phases, `acting` and `act`, and nothing else of it. What decides numbers
(where a log window ends, when an evaluation is due) hangs on the step alone; what hangs on the
clock (how many updates a dispatch holds, when a checkpoint is due) decides no number.

An evaluation plays a snapshot of the policies in a thread of its own. Either the loop waits for it,
or, with `overlap`, it trains on meanwhile: simulators keep the processor busy and training the
accelerator. Rows and best policies are the same both ways.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dtql_jax.report.loggers import JsonlLog
from dtql_jax.training import checkpoint
from dtql_jax.training.engine import Engine
from dtql_jax.training.progress import (
    CHECKPOINTS,
    Cursor,
    Progress,
    acting,
    fresh_progress,
    keep_best,
    restore_progress,
)
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Metrics, Params, Phase, Rare, Stopped

DISPATCH_SECONDS = 2.0
# While episodes are played beside it: a device runs its programs in order, so that an action waits
# for the dispatch before it.
SLICE_SECONDS = 0.01
SAVE_SECONDS = 120.0

LOG_WINDOW = 1000  # updates per row of metrics, at most


# (acting params [S, ...], lanes to play) -> a row for each of these lanes, with 'eval/score'.
Evaluate = Callable[[Params, list[int]], dict[int, dict[str, float]]]


class Trainer:
    """One run of all lanes of an `Engine`, kept in `run_dir`.

    `evaluate` plays the episodes, in a thread of its own; with `overlap` training goes on beside
    it. `report` is told of events as they happen: see `console.Console`. `sinks` are further places
    for rows.
    """

    def __init__(
        self,
        engine: Engine,
        run_dir: pathlib.Path,
        evaluate: Evaluate,
        report: Any,
        stop: StopFlag,
        sinks: tuple = (),
        overlap: bool = False,
    ):
        self.engine = engine
        self.phases = engine.agent.phases()
        self.total = sum(phase.steps for phase in self.phases)
        self.run_dir = run_dir
        self.evaluate = evaluate
        self.report = report
        self.stop = stop
        self.sinks = sinks
        self.overlap = overlap
        self.cursor = Cursor(counts=[0] * len(engine.lanes))
        self.logs: dict[str, JsonlLog] = {}
        self.rate = 0.0  # updates per second, all lanes advancing together
        self._acting = jax.jit(functools.partial(acting, engine.agent))
        self._keep_best = jax.jit(keep_best, donate_argnums=(0, 1, 2))
        self._window = min(LOG_WINDOW, engine.agent.config.eval_every)
        self._playing: concurrent.futures.Future | None = None

    def run(self, resume: bool = False) -> Progress:
        """Trains to the end. Raises `Stopped`, after saving, where the stop flag is set."""
        # A run that was killed before its first save has nothing to restore: it starts again.
        resume = resume and checkpoint.any_in(self.run_dir / CHECKPOINTS)
        if resume:
            progress, self.cursor = restore_progress(self.engine, self.run_dir, self.report.warn)
        else:
            progress = fresh_progress(self.engine)
        self.start = time.monotonic() - self.cursor.elapsed_s
        with contextlib.ExitStack() as stack:
            for name in ('metrics', 'eval'):
                path = self.run_dir / f'{name}.jsonl'
                log = JsonlLog(path, resume_at=self.cursor.offsets.get(name, 0))
                self.logs[name] = stack.enter_context(log)
            if not resume:
                self.save(progress)
            for phase in self.phases:
                if self.phase_end(phase) > self.cursor.step:
                    seconds = time.monotonic()
                    self.engine.compile(phase)
                    self.report.compiled(phase, time.monotonic() - seconds)
            if self.cursor.playing:
                self.play(progress)
            for phase in self.phases:
                progress = self.run_phase(phase, progress)
            progress = self.end_evaluation(progress)
            self.save(progress)
        return progress

    def phase_end(self, phase: Phase) -> int:
        """The step at which the phase ends."""
        index = self.phases.index(phase)
        return sum(p.steps for p in self.phases[: index + 1])

    # The loop.

    def run_phase(self, phase: Phase, progress: Progress) -> Progress:
        """All updates of a phase that are still to do, with what is due between them."""
        begin, end = self.phase_end(phase) - phase.steps, self.phase_end(phase)
        size, saved = 0, time.monotonic()
        if self.cursor.step == begin < end:
            state = self.engine.enter(phase, progress.state, self.alive)
            progress = progress.replace(state=state)
        while True:
            if self.evaluation_due(phase, begin, end):
                progress = self.begin_evaluation(self.end_evaluation(progress))
            if self._playing and (not self.overlap or self.stop() or self._playing.done()):
                progress = self.end_evaluation(progress)
                self.save(progress)
                saved = time.monotonic()
            if self.cursor.step >= end or not self.alive.any():
                return progress
            if time.monotonic() - saved > SAVE_SECONDS or self.stop():
                self.save(progress)
                saved = time.monotonic()
            if self.stop():
                raise Stopped
            row_at = self.window_end(phase, begin, end)
            # The first dispatch is a probe; then sizes follow the rate, and grow in steps.
            seconds = SLICE_SECONDS if self._playing else DISPATCH_SECONDS
            size = max(1, min(int(self.rate * seconds), 8 * size))
            n = min(size, row_at - self.cursor.step)
            began = time.monotonic()
            progress = self.advance(phase, progress, n)
            self.rate = n / (time.monotonic() - began)
            if not self.alive.any():
                self.cursor.step = row_at  # however far the dispatch reached
            if self.cursor.step == row_at:
                progress = self.write_rows(phase, progress)
            self.report.progress(phase, self.cursor.step, self.total, self.rate)

    def window_end(self, phase: Phase, begin: int, end: int) -> int:
        """The step of the next rows: where a log window ends or an evaluation is due."""
        every = self.engine.agent.config.eval_every
        done = self.cursor.step - begin
        sizes = (self._window, every) if phase.evaluate else (self._window,)
        return min(end, *(begin + (done // size + 1) * size for size in sizes))

    def evaluation_due(self, phase: Phase, begin: int, end: int) -> bool:
        """Whether the policies are to be evaluated at this very step."""
        step, every = self.cursor.step, self.engine.agent.config.eval_every
        on_time = begin < step <= end and ((step - begin) % every == 0 or step == end)
        begun = step in (self.cursor.playing, self.cursor.evaluated)
        return phase.evaluate and on_time and not begun and self.alive.any()

    @property
    def alive(self) -> np.ndarray:
        """Which lanes have not diverged, `[S]`."""
        return np.array([str(i) not in self.cursor.diverged for i in range(len(self.engine.lanes))])

    def advance(self, phase: Phase, progress: Progress, n: int) -> Progress:
        """`n` updates; a lane that makes fewer has diverged and is noted."""
        alive = self.alive
        state, sums, done = self.engine.advance(
            phase, progress.state, progress.sums[phase.name], n, alive
        )
        for lane in np.flatnonzero(alive & (done < n)):
            self.cursor.diverged[str(lane)] = self.cursor.step + int(done[lane])
            self.report.diverged(self.engine.lanes[lane], self.cursor.step + int(done[lane]))
        self.cursor.counts = [c + int(d) for c, d in zip(self.cursor.counts, done, strict=True)]
        self.cursor.step += n
        return progress.replace(state=state, sums={**progress.sums, phase.name: sums})

    # What is due between updates.

    def write_rows(self, phase: Phase, progress: Progress) -> Progress:
        """A row of averaged metrics for each lane that made updates since its last; clears them."""
        sums = jax.device_get(progress.sums[phase.name])
        for i, lane in enumerate(self.engine.lanes):
            if count := self.cursor.counts[i]:
                row = _means(sums, i, count)
                times = {'updates_per_s': self.rate, 'elapsed_s': time.monotonic() - self.start}
                diverged = self.cursor.diverged.get(str(i))
                ended = {} if diverged is None else {'diverged_at': diverged}
                row = {'phase': phase.name, **ended, **row}
                self.write('metrics', self.cursor.step, lane, row, times)
        self.cursor.counts = [0] * len(self.engine.lanes)
        zeros = self.engine.zeros_like(progress.sums[phase.name])
        return progress.replace(sums={**progress.sums, phase.name: zeros})

    def begin_evaluation(self, progress: Progress) -> Progress:
        """Takes a snapshot of the policies and has episodes played with them."""
        progress = progress.replace(snapshot=self._acting(progress.state))
        self.cursor.playing = self.cursor.step
        self.play(progress)
        return progress

    def play(self, progress: Progress) -> None:
        """Has episodes played with the snapshot, for the lanes that lived when it was taken."""
        step, diverged = self.cursor.playing, self.cursor.diverged
        lanes = [i for i in range(len(self.engine.lanes)) if diverged.get(str(i), step) >= step]
        snapshot, began = progress.snapshot, time.monotonic()

        def play() -> tuple[dict[int, dict[str, float]], float]:
            return self.evaluate(snapshot, lanes), time.monotonic() - began

        thread = concurrent.futures.ThreadPoolExecutor(1, 'evaluation')
        self._playing = thread.submit(play)
        thread.shutdown(wait=False)

    def end_evaluation(self, progress: Progress) -> Progress:
        """Waits for an evaluation that has begun, records its scores, keeps the best policies."""
        if not self._playing:
            return progress
        playing, self._playing = self._playing, None
        try:
            rows, seconds = playing.result()
        except Stopped:
            self.save(progress)
            raise
        step = self.cursor.playing
        scores = np.full(len(self.engine.lanes), -np.inf, np.float32)
        for i, row in rows.items():
            scores[i] = row['eval/score']
            self.write('eval', step, self.engine.lanes[i], row, {'eval_s': seconds})
        self.cursor.playing, self.cursor.evaluated = 0, step
        best, best_score, best_step = self._keep_best(
            progress.best, progress.best_score, progress.best_step, progress.snapshot,
            *jax.device_put((scores, np.int32(step))),
        )  # fmt: skip
        self.report.evaluated(step, self.engine.lanes, scores, seconds)
        return progress.replace(best=best, best_score=best_score, best_step=best_step)

    def write(self, log: str, step: int, lane: Any, row: dict, times: dict[str, float]) -> None:
        """One row to a log and to the other sinks."""
        row = {'step': step, 'variant': lane.variant, 'seed': lane.seed, **row}
        row |= {f'time/{name}': value for name, value in times.items()}
        self.logs[log].write(row)
        for sink in self.sinks:
            sink.write(step, row)

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint that knows how long the logs are."""
        self.cursor.offsets = {name: log.flush() for name, log in self.logs.items()}
        self.cursor.elapsed_s = time.monotonic() - self.start
        checkpoint.save(self.run_dir / CHECKPOINTS, progress, dataclasses.asdict(self.cursor))


def _means(sums: Metrics, lane: int, count: int) -> dict[str, float]:
    """The averages of a lane's metrics over `count` updates, without those that none made."""
    row = {}
    for name, total in sums.items():
        rare = isinstance(total, Rare)
        value, made = (total.total, float(total.count[lane])) if rare else (total, count)
        if made:
            row[name] = float(value[lane]) / made
    return row
