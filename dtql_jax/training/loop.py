"""The run: dispatches, rows, evaluations and checkpoints in an order that a resume repeats exactly.

The loop knows of an agent only its phases and `acting`. All that changes a number depends on
the step: where a window of averaged metrics ends, when an evaluation is due. The clock decides only
how many updates a dispatch holds and when a checkpoint is due, and neither changes a number.

An evaluation plays a snapshot of the policies in a thread of its own. The loop waits for it or,
with `overlap`, trains on meanwhile: simulators keep the processor busy, training the accelerator.
Rows and best policies are the same both ways.
"""

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from dtql_jax.report.console import Console
from dtql_jax.training.ahead import compiled_ahead
from dtql_jax.training.blocks import LOG_WINDOW
from dtql_jax.training.engine import Engine
from dtql_jax.training.evaluation import Evaluate, Evaluation, scores_of
from dtql_jax.training.online import Online
from dtql_jax.training.progress import (
    Cursor,
    Progress,
    at_rest,
    fresh_progress,
    keep_best,
    means,
    policies,
    restore_progress,
)
from dtql_jax.training.records import Records, begun
from dtql_jax.training.stop import StopFlag
from dtql_jax.types import Phase, Stopped, UserError

DISPATCH_SECONDS = 2.0
# A device runs its programs in order, so an action of an evaluation waits for the updates before
# it. While episodes are played, a dispatch is shorter and made in slices.
PLAYING_SECONDS, SLICE_SECONDS = 0.25, 0.01
SAVE_SECONDS = 120.0


