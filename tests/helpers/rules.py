"""Which fields of a configuration have no rule."""

import dataclasses
import typing
from typing import Annotated, Any

from trackers.rules import Rule, hints


def unruled(kind: type) -> list[str]:
    """Dotted names of the fields of a Config, and of all that may be within it, that have no rule; bools need none."""
    return [name for field, hint in hints(kind).items() for name in _unruled(hint, field)]


def _unruled(hint: Any, name: str) -> list[str]:
    if dataclasses.is_dataclass(hint):
        return [f"{name}.{inner}" for inner in unruled(hint)]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        return [] if any(isinstance(mark, Rule) for mark in hint.__metadata__) else _unruled(arguments[0], name)
    if arguments:  # of a union or a tuple
        return list(dict.fromkeys(found for argument in arguments for found in _unruled(argument, name)))
    return [] if hint in (bool, type(None), Ellipsis) else [name]
