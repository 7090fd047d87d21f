"""Words on the command line that a shell or a person leaves as they are."""

from tools.campaign import victim
from tools.campaign.accidents import SHORT, Outcome, Place, accident, check, either, expect


@accident
def tilde_in_out(place: Place) -> Outcome:
    """`--out=~/run`, which the shell does not expand behind =."""
    ended = place.train(out='~/run', variables={'HOME': str(place.folder / 'home')})
    there = (place.folder / 'home' / 'run').exists()
    return check(expect(ended, 'done'), (there, 'a folder called ~ was made'))


@accident
def tilde_in_run(place: Place) -> Outcome:
    """`dtql evaluate --run=~/run` and `dtql plot --runs=~/run --out=~/x.png`."""
    place.train()
    home = {'HOME': str(place.folder)}
    ended = place.dtql('evaluate', '--run=~/run', '--episodes=1', variables=home)
    plot = place.dtql('plot', '--runs=~/run', '--out=~/x.png', variables=home)
    there = (place.folder / 'x.png').exists()
    return check(
        expect(ended, 'done'),
        (plot.verdict == 'done' and there, f'plot: {plot.verdict} {plot.last[:80]}'),
    )


@accident
def tilde_in_dataset_path(place: Place) -> Outcome:
    """`--dataset_path=~/data.hdf5`."""
    home = {'HOME': str(place.data.parent)}
    return expect(place.train('--dataset_path=~/data.hdf5', variables=home), 'done')


@accident
def tilde_in_agent(place: Place) -> Outcome:
    """`--agent=~/line.py:Line`."""
    home = {'HOME': str(victim.AGENT.parent)}
    return expect(place.train('--agent=~/line.py:Line', variables=home), 'done')


def odd(place: Place, *arguments: str) -> Outcome:
    """Arguments that are to be refused in one line."""
    return expect(place.dtql(*arguments), 'refused')


@accident
def null_in_out(place: Place) -> Outcome:
    """`--out` with a null character."""
    return odd(place, 'train', '--env=walk', '--out=a\0b')


@accident
def undecodable_out(place: Place) -> Outcome:
    """`--out` with bytes that are no UTF-8: it trains, or is refused."""
    ended = place.train(out='a\udcff')
    return either(ended)


@accident
def out_is_a_file(place: Place) -> Outcome:
    """`--out` lies below a file."""
    (place.folder / 'file').write_text('')
    return odd(place, 'train', '--env=walk', '--out=file/run')


@accident
def empty_words(place: Place) -> Outcome:
    """Flags with empty values."""
    outcomes = [
        odd(place, command, flag)
        for command, flag in (
            ('train', '--env='), ('train', '--agent='), ('train', '--dataset_path='),
            ('evaluate', '--run='), ('plot', '--runs='), ('collect', '--env='),
        )
    ]  # fmt: skip
    bad = [outcome for outcome in outcomes if outcome.verdict != 'as promised']
    return bad[0] if bad else outcomes[0]


@accident
def agent_whose_import_fails(place: Place) -> Outcome:
    """`--agent` names a file with a syntax error, and one that exits."""
    (place.folder / 'a.py').write_text('def (')
    (place.folder / 'b.py').write_text('import sys; sys.exit(3)')
    one = odd(place, 'train', '--env=walk', '--agent=a.py:A')
    return one if one.verdict != 'as promised' else odd(place, 'train', '--agent=b.py:B')


@accident
def resume_of_a_folder_that_is_none(place: Place) -> Outcome:
    """`--resume` of a file, of an empty folder and of nothing."""
    (place.folder / 'file').write_text('')
    (place.folder / 'empty').mkdir()
    outcomes = [
        odd(place, 'train', *SHORT, f'--out={name}', '--resume')
        for name in ('file', 'empty', 'none')
    ]
    bad = [outcome for outcome in outcomes if outcome.verdict != 'as promised']
    return bad[0] if bad else outcomes[0]
