"""Settings: fields that state their meaning, range and choices, and the one way to parse them.

A class of settings is a frozen dataclass that derives from `Settings`. Its fields are made by
`setting(...)`. Creating an instance checks every value. `parse` turns text from a command line or a
file into a value of the field's type.
"""

import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from dtql_jax.types import UserError, check_text

NOUNS = {int: 'a whole number', float: 'a finite number', bool: 'true or false', str: 'text'}
BOOLS = {'true': True, '1': True, 'yes': True, 'false': False, '0': False, 'no': False}


@dataclasses.dataclass(frozen=True)
class Limits:
    """The range and the choices of a value. None means unbounded."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None

    def broken(self, value: Any) -> str | None:
        """Returns what is wrong with `value`, as text, or None if nothing is."""
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
    """A field of a `Settings` class.

    Args:
        default: the default value. Without `least` and `above`, a number that defaults to 0 or more
            must not be negative.
        meaning: the text of the help page: what the setting is, with its unit.
        least: the smallest allowed value.
        most: the largest allowed value.
        above: every value must be larger than this.
        below: every value must be smaller than this.
        choices: the allowed texts.
    """
    if least is None and above is None:
        least = _least(default)
    limits = Limits(least, most, above, below, None if choices is None else tuple(choices))
    return dataclasses.field(default=default, metadata={'meaning': meaning, 'limits': limits})


def with_default(settings: 'type[Settings]', name: str, default: Any) -> Any:
    """The field `name` of `settings` with another default, for a subclass."""
    field = next(field for field in dataclasses.fields(settings) if field.name == name)
    return dataclasses.field(default=default, metadata=field.metadata)


def _least(default: Any) -> float | None:
    """0 for a number that defaults to 0 or more, else None."""
    number = isinstance(default, int | float) and not isinstance(default, bool)
    return 0 if number and default >= 0 else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """A set of settings.

    Its constructor parses the values, and raises UserError for one of another type or out of range.
    """

    def __post_init__(self) -> None:
        for name, kind in kinds(type(self)).items():
            if kind in NOUNS:
                object.__setattr__(self, name, parse(type(self), name, getattr(self, name)))

    def floats(self) -> dict[str, float]:
        """The values of all `float` fields by name: lanes of one program may differ in them."""
        types = kinds(type(self))
        return {name: getattr(self, name) for name, kind in types.items() if kind is float}


def kinds(settings: type[Settings]) -> dict[str, type]:
    """The type of each field by name, in the order of the class."""
    types = typing.get_type_hints(settings)
    return {field.name: _kind(types[field.name]) for field in dataclasses.fields(settings)}


def _kind(annotation: Any) -> type:
    """Returns `int` for `int | None`, where None is a default that is filled in later."""
    options = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
    return options[0] if type(None) in typing.get_args(annotation) else annotation


def limits(field: dataclasses.Field) -> Limits:
    """The limits of a field. One that `setting` did not make has only the implied lower bound."""
    return field.metadata.get('limits', Limits(least=_least(field.default)))


def meaning(field: dataclasses.Field) -> str:
    """The help text of a field; empty for a field that `setting` did not make."""
    return field.metadata.get('meaning', '')


def check(field: dataclasses.Field, value: Any) -> None:
    """Raises UserError if `value` is out of the field's range. None is always in range."""
    if value is not None and (broken := limits(field).broken(value)):
        raise UserError(f'`{field.name}`={value}: {broken}')


def parse(settings: type[Settings], name: str, value: Any, others: Iterable[str] = ()) -> Any:
    """Converts `value` to the type of the field `name` and checks its range.

    Args:
        settings: the class of the field.
        name: the name of the field.
        value: a value of the field's type, or text such as '3e5' or 'false'.
        others: more names that the message about an unknown name may suggest.

    Raises:
        UserError: the field does not exist (the message names the nearest ones), or the value has
            another type or is out of range.
    """
    types = kinds(settings)
    if name not in types:
        raise UserError(f'unknown setting {name!r}; nearest: {nearest(name, [*types, *others])}')
    kind: Any
    kind, given = types[name], value
    if kind is str and isinstance(value, str):
        check_text(name, value)
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
    """Parses every value of `values`, see `parse`."""
    return {name: parse(settings, name, value, others) for name, value in values.items()}


def nearest(name: str, names: Iterable[str]) -> str:
    """Lists the names most similar to `name`, or all names if none is similar."""
    names = sorted(names)
    return ', '.join(difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names)
