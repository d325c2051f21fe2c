"""The rules of a configuration's numbers, which stand at its fields, and what reads and changes them by name.

    learning_rate: Annotated[float, SHARE, Search(0.003, 0.05, log=True)] = 0.01  # of a new sample

A field's default, the values that it may have, the range that `eval.tune` searches and its meaning stand in that one
line. `validate` reads them at the host's edge: inside jit a float may be a tracer, so nothing checks it there.
A Config whose fields must fit each other has a method `misfits`, an iterator of pairs (dotted field, what it must be).
"""

import ast
import dataclasses
import functools
import itertools
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple


class SettingError(ValueError):
    """A setting that cannot be; the message is one line that names it and what it must be."""


LONGEST = 300  # characters of a value in a message


class Rule(NamedTuple):
    """What a field's numbers or names must be; a tuple keeps the rule if all its elements do, and None always does."""

    text: str
    holds: Callable[[Any], bool]


class Search(NamedTuple):
    """Where `eval.tune` searches a float unless it is told."""

    low: float
    high: float
    log: bool = False  # drawn uniformly in the logarithm


class Fixed(NamedTuple):
    """A field that `override` and `substitute` do not change, and why; code may, with `dataclasses.replace`."""

    text: str


OF_THE_TRACKER = Fixed("belongs to the tracker, as its weights do; choose a tracker that runs on it")  # a model
ANY = Rule("finite", lambda value: not isinstance(value, float) or math.isfinite(value))  # every number keeps this one
BOUNDED = Rule("at most 2**32", lambda value: not isinstance(value, int) or abs(value) <= 2**32)  # and this one
POSITIVE = Rule("> 0", lambda value: value > 0)
NOT_NEGATIVE = Rule(">= 0", lambda value: value >= 0)
COUNT = Rule(">= 1", lambda value: value >= 1)
SHARE = Rule("in (0, 1)", lambda value: 0 < value < 1)
FRACTION = Rule("in [0, 1)", lambda value: 0 <= value < 1)
FACTOR = Rule("in (0, 1]", lambda value: 0 < value <= 1)
PROBABILITY = Rule("in [0, 1]", lambda value: 0 <= value <= 1)
QUALITY = Rule("in [1, 100]", lambda value: 1 <= value <= 100)  # of a JPEG file
ABOVE_ONE = Rule("> 1", lambda value: value > 1)
EVEN = Rule("even and > 0", lambda value: value > 0 and value % 2 == 0)
ODD = Rule("odd and > 0", lambda value: value > 0 and value % 2 == 1)
SCALES = Rule("odd and >= 3", lambda value: value >= 3 and value % 2 == 1)  # as many above the middle one as below


def multiple_of(number: int) -> Rule:
    return Rule(f"a positive multiple of {number}", lambda value: value > 0 and value % number == 0)


def one_of(*choices: Any) -> Rule:
    return Rule(f"one of {', '.join(map(str, choices))}", lambda value: value in choices)


def validate(config: Any, prefix: str = "") -> None:
    """SettingError, one line with the (dotted) field, its value and what it must be, for the first mistake in a Config.

    Any frozen dataclass, with those within it: values have the type that is declared, numbers are finite, fields keep
    the rules at them and fit each other. prefix: of the names.
    """
    for field, hint in hints(type(config)).items():
        name, value = prefix + field, getattr(config, field)
        if not _has_type(value, hint):
            raise wrong(name, value, f"of type {_type_name(typing.get_type_hints(type(config))[field])}")
        for index, inner in _configs(value):
            validate(inner, f"{name}.{index}")
        for leaf, rules in _leaves(value, hint):
            broken = next((rule for rule in (ANY, BOUNDED, *rules) if not rule.holds(leaf)), None)
            if broken:
                raise wrong(name, value, broken.text)
    for field, text in config.misfits() if hasattr(config, "misfits") else ():
        raise wrong(prefix + field, functools.reduce(getattr, field.split("."), config), text)


def wrong(name: str, value: Any, text: str) -> SettingError:
    """The error of a field that must be something else; the values of a config within it are not shown."""
    shown = "" if dataclasses.is_dataclass(value) else f"={_brief(value)}"
    return SettingError(f"{name}{shown}: must be {text}")


def _brief(value: Any) -> str:
    """A value, or the beginning of what was typed, for a message; Python prints no whole number of 5000 digits."""
    if isinstance(value, int) and abs(value) > 10**40:
        return f"a number of {value.bit_length()} bits"
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@functools.cache
def hints(kind: type) -> dict[str, Any]:
    """The declared type of each field of a dataclass, with its rules."""
    declared = typing.get_type_hints(kind, include_extras=True)
    return {field.name: declared[field.name] for field in dataclasses.fields(kind)}


def searches(config: Any, prefix: str = "") -> dict[str, Search]:
    """`{dotted path: where it is searched}` of the fields with a `Search`: a config's own, then those within it."""
    found, declared = {}, hints(type(config))
    for field, hint in declared.items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Search):
                found[prefix + field] = mark
    for field in declared:
        for index, inner in _configs(getattr(config, field)):
            found |= searches(inner, f"{prefix}{field}.{index}")
    return found


