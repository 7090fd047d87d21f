"""`dtql evaluate`, on one small run."""

import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from dtql_jax.cli import evaluate
from dtql_jax.report.loggers import read_jsonl
from dtql_jax.rollout import player
from dtql_jax.runs import policy
from dtql_jax.tasks import env as tasks_env
from tests.helpers.small_runs import refused

pytestmark = pytest.mark.usefixtures('quick_compile', 'no_workers', 'here')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'no run to evaluate: name its folder as --run=DIR'),
        (['--run=nowhere'], 'nowhere is no run folder'),
        (['--run=x', '--episodes=0'], '--episodes=0: must be at least 1'),
        (['--run=x', '--eval_timeout=-1'], '--eval_timeout=-1.0: must be at least 0'),
        (['--run=x', '--eval_timeout=nan'], '--eval_timeout=nan: must be at least 0'),
        (['--run=x', '--video=film.avi'], '--video=film.avi: end its name in .gif or .mp4'),
        (['--run=x', '--epsiodes=3'], 'unknown flag --epsiodes; nearest: --episodes'),
    ],
)
def test_main__mistakes(arguments, message, capsys):
    assert message in refused(capsys, evaluate.main, *arguments)


def test_main__mistakes_in_what_the_run_has(cloned, capsys):
    run = f'--run={cloned}'
    assert 'has no seed 7' in refused(capsys, evaluate.main, run, '--seed=7')
    error = refused(capsys, evaluate.main, run, '--which=worst')
    assert error == "--which=worst: use 'last' or 'best'"
    error = refused(capsys, evaluate.main, run, '--variant=iql')
    assert error.endswith("has no variant 'iql'; there are: bc")


def test_main__a_run_of_an_earlier_version_is_refused(cloned, here, capsys):
    shutil.copytree(cloned, 'old')
    config = json.loads(Path('old/config.json').read_text())
    del config['format']
    Path('old/config.json').write_text(json.dumps(config))
    assert refused(capsys, evaluate.main, '--run=old') == (
        f'{here}/old/config.json has format 1, and this version of dtql_jax reads format 3 '
        'only: train again, or use the version that made the run'
    )


def test_main__a_run_is_evaluated_again_with_the_same_result(trained, capsys):
    """The same episodes by the same machinery: the last row of training, digit for digit."""
    run_dir, _ = trained
    before = (run_dir / 'eval.jsonl').read_bytes()
    flags = [f'--run={run_dir}', '--episodes=2', '--eval_envs=1']
    assert evaluate.main(['dtql evaluate', *flags]) == 0
    assert (run_dir / 'eval.jsonl').read_bytes() == before
    last = {(r['variant'], r['seed']): r for r in read_jsonl(run_dir / 'eval.jsonl')}
    again = {(r['variant'], r['seed']): r for r in read_jsonl(run_dir / 'reeval.jsonl')[-3:]}
    assert again.keys() == last.keys()
    for lane, row in again.items():
        played = ('eval/', 'episode/')
        numbers = {k: v for k, v in row.items() if k.startswith(played)}
        assert numbers == {k: v for k, v in last[lane].items() if k.startswith(played)}
        assert len(row['episode/return']) == 2
        assert np.mean(row['episode/return']) == row['eval/return']
        assert (row['which'], row['step']) == ('last', 5)
    assert 'score: each seed or IQM' in capsys.readouterr().out


def test_main__a_choice_of_seeds_variants_and_starts(trained, capsys):
    run_dir, _ = trained
    arguments = ['--episodes=2', '--which=best', '--variant=dtql', '--seed=1', '--eval_seed=3']
    assert evaluate.main(['dtql evaluate', f'--run={run_dir}', *arguments]) == 0
    row = read_jsonl(run_dir / 'reeval.jsonl')[-1]
    assert (row['variant'], row['seed'], row['which'], row['eval_seed']) == ('dtql', 1, 'best', 3)


def test_main__a_seed_that_fails_has_no_score_and_the_others_do(cloned, capsys, monkeypatch):
    failed = {'eval/failed': 'reward not finite: seed 1, episode 0, step 3', 'eval/episodes': 2}
    play = player.Player._play

    def poisoned(self, acting, lanes):
        return play(self, acting, lanes) | {1: failed}

    flags = ['dtql evaluate', f'--run={cloned}', '--episodes=2', '--variant=bc']
    monkeypatch.setattr(player.Player, '_play', poisoned)
    assert evaluate.main(flags) == 0
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == (
        'bc seed 1: the evaluation at update 5 failed: reward not finite: seed 1, episode 0, step 3'
    )
    sound, row = read_jsonl(cloned / 'reeval.jsonl')[-2:]
    assert 'eval/score' in sound
    assert {k: v for k, v in row.items() if '/' in k} == failed
    assert evaluate.main([*flags, '--seed=1']) == 1


def test_choose__leaves_out_lanes_without_a_policy(trained, capsys):
    run = policy.Run(trained[0])
    assert evaluate.choose(run, 'last', None, 0) == [0, 2]
    assert evaluate.choose(run, 'best', 'dtql', None) == [0, 1]
    # A lane that diverged before any evaluation has neither policy.
    run.cursor.diverged['1'] = 3
    run.progress = run.progress.replace(best_score=np.array([1.0, -np.inf, 1.0]))
    capsys.readouterr()
    assert evaluate.choose(run, 'last', None, None) == [0, 2]
    assert capsys.readouterr().out.startswith('left out: dtql seed 1 diverged at update 3')


def test_film__shows_the_first_episode_that_was_evaluated(cloned, capsys, monkeypatch):
    """The same start and the same actions, so the same return; drawn by a stand-in."""

    class Drawn(gym.Wrapper):
        metadata = {'render_fps': 10}  # noqa: RUF012

        def render(self):
            return np.zeros((16, 16, 3), np.uint8)

    make_env = tasks_env.make_env
    monkeypatch.setattr(tasks_env, 'make_env', lambda task, **_: Drawn(make_env(task)))
    arguments = ['--episodes=1', '--seed=1', '--variant=bc', '--video=film.gif']
    assert evaluate.main(['dtql evaluate', f'--run={cloned}', *arguments]) == 0
    assert Path('film.gif').read_bytes().startswith(b'GIF')
    score = read_jsonl(cloned / 'reeval.jsonl')[-1]['eval/return']
    assert f'film film.gif: bc seed 1, return {score:.1f}' in capsys.readouterr().out


def test_main__a_simulator_of_another_action_box_is_noticed(cloned, capsys, monkeypatch):
    monkeypatch.setattr(tasks_env, 'action_bound', lambda *_: 0.25)
    error = refused(capsys, evaluate.main, f'--run={cloned}')
    assert 'the environment has actions in ±0.25, the policy in ±3: the policy was' in error
