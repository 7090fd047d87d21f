"""What the commands share: flags from settings, the help page, exit codes.

A command keeps its flags in a `FlagValues` of its own, so that its help page lists them and nothing
else. Exit codes: 0 done, 1 the work failed, 2 a mistake that the user can mend, in the flags or on
the machine, and 128 + n after signal n, as a shell has it.
"""

import copy
import dataclasses
import difflib
import re
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging

from dtql_jax.cli.boundary import one_line
from dtql_jax.types import UserError, check_text

HELP = {'--help', '-help', '-h', '--helpfull', '--helpshort'}
WIDTH = 100
VALUES = {'string': 'TEXT', 'multi': 'TEXT', 'comma': 'A,B', 'int': 'N', 'float': 'X'}
GAP = 2  # spaces between the columns of the help page
MARK = re.compile(r"`(\w+)`(?:='([^']*)')?")  # an argument in a UserError, with its value if text


class Whole(flags.IntegerParser):
    """A parser of whole numbers, `3e5` among them."""

    def convert(self, argument: str | int) -> int:
        number = float(argument)
        if not number.is_integer():
            raise ValueError(argument)
        return int(argument) if isinstance(argument, int) or argument.isdigit() else int(number)


def define_whole(name: str, default: int | None, text: str, flag_values: flags.FlagValues) -> None:
    """Defines a flag like `flags.DEFINE_integer`, for numbers that may be written as `3e5`."""
    flags.DEFINE(Whole(), name, default, text, flag_values, flags.ArgumentSerializer())


class Text(flags.ArgumentParser):
    """A parser that keeps the text; `agents.settings.parse` reads it as a value of type `kind`."""

    syntactic_help = ''

    def __init__(self, kind: type):
        super().__init__()
        self._kind = kind

    def parse(self, argument: Any) -> Any:
        return argument

    def flag_type(self) -> str:
        return self._kind.__name__ if self._kind in (bool, int, float) else 'string'


def define_settings(
    settings: type, flag_values: flags.FlagValues, names: Sequence[str] | None = None
) -> list[str]:
    """Defines a flag for each setting of a class, with its meaning and default.

    The flags hold text, so that `agents.settings.parse` is the one way to read a value.

    Args:
        settings: the class.
        flag_values: receives the flags. A setting that it has already is left out.
        names: the settings to define; all without.

    Returns:
        The names of the flags that were defined.
    """
    from dtql_jax.agents.settings import kinds, limits, meaning

    defined = []
    for field in dataclasses.fields(settings):
        if field.name in flag_values or not (names is None or field.name in names):
            continue
        kind, choices = kinds(settings)[field.name], limits(field).choices
        flags.DEFINE(
            Text(kind),
            field.name,
            field.default,
            meaning(field) + (f': {", ".join(choices)}' if choices else ''),
            flag_values,
            flags.ArgumentSerializer(),
            boolean=kind is bool,
        )
        defined.append(field.name)
    return defined


def shown(value: Any) -> str:
    """A value as the command line spells it and a person reads it: `true`, `1,000,000`."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'{value:,}' if isinstance(value, int) else str(value)


def given(parsed: flags.FlagValues, names: Sequence[str]) -> dict[str, Any]:
    """The values of those flags of `names` that the user has given."""
    return {name: parsed[name].value for name in names if parsed[name].present}


def run_command(
    main: Callable[[flags.FlagValues], int | None],
    flag_values: flags.FlagValues,
    doc: str,
    argv: Sequence[str] | None = None,
    sections: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Runs `main` on the parsed flags.

    Args:
        main: the command; its result is the exit code, None for 0.
        flag_values: its flags.
        doc: heads its help page.
        argv: the arguments, the program's name first; those of the process without.
        sections: groups of flags on the help page, by heading.

    Returns:
        The exit code. Errors become one line on stderr, which names flags; see `one_line`.
    """
    argv = list(sys.argv if argv is None else argv)
    logging.set_verbosity(logging.WARNING)  # Orbax reports each step of a save otherwise

    def work() -> int:
        if HELP & set(argv[1:]):
            print(help_page(doc, flag_values, sections))
            return 0
        return main(parse(flag_values, argv)) or 0

    return one_line(work, argv, lambda text: as_flags(text, flag_values))


