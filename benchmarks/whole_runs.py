"""The parts of speed.py that make real runs, in temporary folders."""

import pathlib
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import flags
from measure import Report

from dtql_jax.agents.registry import find_agent
from dtql_jax.agents.settings import kinds
from dtql_jax.cli.flags import define_whole, given
from dtql_jax.report.console import Console
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.runs.run import run
from dtql_jax.types import Lane, Phase

ASKED = ('steps', 'pretrain_steps', 'eval_every', 'eval_episodes', 'dataset_path')
SHORT = {'steps': 1000, 'eval_every': 250, 'eval_episodes': 10}


def define_flags(values: flags.FlagValues) -> None:
    """The flags of a run; None means the task's own value, or that of `SHORT` for overlap."""
    flags.DEFINE_string('env', 'pointmaze-umaze', 'run, overlap: the task', values)
    flags.DEFINE_string('agent', 'dtql', 'run, overlap: the algorithm', values)
    define_whole('num_seeds', 2, 'tasks, run, overlap: seeds', values)
    define_whole('steps', None, 'run, overlap: updates of the last phase', values)
    define_whole('pretrain_steps', None, 'run, overlap: updates before it', values)
    define_whole('eval_every', None, 'run, overlap: updates between evaluations', values)
    define_whole('eval_episodes', None, 'run, overlap: episodes per evaluation and seed', values)
    flags.DEFINE_string('dataset_path', None, "run, overlap: data in place of the task's", values)


class Stopwatch(Console):
    """A console that adds up the seconds of a run's parts."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, float] = {'compilation': 0.0, 'evaluations': 0.0}
        self.began_training: float | None = None
        self._step = 0

    def compiled(self, phase: Phase, seconds: float) -> None:
        # What is compiled beside the training costs no time of its own.
        if not self._step:
            self.began_training = self.began_training or time.monotonic() - seconds
            self.parts['compilation'] = time.monotonic() - self.began_training
        super().compiled(phase, seconds)

    def progress(self, phase: Phase, step: int, total: int, rate: float) -> None:
        # Called after every dispatch: `rate` is that of the dispatch.
        seconds = (step - self._step) / rate
        self.parts[phase.name] = self.parts.get(phase.name, 0.0) + seconds
        self._step = step
        super().progress(phase, step, total, rate)

    def evaluated(
        self, step: int, lanes: Sequence[Lane], scores: np.ndarray, seconds: float
    ) -> None:
        self.parts['evaluations'] += seconds
        super().evaluated(step, lanes, scores, seconds)


def timed(asked: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A run's seconds by part and its last scores; its evaluations without their times."""
    console, began = Stopwatch(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = run(asked, out=pathlib.Path(folder, 'run'), console=console)
        total = time.monotonic() - began
        assert result is not None  # it is no dry run
        assert console.began_training is not None
        evaluations = read_jsonl(result.run_dir / 'eval.jsonl')
    parts = {'data and set-up': console.began_training - began, **console.parts}
    parts['logs, checkpoints, report'] = total - sum(parts.values())
    scores = result.scores(asked['agent'])
    row = {'asked': asked, 'parts_s': parts, 'total_s': total, 'scores': scores}
    untimed = [{k: v for k, v in r.items() if not k.startswith('time/')} for r in evaluations]
    return row, untimed


def run_parts(asked: flags.FlagValues, report: Report) -> None:
    """Adds a row with the parts of one run."""
    report.add(timed(request(asked))[0])


def overlap(asked: flags.FlagValues, report: Report) -> None:
    """Adds a row without and one with overlap. A share is of the seconds after compilation."""
    has_phase = 'pretrain_steps' in kinds(find_agent(asked.agent).agent.config_class)
    short = {**SHORT, **({'pretrain_steps': 0} if has_phase else {})}
    evaluations = []
    for beside in (False, True):
        row, scores = timed({**short, **request(asked), 'overlap': beside})
        evaluations.append(scores)
        parts = row['parts_s']
        seconds = row['total_s'] - parts['data and set-up'] - parts['compilation']
        share = parts['train'] / seconds
        times = {'evaluations_s': parts['evaluations'], 'training_share': share}
        report.add({'overlap': beside, 'seconds': seconds, **times})
    report.put('env', asked.env)
    report.put('num_seeds', asked.num_seeds)
    report.put('scores_are_equal', evaluations[0] == evaluations[1])


def request(asked: flags.FlagValues) -> dict[str, Any]:
    """What the flags ask of `run`."""
    always = {name: asked[name].value for name in ('env', 'agent', 'num_seeds')}
    return {**always, **given(asked, ASKED)}
