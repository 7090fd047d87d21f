"""Settings: fields that state their own meaning, range and choices, and the one way to read them.

A class of settings is a frozen dataclass of `setting(...)` fields that derives from `Settings`. Its
values are checked when it is made, whoever makes it. `parse` turns text, as a command line or a
file has it, into a value of the field's type.
"""

import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from dtql_jax.types import UserError

NOUNS = {int: 'a whole number', float: 'a finite number', bool: 'true or false', str: 'text'}
BOOLS = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a value must keep to; None where there is no such bound."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None

    def broken(self, value: Any) -> str | None:
        """What `value` must be, in words, where it is not; else None."""
        if self.choices is not None and value not in self.choices:
            return f'must be one of {", ".join(self.choices)}'
        if self.least is not None and value < self.least:
            return f'must be at least {self.least}'
        if self.most is not None and value > self.most:
            return f'must be at most {self.most}'
        if self.above is not None and value <= self.above:
            return f'must be above {self.above}'
        if self.below is not None and value >= self.below:
            return f'must be below {self.below}'
        return None


def setting(
    default: Any,
    meaning: str = '',
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Iterable[str] | None = None,
) -> Any:
    """A field of `Settings`.

    Args:
        default: the value where nobody gives one. A number without a bound must not be negative.
        meaning: what it is, with its unit: the text of the help page.
        least: the smallest value allowed.
        most: the largest value allowed.
        above: a value must be larger than this.
        below: a value must be smaller than this.
        choices: the texts allowed.
    """
    number = isinstance(default, int | float) and not isinstance(default, bool)
    if number and least is None and above is None:
        least = 0
    limits = Limits(least, most, above, below, None if choices is None else tuple(choices))
    return dataclasses.field(default=default, metadata={'meaning': meaning, 'limits': limits})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A set of settings. Making one raises UserError for a value out of range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check(field, getattr(self, field.name))

    def floats(self) -> dict[str, float]:
        """The fields of type `float` by name: those that lanes of one program may differ in."""
        types = kinds(type(self))
        return {name: getattr(self, name) for name, kind in types.items() if kind is float}


def kinds(settings: type[Settings]) -> dict[str, type]:
    """Each field's type by name, in the order of the class."""
    types = typing.get_type_hints(settings)
    return {field.name: _kind(types[field.name]) for field in dataclasses.fields(settings)}


def _kind(annotation: Any) -> type:
    """`int` of `int | None`: None stands for a default that is known later."""
    options = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    return options[0] if type(None) in typing.get_args(annotation) else annotation


def limits(field: dataclasses.Field) -> Limits:
    """The bounds of a field: those of `setting`, or that a number must not be negative."""
    number = isinstance(field.default, int | float) and not isinstance(field.default, bool)
    return field.metadata.get('limits', Limits(least=0) if number else Limits())


def meaning(field: dataclasses.Field) -> str:
    """What a field is, in words; empty where its class does not say."""
    return field.metadata.get('meaning', '')


def check(field: dataclasses.Field, value: Any) -> None:
    """Raises UserError where `value` is out of the field's range."""
    if value is not None and (broken := limits(field).broken(value)):
        raise UserError(f'`{field.name}`={value}: {broken}')


def parse(settings: type[Settings], name: str, value: Any, others: Iterable[str] = ()) -> Any:
    """`value`, which may be text, as a value of the field `name`.

    Args:
        settings: the class that has the field.
        name: the field.
        value: a value of its type, or text that tells one, such as '3e5' or 'false'.
        others: further names that a message about an unknown one may suggest.

    Raises:
        UserError: there is no such field (the text names the nearest), or the value is of another
            type or out of range.
    """
    types = kinds(settings)
    if name not in types:
        raise UserError(f'unknown setting {name!r}; nearest: {nearest(name, [*types, *others])}')
    kind, given = types[name], value
    field = next(field for field in dataclasses.fields(settings) if field.name == name)
    if value is None and field.default is None:
        return None
    if kind is bool:
        value = BOOLS.get(str(value).lower(), value)
    elif not isinstance(value, bool):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            # '3e5' is a fine number of steps; 2.5 is not.
            if kind is float or (kind is int and float(value).is_integer()):
                value = kind(float(value)) if isinstance(value, str) else kind(value)
    if type(value) is not kind or (kind is float and not math.isfinite(value)):
        raise UserError(f'`{name}`={given!r}: not {NOUNS.get(kind, kind.__name__)}')
    check(field, value)
    return value


def parse_all(
    settings: type[Settings], values: Mapping[str, Any], others: Iterable[str] = ()
) -> dict[str, Any]:
    """`values` with each parsed by `parse`."""
    return {name: parse(settings, name, value, others) for name, value in values.items()}


def nearest(name: str, names: Iterable[str]) -> str:
    """The known names most like `name`, or all of them, as text."""
    names = sorted(names)
    return ', '.join(difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names)
