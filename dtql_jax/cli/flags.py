"""Flags from settings, the help page, one-line errors and exit codes: what the commands share.

A command keeps its flags in a `FlagValues` of its own, so that its help page lists them and nothing
else. Exit codes: 0 done, 1 the work failed, 2 a mistake that the user can mend, and 128 + n after
signal n, as shells have it.
"""

import copy
import dataclasses
import difflib
import re
import signal
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags, logging

from dtql_jax.types import UserError

HELP = {'--help', '-help', '-h', '--helpfull', '--helpshort'}
WIDTH = 100
VALUES = {'string': 'TEXT', 'multi': 'TEXT', 'comma': 'A,B', 'int': 'N', 'float': 'X'}
GAP = 2  # spaces between the columns of the help page
MARK = re.compile(r'`(\w+)`')  # how a UserError marks the name of an argument


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


class Text(flags.ArgumentParser):
    """Any text, which is read later as a value of the type that `kind` names."""

    syntactic_help = ''

    def __init__(self, kind: str):
        super().__init__()
        self._kind = kind

    def flag_type(self) -> str:
        return self._kind


def define_settings(
    settings: type, flag_values: flags.FlagValues, names: Sequence[str] | None = None
) -> None:
    """A flag for each setting of a class (or those of `names`), with its meaning and default.

    The flags hold text: `agents.settings.parse` reads it, so that there is one way to read a value.
    A setting that has a flag already is left out.
    """
    from dtql_jax.agents.settings import kinds, limits, meaning

    types = kinds(settings)
    for field in dataclasses.fields(settings):
        if field.name in flag_values or not (names is None or field.name in names):
            continue
        choices = limits(field).choices
        text = meaning(field) + (f': {", ".join(choices)}' if choices else '')
        if types[field.name] is bool:
            flags.DEFINE_bool(field.name, field.default, text, flag_values)
        else:
            default = None if field.default is None else str(field.default)
            parser = Text({int: 'int', float: 'float'}.get(types[field.name], 'string'))
            serializer = flags.ArgumentSerializer()
            flags.DEFINE(parser, field.name, default, text, flag_values, serializer)


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
        The exit code. A UserError becomes one line on stderr, which names flags.
    """
    argv = list(sys.argv if argv is None else argv)
    if HELP & set(argv[1:]):
        print(help_page(doc, flag_values, sections))
        return 0
    logging.set_verbosity(logging.WARNING)  # Orbax tells each step of a save otherwise
    try:
        return main(parse(flag_values, argv)) or 0
    except UserError as error:
        print('error: ' + as_flags(str(error), flag_values), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        return 128 + signal.SIGINT


def as_flags(text: str, flag_values: flags.FlagValues) -> str:
    """A message of the library in one line, with the names of its arguments as flags."""
    line = ' '.join(text.splitlines())
    return MARK.sub(lambda name: f'--{name[1]}' if name[1] in flag_values else name[1], line)


def parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> flags.FlagValues:
    """A copy of `flag_values` with the values of `argv`; UserError where they are wrong."""
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


def help_page(
    doc: str, flag_values: flags.FlagValues, sections: Mapping[str, Sequence[str]] | None = None
) -> str:
    """The docstring, then each flag with its meaning and its default, in columns.

    `sections` are groups of flags by their heading; without, all flags are one group.
    """
    parts = [doc.strip()]
    for title, names in (sections or {'Flags': list(flag_values)}).items():
        parts.append(f'{title}:\n' + '\n'.join(_flag_lines(flag_values, names)))
    return '\n\n'.join(parts)


def _flag_lines(flag_values: flags.FlagValues, names: Sequence[str]) -> list[str]:
    rows = []
    for name in names:
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
    lines: list[str] = []
    for spelling, text in rows:
        first, *more = textwrap.wrap(text, WIDTH - left - GAP) or ['']
        lines += [f'  {spelling:<{left}}{first}'.rstrip()]
        lines += [' ' * (left + GAP) + line for line in more]
    return lines
