"""Tries what accidents do to a run, and what other people's files do to the package.

  python -m tools.campaign kills --count=200 --out=campaign
  python -m tools.campaign faults --count=200 --out=campaign
  python -m tools.campaign accidents --out=campaign [--only=NAME,NAME] [--checkout=DIR]
  python -m tools.campaign fuzz --minutes=10 --out=campaign
  python -m tools.campaign table BEFORE.json AFTER.json

Each kind writes OUT/KIND.json. A call with the same OUT goes on with what it has not yet tried.
README.md beside this file says what each kind does and how it judges.
"""

import argparse
import pathlib
import sys

KINDS = ('kills', 'faults', 'accidents', 'fuzz')
ROOT = pathlib.Path(__file__).parents[2]


def main(argv: list[str] | None = None) -> int:
    """Runs a campaign, or prints a table of its results; returns the exit code."""
    parser = argparse.ArgumentParser(
        'python -m tools.campaign',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('kind', choices=(*KINDS, 'table'))
    parser.add_argument('results', nargs='*', help='for table: files of results')
    parser.add_argument('--count', type=int, default=200, help='kills, or faults')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', default='campaign', help='folder of results and working files')
    parser.add_argument('--minutes', type=float, help='stop adding results after this time')
    parser.add_argument('--only', default='', help='accidents to try, by name')
    parser.add_argument('--checkout', default=ROOT, help='folder whose dtql_jax is tried')
    asked = parser.parse_args(argv)
    if asked.kind == 'table':
        from tools.campaign.table import table

        print(table([pathlib.Path(path) for path in asked.results]))
        return 0
    return try_kind(asked)


def try_kind(asked: argparse.Namespace) -> int:
    """Runs a campaign on a checkout; 1 where something that was tried went wrong."""
    checkout = pathlib.Path(asked.checkout).resolve()
    sys.path.insert(0, str(checkout))
    from tools.campaign import victim
    from tools.campaign.store import Store, about

    out = pathlib.Path(asked.out).resolve()
    work = out / f'{asked.kind}-work'
    victim.prepare(work)
    victim.preload()
    store = Store(
        out / f'{asked.kind}.json', asked.kind, about(checkout, asked.seed), asked.minutes
    )
    if asked.kind == 'kills':
        from tools.campaign import kills

        kills.campaign(work, store, asked.count, asked.seed)
    elif asked.kind == 'faults':
        from tools.campaign import faults

        faults.campaign(work, store, asked.count, asked.seed)
    elif asked.kind == 'accidents':
        from tools.campaign import accidents

        accidents.campaign(work, store, checkout, asked.only.split(',') if asked.only else None)
    else:
        from tools.campaign import fuzz

        fuzz.campaign(work, store, asked.minutes or 10, asked.seed)
    from tools.campaign.table import good

    return 0 if all(good(record) for record in store.records.values()) else 1


if __name__ == '__main__':
    sys.exit(main())
