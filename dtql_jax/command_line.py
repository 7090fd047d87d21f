"""What the scripts of `experiments/` share: flags, the help page, one-line errors, exit codes.

A script keeps its flags in a `FlagValues` of its own, so that its help page lists them and nothing
else. Exit codes: 0 done, 1 the work failed, 2 a mistake that the user can mend, and 128 + n after
signal n, as shells have it.
"""

import copy
import difflib
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence

from absl import flags

HELP = {'--help', '-help', '-h', '--helpfull', '--helpshort'}
WIDTH = 100
VALUES = {'string': 'TEXT', 'multi': 'TEXT', 'comma': 'A,B', 'int': 'N', 'float': 'X'}
GAP = 2  # spaces between the columns of the help page


class Whole(flags.IntegerParser):
    """Whole numbers, `3e5` among them."""

    def convert(self, argument: str | int) -> int:
        number = float(argument)
        if not number.is_integer():
            raise ValueError(argument)
        return int(argument) if isinstance(argument, int) or argument.isdigit() else int(number)


def define_whole(name: str, default: int | None, text: str, flag_values: flags.FlagValues) -> None:
    """Like `flags.DEFINE_integer`, for numbers that may be written as `3e5`."""
    flags.DEFINE(Whole(), name, default, text, flag_values, flags.ArgumentSerializer())


def run_script(
    main: Callable[[flags.FlagValues], int | None],
    flag_values: flags.FlagValues,
    doc: str,
    argv: Sequence[str] | None = None,
) -> int:
    """Runs `main` on the parsed flags and returns the exit code of the script.

    `doc`, the script's docstring, heads its help page. A UserError becomes one line on stderr.
    """
    argv = list(sys.argv if argv is None else argv)
    if HELP & set(argv[1:]):
        print(help_page(doc, flag_values))
        return 0
    from dtql_jax.types import UserError  # brings jax along, which the help page can do without

    try:
        return main(parse(flag_values, argv)) or 0
    except UserError as error:
        print('error: ' + ' '.join(str(error).splitlines()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 128 + signal.SIGINT


def parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> flags.FlagValues:
    """A copy of `flag_values` with the values of `argv`; UserError where they are wrong."""
    from dtql_jax.types import UserError

    parsed = copy.deepcopy(flag_values)
    try:
        rest = parsed(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        near = difflib.get_close_matches(name, flag_values, n=3, cutoff=0.5) or list(flag_values)
        names = ', '.join(f'--{n}' for n in near)
        raise UserError(f'unknown flag --{name}; nearest: {names}') from None
    except flags.IllegalFlagValueError as error:
        given = re.match(r'flag (--(\w+)=.*?): ', str(error), re.DOTALL)
        kind = {'int': 'whole number', 'bool': 'true or false', 'float': 'number'}
        wanted = kind[flag_values[given[2]].parser.flag_type()]
        raise UserError(f'{given[1]}: not a {wanted}'.replace('a true', 'true')) from None
    except flags.Error as error:
        raise UserError(f'{error}; see --help') from None
    if rest:
        raise UserError(f'{rest[0]!r} is no flag: flags begin with --, see --help')
    return parsed


def help_page(doc: str, flag_values: flags.FlagValues) -> str:
    """The docstring, then each flag with its meaning and its default, in columns."""
    rows = []
    for name in flag_values:
        flag = flag_values[name]
        default = flag.default
        if flag.boolean:
            spelling = f'--{name}'
        else:
            spelling = f'--{name}={VALUES[flag.parser.flag_type().split()[0]]}'
        shown = '' if default in (None, False, []) else f' (default: {default})'
        # absl adds a hint to flags that may be repeated, on a line of its own.
        rows.append((spelling, flag.help.split(';\n')[0] + shown))
    left = max(len(spelling) for spelling, _ in rows) + GAP
    lines = []
    for spelling, text in rows:
        first, *more = textwrap.wrap(text, WIDTH - left - GAP)
        lines += [f'  {spelling:<{left}}{first}', *(' ' * (left + GAP) + line for line in more)]
    return '\n'.join([doc.strip(), '', 'Flags:', *lines])
