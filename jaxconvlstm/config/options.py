"""What every options dataclass does: check and convert its values when it is made.

The field names are the flags of `train.py` (with dashes for underscores) and the keys of a run
folder's `config.json`; the text below a field is the help text of its flag.
"""

import dataclasses
import math
import numbers
import os
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Self

from jaxconvlstm.checks import check_positive
from jaxconvlstm.errors import ConfigError

LARGEST = 2**31 - 1
"""Largest whole number that any setting takes."""


def flag(name: str) -> str:
    """The flag of a field: `input_frames` to `--input-frames`."""
    return "--" + name.replace("_", "-")


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of all options: a wrong value is refused where the dataclass is made.

    Values are converted where nothing is lost: lists to tuples, a single number to a tuple of one
    where several may stand, NumPy's numbers to Python's, paths to text.

    Raises:
      ConfigError: a value is not of its field's type, or none of its choices.
    """

    def __post_init__(self) -> None:
        for name, hint in _hints(self.__class__).items():
            given = getattr(self, name)
            value = _convert(given, hint)
            if value is _REFUSED:
                got = repr(given)
                got = got if len(got) <= 100 else f"{got[:100]}…"
                raise ConfigError(f"{self._label(name)}: expected {_describe(hint)}, got {got}")
            # Frozen for everybody else.
            object.__setattr__(self, name, value)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all fields."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def accepts(cls, name: str, value: Any) -> bool:
        """The value is of the field's type and one of its choices."""
        return _convert(value, _hints(cls)[name]) is not _REFUSED

    @classmethod
    def known_names(cls) -> set[str]:
        """The names that a file may give."""
        return set(cls.names())

    def updated(self, values: Mapping[str, Any], source: str) -> Self:
        """The same options with some values from a file.

        Raises:
          ConfigError: a name that no field has, or a wrong value; `source` is named.
        """
        if unknown := values.keys() - self.known_names():
            raise ConfigError(f"{source}: unknown key {', '.join(sorted(unknown))}")
        try:
            return dataclasses.replace(self, **values)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from None

    def _label(self, name: str) -> str:
        """What an error calls a field."""
        return flag(name)

    def _check_positive(self, *names: str) -> None:
        """Each of these that is set is above 0."""
        for name in names:
            value = getattr(self, name)
            for number in value if isinstance(value, tuple) else (value,):
                if number is not None:
                    check_positive(flag(name), number)

    def _check_not_negative(self, *names: str, unit: str = "") -> None:
        """Each of these that is set is a finite number, 0 or above."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not (value >= 0 and math.isfinite(value)):
                raise ConfigError(f"{flag(name)}: expected 0 or more{unit}, got {value:g}")


_REFUSED: Any = object()


_known_hints: dict[type, dict[str, Any]] = {}


def _hints(kind: type[Options]) -> dict[str, Any]:
    """The types of a dataclass's fields, resolved once."""
    if kind not in _known_hints:
        hints = typing.get_type_hints(kind)
        _known_hints[kind] = {name: hints[name] for name in kind.names()}
    return _known_hints[kind]


def _convert(value: Any, hint: Any) -> Any:
    """`value` as the type that a field is annotated with, or `_REFUSED`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        fitting = [choice for choice in arguments if choice == value]
        # True equals 1, and is no number of channels.
        return fitting[0] if fitting and not isinstance(value, bool) else _REFUSED
    if origin in (types.UnionType, typing.Union):
        converted = (_convert(value, argument) for argument in arguments)
        return next((found for found in converted if found is not _REFUSED), _REFUSED)
    if origin is tuple:
        return _convert_tuple(value, arguments)
    if hint in (int, float):
        wanted = numbers.Integral if hint is int else numbers.Real
        if not isinstance(value, wanted) or isinstance(value, bool):
            return _REFUSED
        try:
            number = float(value)  # an integer may be too large for that
        except OverflowError:
            return _REFUSED
        if hint is int and abs(number) > LARGEST:
            return _REFUSED
        return value if type(value) in (int, float) else hint(value)
    if hint is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping) and hasattr(hint, "from_json"):
        return hint.from_json(value)
    return value if isinstance(value, hint) else _REFUSED


def _convert_tuple(value: Any, hints: tuple[Any, ...]) -> Any:
    """A list or tuple as a tuple; with `hints` of (type, ...), a single value too."""
    several = hints[-1] is Ellipsis
    if not isinstance(value, list | tuple):
        if not several:
            return _REFUSED
        value = (value,)
    kinds = (hints[0],) * len(value) if several else hints
    if not value or len(kinds) != len(value):
        return _REFUSED
    found = tuple(map(_convert, value, kinds))
    return _REFUSED if any(item is _REFUSED for item in found) else found


def _describe(hint: Any) -> str:
    """A type in words, for an error: "one of adam, adamw", "2 whole numbers", "a number"."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        choices = ", ".join(map(str, arguments))
        return f"one of {choices}" if len(arguments) > 1 else choices
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_describe(argument) for argument in arguments)
    if origin is tuple:
        kind = {int: "whole numbers", float: "numbers"}.get(arguments[0], "values")
        return kind if arguments[-1] is Ellipsis else f"{len(arguments)} {kind}"
    whole = f"a whole number of at most {LARGEST}"
    words = {int: whole, float: "a number", str: "text", bool: "true or false"}
    return "nothing" if hint is types.NoneType else words.get(hint, f"a {hint.__name__}")