def configure(config: Any, assignments: list[str]) -> Any:
    """`override`, then `validate`."""
    config = override(config, assignments)
    validate(config)
    return config


def override(config: Any, assignments: list[str]) -> Any:
    """A frozen dataclass with `field=value` (or `outer.inner=value`) applied, in order.

    A value must have the type of the present one (a whole number may stand for a float; a field that is None
    takes anything). SettingError for an unknown field or a value of another type.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError(f"{_brief(assignment)!r} is not field=value")
        config = _replace(config, path, functools.partial(_parse, text, path))
    return config


def substitute(config: Any, values: Mapping[str, Any]) -> Any:
    """A frozen dataclass with `values` at dotted paths, taken as they are: traced numbers and whole configs, too."""
    for path, value in values.items():
        config = _replace(config, path, lambda _, value=value: value)
    return config


def float_fields(config: Any, prefix: str = "") -> dict[str, float]:
    """`{dotted path: value}` of the fields that hold a float; not whole numbers, None or tuples."""
    return {path: value for path, value in _paths(config, prefix) if isinstance(value, float)}


def _paths(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every field that is not a config itself."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _paths(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value


def _replace(config: Any, path: str, replacement: Callable[[Any], Any]) -> Any:
    """`config` with `replacement(present value)` at a dotted path."""

    def within(part: Any, names: list[str]) -> Any:
        known = [field.name for field in dataclasses.fields(part)]
        if names[0] not in known:
            meant = [other for other, _ in _paths(config) if other.split(".")[-1] == names[-1]]
            choices = f"did you mean {' or '.join(meant)}" if meant else f"it has {', '.join(known)}"
            part_name = type(part).__name__
            raise SettingError(f"{_brief(path)}: {part_name} has no field {_brief(names[0])!r}; {choices}")
        present = getattr(part, names[0])
        if len(names) > 1 and not dataclasses.is_dataclass(present):
            raise SettingError(f"{_brief(path)}: {names[0]} is {_brief(present)}, which has no fields")
        value = within(present, names[1:]) if len(names) > 1 else replacement(present)
        for mark in getattr(hints(type(part))[names[0]], "__metadata__", ()):
            if isinstance(mark, Fixed) and value != present:
                raise SettingError(f"{path}={value}: {mark.text} ({present} here)")
        try:
            return dataclasses.replace(part, **{names[0]: value})
        except ValueError as error:  # of a dataclass that checks itself
            raise error if isinstance(error, SettingError) else SettingError(f"{_brief(path)}: {error}") from error

    return within(config, path.split("."))


def _parse(text: str, name: str, present: Any) -> Any:
    if isinstance(present, str):
        return text
    if dataclasses.is_dataclass(present):
        inner = dataclasses.fields(present)[0].name
        raise SettingError(f"{name}: is a config; name one number in it, as in {name}.{inner}=value")
    try:
        value = ast.literal_eval(text)
        if isinstance(present, float) and type(value) is int:
            value = float(value)
    except (ValueError, SyntaxError, OverflowError, RecursionError, MemoryError):  # the last two: of nested brackets
        raise SettingError(
            f"{name}={_brief(text)}: not a value; {name} is a {type(present).__name__} like {_brief(present)}"
        ) from None
    if isinstance(present, tuple) and isinstance(value, list):
        value = tuple(value)
    if present is not None and type(value) is not type(present):
        raise SettingError(f"{name}={_brief(text)}: must be a {type(present).__name__} like {_brief(present)}")
    return value


def _configs(value: Any) -> Iterator[tuple[str, Any]]:
    """(what its fields' names begin with, config) for a config, or for each config in a tuple."""
    if dataclasses.is_dataclass(value):
        yield "", value
    elif isinstance(value, tuple):
        yield from ((f"{index}.", each) for index, each in enumerate(value) if dataclasses.is_dataclass(each))


def _leaves(value: Any, hint: Any, rules: tuple[Rule, ...] = ()) -> Iterator[tuple[Any, tuple[Rule, ...]]]:
    """The numbers and names in the value of a field, each with its rules; `value` has the type `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        marks = tuple(mark for mark in hint.__metadata__ if isinstance(mark, Rule))
        yield from _leaves(value, arguments[0], rules + marks)
    elif _is_union(hint):
        yield from _leaves(value, next(one for one in arguments if _has_type(value, one)), rules)
    elif origin is tuple:
        declared = itertools.repeat(arguments[0]) if arguments[-1] is Ellipsis else arguments
        for element, inner in zip(value, declared):
            yield from _leaves(element, inner, rules)
    elif value is not None and not dataclasses.is_dataclass(value):
        yield value, rules


def _has_type(value: Any, hint: Any) -> bool:
    """Whole numbers stand for floats; a bool is not a number."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _has_type(value, arguments[0])
    if _is_union(hint):
        return any(_has_type(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(_has_type(element, arguments[0]) for element in value)
        return len(value) == len(arguments) and all(map(_has_type, value, arguments))
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return hint is Any or isinstance(value, origin or hint)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