class Trainer:
    """One run of all lanes of an `Engine`, kept in a run folder.

    Args:
        engine: the agent, its data and its lanes.
        records: the logs and checkpoints in the run folder.
        evaluate: plays the episodes of an evaluation, in a thread of its own; None: there is none.
        report: the console that shows events as they happen.
        stop: the flag that ends the run early.
        overlap: whether training goes on while episodes are played.
        online: advances the phase in the environment, if there is one.
    """

    def __init__(
        self,
        engine: Engine,
        records: Records,
        evaluate: Evaluate | None,
        report: Console,
        stop: StopFlag,
        overlap: bool = False,
        online: Online | None = None,
    ):
        self.engine = engine
        self.online: Any = online  # one, where a phase asks for it
        self.phases = engine.agent.all_phases()
        self.total = sum(phase.steps for phase in self.phases)
        self.records = records
        self.evaluate = evaluate
        self.report = report
        self.stop = stop
        self.overlap = overlap
        self.cursor = Cursor(counts=[0] * len(engine.lanes))
        self.rate = 0.0  # updates per second, all lanes advancing together
        self._policies = jax.jit(functools.partial(policies, engine.agent))
        self._keep_best = jax.jit(keep_best, donate_argnums=(0, 1, 2))
        self._window = min(LOG_WINDOW, engine.agent.config.eval_every)
        self._playing: Evaluation | None = None
        self._saved = 0.0  # when, on the clock of `time.monotonic`
        self._size = 0  # updates of the last dispatch that the clock allowed
        self._pace = 0.0  # the last rate beside which no episode was played

    def run(self, resume: bool = False, networks: Mapping[str, Any] | None = None) -> Progress:
        """Trains to the end.

        Args:
            resume: whether to go on from the newest checkpoint of the run folder, if it has one.
            networks: what a run that begins starts from, see `fresh_progress`.

        Raises:
            Stopped: the stop flag was set. A checkpoint has been saved.
            UserError: the folder's checkpoints or logs are damaged, or can no longer be written.
        """
        # A run that was killed before its first save has nothing to restore: it starts again.
        resume = resume and begun(self.records.run_dir)
        if resume:
            restored = restore_progress(self.engine, self.records.run_dir, self.report.warn)
            progress, self.cursor = restored
        to_come = [phase for phase in self.phases if self.span(phase).stop > self.cursor.step]
        with contextlib.ExitStack() as stack:
            ahead = compiled_ahead(self.engine, self.online, to_come, self.report.compiled)
            ready = stack.enter_context(ahead)
            if not resume:
                progress = fresh_progress(self.engine, networks)
            self.start = time.monotonic() - self.cursor.elapsed_s
            stack.callback(lambda: self._playing and self._playing.leave())
            stack.enter_context(self.records.open(self.cursor))
            if not resume:
                self.save(progress)
            if self.cursor.playing and self.evaluate:
                self.play(progress)
            for phase in self.phases:
                ready(phase)
                progress = self.run_phase(phase, progress)
            progress = self.end_evaluation(progress)
            self.save(progress)
            self.records.end(progress.state)
        return progress

    def span(self, phase: Phase) -> range:
        """The steps of the phase's updates."""
        begin = sum(p.steps for p in self.phases[: self.phases.index(phase)])
        return range(begin, begin + phase.steps)

    @property
    def alive(self) -> np.ndarray:
        """Which lanes have not diverged, `[S]`."""
        return np.array([str(i) not in self.cursor.diverged for i in range(len(self.engine.lanes))])

    def run_phase(self, phase: Phase, progress: Progress) -> Progress:
        """The remaining updates of a phase, with the rows, evaluations and saves between them."""
        span = self.span(phase)
        self._size, self._saved = 0, time.monotonic()
        if self.cursor.step == span.start < span.stop:
            state = self.engine.enter(phase, progress.state, self.alive)
            progress = progress.replace(state=state)
        behind = self.cursor.step == span.stop and any(self.cursor.counts)
        if phase.online and (behind or self.cursor.step < span.stop) and self.alive.any():
            with self._saving(progress):
                progress = self.online.begin(progress, self.cursor, self.alive)
        if behind:
            progress = self.write_rows(phase, progress)  # the end has come nearer, see `extend`
        while True:
            progress = self.evaluate_if_due(phase, span, progress)
            if self.cursor.step >= span.stop or not self.alive.any():
                return progress
            self.save_if_due(progress)
            row_at = self.window_end(phase, span)
            progress = self.advance(phase, progress, row_at - self.cursor.step)
            if not self.alive.any():
                self.cursor.step = row_at  # however far the dispatch reached
            if self.cursor.step == row_at:
                progress = self.write_rows(phase, progress)
            self.report.progress(phase, self.cursor.step, self.total, self.rate)

    def advance(self, phase: Phase, progress: Progress, most: int) -> Progress:
        """One dispatch, of `most` updates at most and as many as the clock allows."""
        # The first dispatch is a probe. Then sizes follow the rate, and grow in steps.
        seconds = PLAYING_SECONDS if self._playing else DISPATCH_SECONDS
        self._size = max(1, min(int(self.rate * seconds), 8 * self._size))
        n, alive, began = self.engine.whole(self._size, most), self.alive, time.monotonic()
        slices = max(1, int(self._pace * SLICE_SECONDS)) if self._playing else 0
        if phase.online:
            progress, done, n = self.online.advance(progress, n, alive)
        else:
            given = progress.state, progress.sums[phase.name], n, alive, slices
            state, sums, done = self.engine.advance(phase, *given)
            progress = progress.replace(state=state, sums={**progress.sums, phase.name: sums})
        for lane in np.flatnonzero(alive & (done < n)):
            self.cursor.diverged[str(lane)] = self.cursor.step + int(done[lane])
            self.report.diverged(self.engine.lanes[lane], self.cursor.step + int(done[lane]))
        self.cursor.counts = [c + int(d) for c, d in zip(self.cursor.counts, done, strict=True)]
        self.cursor.step += n
        self.rate = n / (time.monotonic() - began)
        self._pace = self._pace if self._playing else self.rate
        if phase.online and self.online.failure:
            with self._saving(progress):
                raise self.online.failure
        return progress

    def window_end(self, phase: Phase, span: range) -> int:
        """The step of the next rows: where a log window ends or an evaluation is due."""
        every = self.engine.agent.config.eval_every
        done = self.cursor.step - span.start
        sizes = (self._window, every) if phase.evaluate else (self._window,)
        return min(span.stop, *(span.start + (done // size + 1) * size for size in sizes))

    def window_begin(self, phase: Phase, span: range) -> int:
        """The step where the window that ends at this very step began."""
        every = self.engine.agent.config.eval_every
        done = self.cursor.step - span.start - 1
        sizes = (self._window, every) if phase.evaluate else (self._window,)
        return span.start + max(done // size * size for size in sizes)

    def evaluation_due(self, phase: Phase, span: range) -> bool:
        """Whether an evaluation of the policies is due at this very step."""
        step, every = self.cursor.step, self.engine.agent.config.eval_every
        inside = span.start < step <= span.stop
        on_time = inside and ((step - span.start) % every == 0 or step == span.stop)
        begun = step in (self.cursor.playing, self.cursor.evaluated)
        plays = phase.evaluate and self.evaluate is not None
        return plays and on_time and not begun and bool(self.alive.any())

    # What is due between updates.

    def write_rows(self, phase: Phase, progress: Progress) -> Progress:
        """Writes the means of each lane's metrics since its last row, and starts new sums.

        A lane that diverged in the first update since then has a row that says so, without metrics.
        """
        sums = jax.device_get(progress.sums[phase.name])
        began = self.window_begin(phase, self.span(phase))
        rows: dict[int, dict[str, Any]] = {}
        explored = self.online.explore.means() if phase.online else [{}] * len(self.cursor.counts)
        for i, count in enumerate(self.cursor.counts):
            at = self.cursor.diverged.get(str(i))
            if count or (at is not None and at >= began):
                rows[i] = {'phase': phase.name, **({} if at is None else {'diverged_at': at})}
                rows[i] |= {**means(sums, i, count), **explored[i]}
        times = {'updates_per_s': self.rate, 'elapsed_s': time.monotonic() - self.start}
        self.records.write('metrics', self.cursor.step, rows, times, progress.state)
        self.cursor.counts = [0] * len(self.engine.lanes)
        return progress.replace(sums={**progress.sums, phase.name: self.engine.zeros(phase)})

    def evaluate_if_due(self, phase: Phase, span: range, progress: Progress) -> Progress:
        """Begins an evaluation that is due at this step, and ends one that is to be waited for."""
        if self.evaluation_due(phase, span):
            progress = self.begin_evaluation(self.end_evaluation(progress))
        if self._playing and (not self.overlap or self.stop() or self._playing.done()):
            progress = self.end_evaluation(progress)
            self.save(progress)
        return progress

    def begin_evaluation(self, progress: Progress) -> Progress:
        """Takes a snapshot of the policies and starts to play episodes with it."""
        progress = progress.replace(snapshot=self._policies(progress.state))
        self.cursor.playing = self.cursor.step
        self.play(progress)
        return progress

    def play(self, progress: Progress) -> None:
        """Starts a thread that plays the snapshot of each lane that was alive when it was taken."""
        step, diverged = self.cursor.playing, self.cursor.diverged
        lanes = [i for i in range(len(self.engine.lanes)) if diverged.get(str(i), step) >= step]
        with self._saving(progress):
            assert self.evaluate is not None
            self._playing = Evaluation(self.evaluate, progress.snapshot, lanes)

    def end_evaluation(self, progress: Progress) -> Progress:
        """Waits for the evaluation in progress, if any; records scores and best policies."""
        if not self._playing:
            return progress
        with self._saving(progress):
            rows, seconds = self._playing.result()
        self._playing = None
        step, scores = self.cursor.playing, scores_of(rows, self.engine.lanes)
        self.records.write('eval', step, rows, {'eval_s': seconds}, progress.state)
        for i, row in rows.items():
            if 'eval/failed' in row:
                self.report.failed(step, self.engine.lanes[i], row['eval/failed'])
        self.cursor.playing, self.cursor.evaluated = 0, step
        before = progress.best, progress.best_score, progress.best_step
        now = progress.snapshot, *jax.device_put((scores, np.int32(step)))
        best, best_score, best_step = self._keep_best(*before, *now)
        self.report.evaluated(step, self.engine.lanes, scores, seconds)
        return progress.replace(best=best, best_score=best_score, best_step=best_step)

    @contextlib.contextmanager
    def _saving(self, progress: Progress) -> Iterator[None]:
        """Saves the run where an evaluation has no end: a resume plays it again."""
        try:
            yield
        except Stopped:
            self.save(progress)
            raise
        except UserError as error:
            self.save(progress)
            raise UserError(f'{error}; a checkpoint is saved: go on with `resume`') from error

    def save_if_due(self, progress: Progress) -> None:
        """Saves now and then, and where the stop flag is set, which raises `Stopped`."""
        stopped = self.stop()
        if stopped or time.monotonic() - self._saved > SAVE_SECONDS:
            self.save(progress)
        if stopped:
            raise Stopped

    def save(self, progress: Progress) -> None:
        """Writes a checkpoint of the point that the run has reached."""
        self.cursor.elapsed_s = time.monotonic() - self.start
        rows = self.cursor.step - self.online.begins if self.online else 0
        self.records.save(at_rest(progress, rows), self.cursor)
        self._saved = time.monotonic()