def as_flags(text: str, flag_values: flags.FlagValues) -> str:
    """A message of the library in one line, with the names of its arguments as flags."""

    def flag(mark: re.Match) -> str:
        name = f'--{mark[1]}' if mark[1] in flag_values else mark[1]
        return name if mark[2] is None else f'{name}={mark[2]}'

    return MARK.sub(flag, ' '.join(text.splitlines()))


def parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> flags.FlagValues:
    """A copy of `flag_values` with the values of `argv`.

    Raises:
        UserError: a flag is unknown or has a wrong value, or there is a word that is no flag.
    """
    parsed = copy.deepcopy(flag_values)
    try:
        rest = parsed(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        near = difflib.get_close_matches(name, flag_values, n=3, cutoff=0.5) or list(flag_values)
        names = ', '.join(f'--{n}' for n in near)
        raise UserError(f'unknown flag --{name}; nearest: {names}') from None
    except flags.IllegalFlagValueError as error:
        found = re.match(r'flag (--(\w+)=.*?): ', str(error), re.DOTALL)
        if found is None:
            raise UserError(f'{error}; see --help') from None
        kind = {'int': 'a whole number', 'bool': 'true or false', 'float': 'a number'}
        wanted = kind.get(flag_values[found[2]].parser.flag_type(), 'a list: A,B or "A,",B')
        raise UserError(f'{found[1]}: not {wanted}') from None
    except (flags.Error, ValueError) as error:  # the latter for `--noresume=1`
        raise UserError(f'{error}; see --help') from None
    if rest:
        raise UserError(f'{rest[0]!r} is no flag: flags begin with --, see --help')
    for name, value in given(parsed, list(parsed)).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                check_text(name, text)
    return parsed


def help_page(
    doc: str, flag_values: flags.FlagValues, sections: Mapping[str, Sequence[str]] | None = None
) -> str:
    """The docstring, then each flag with its meaning and its default, in columns.

    `sections` are groups of flags by their heading; without, all flags are one group.
    """
    parts = [doc.strip()]
    for title, names in (sections or {'Flags': list(flag_values)}).items():
        rows = [_flag_row(flag_values[name]) for name in names]
        parts.append('\n'.join([f'{title}:', *(f'  {line}' for line in columns(rows, WIDTH - 2))]))
    return '\n\n'.join(parts)


def _flag_row(flag: flags.Flag) -> tuple[str, str]:
    """A flag as it is written, and its meaning with its default."""
    kind = flag.parser.flag_type().split()[0]
    negated = '[no]' if isinstance(flag.parser, Text) else ''  # a setting may be on by default
    spelling = f'--{negated}{flag.name}' if flag.boolean else f'--{flag.name}={VALUES[kind]}'
    default = shown(flag.default)
    # absl adds a hint to flags that may be repeated, on a line of its own.
    text = flag.help.split(';\n')[0]
    if default in ('None', 'false', '[]'):
        return spelling, text
    return spelling, f'{text} (default: {default})'


def columns(rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Lines of rows in columns aligned to the left, the last column wrapped at `width`."""
    widths = [max(map(len, column)) + GAP for column in list(zip(*rows, strict=True))[:-1]]
    left = sum(widths)
    lines: list[str] = []
    for *cells, text in rows:
        head = ''.join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True))
        first, *more = textwrap.wrap(text, width - left, break_on_hyphens=False) or ['']
        lines += [f'{head}{first}'.rstrip(), *(' ' * left + line for line in more)]
    return lines
