"""What a run was made from: overrides of a config by name, hashes and versions."""

import ast
import dataclasses
import hashlib
import json
import platform
import subprocess
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from trackers.rules import validate


class SettingError(ValueError):
    """An override that cannot be applied; the message is one line and names the choices."""


def configure(config: Any, assignments: list[str]) -> Any:
    """`override`, then the range checks of `trackers.rules`; SettingError for whatever is wrong."""
    config = override(config, assignments)
    try:
        validate(config)
    except ValueError as error:
        raise SettingError(str(error)) from error
    return config


def override(config: Any, assignments: list[str]) -> Any:
    """A frozen dataclass with `field=value` (or `outer.inner=value`) applied, in order.

    A value must have the type of the present one (a whole number may stand for a float; a field that is None
    takes anything). SettingError for an unknown field or a value of another type.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError(f"{assignment!r} is not field=value")
        config = _replace(config, path.split("."), partial(_parse, text, path), path)
    return config


def substitute(config: Any, values: Mapping[str, Any]) -> Any:
    """A frozen dataclass with `values` at dotted paths, taken as they are: a traced number, too. No checks."""
    for path, value in values.items():
        config = _replace(config, path.split("."), lambda _, value=value: value, path)
    return config


def float_fields(config: Any, prefix: str = "") -> dict[str, float]:
    """`{dotted path: value}` of the fields that hold a float; whole numbers, None and tuples are none."""
    found = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            found |= float_fields(value, f"{prefix}{field.name}.")
        elif isinstance(value, float):
            found[prefix + field.name] = value
    return found


def _replace(config: Any, path: list[str], replacement: Callable[[Any], Any], whole: str) -> Any:
    names = [field.name for field in dataclasses.fields(config)]
    if path[0] not in names:
        raise SettingError(
            f"{whole}: {type(config).__name__} has no field {path[0]!r}; it has {', '.join(names)}"
        )
    present = getattr(config, path[0])
    if dataclasses.is_dataclass(present) != (len(path) > 1):
        raise SettingError(
            f"{whole}: name one number of a config, outer.inner=value where configs are nested"
        )
    value = _replace(present, path[1:], replacement, whole) if len(path) > 1 else replacement(present)
    return dataclasses.replace(config, **{path[0]: value})


def _parse(text: str, name: str, present: Any) -> Any:
    if isinstance(present, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise SettingError(
            f"{name}={text}: not a value; {name} is a {type(present).__name__} like {present!r}"
        ) from None
    if isinstance(present, float) and type(value) is int:
        value = float(value)
    if isinstance(present, tuple) and isinstance(value, list):
        value = tuple(value)
    if present is not None and type(value) is not type(present):
        raise SettingError(f"{name}={text}: must be a {type(present).__name__} like {present!r}")
    return value


def plain(config: Any) -> Any:
    """A config as JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def params_hash(params: Any) -> str:
    """First 16 hex digits of the SHA-256 of names, dtypes, shapes and values of a parameter tree."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(params)):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what computes the numbers, the device, and the source revision where git knows it."""
    found = {"python": platform.python_version(), "device": jax.devices()[0].device_kind}
    for package in ("jaxtrack", "jax", "jaxlib", "flax", "numpy", "opencv-python"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed as a package"
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        revision = ""
    return {**found, "revision": revision or "unknown"}
