"""Reading JSON of unknown origin: what is missing or of another kind is a ValueError that names the place."""

import json
from typing import Any

import numpy as np


def load(text: str) -> dict[str, Any]:
    whole = json.loads(text)
    if not isinstance(whole, dict):
        raise ValueError(f"an object is needed, not {type(whole).__name__}")
    return whole


def listed(whole: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    """(place, object) of each entry of the list `key`; none where there is no such list."""
    entries = whole.get(key, [])
    if not isinstance(entries, list):
        raise ValueError(f"{key}: must be a list")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{key}[{number}]: must be an object")
    return [(f"{key}[{number}]", entry) for number, entry in enumerate(entries)]


def whole_number(entry: dict[str, Any], place: str, *keys: str) -> int:
    """The first of `keys` that is there."""
    value = next((entry[key] for key in keys if entry.get(key) is not None), None)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(f"{place}: {' or '.join(keys)} must be a whole number, not {value!s:.40}")
    return int(value)


def number(value: Any, place: str) -> float:
    """nan for null."""
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(float(value)):
        raise ValueError(f"{place}: {value!s:.40} is not a finite number")
    return float(value)


def box(value: Any, place: str) -> list[float]:
    if not isinstance(value, list) or len(value) != 4 or None in value:
        raise ValueError(f"{place}: {value!s:.40} is not a box [x, y, w, h]")
    return [number(one, place) for one in value]


def size(entry: dict[str, Any], place: str) -> tuple[int, int] | None:
    """width, height where both are there."""
    if entry.get("width") is None or entry.get("height") is None:
        return None
    return whole_number(entry, place, "width"), whole_number(entry, place, "height")


def labels(whole: dict[str, Any]) -> dict[int, str]:
    """Category id -> name."""
    return {whole_number(one, place, "id"): str(one.get("name", "")) for place, one in listed(whole, "categories")}
