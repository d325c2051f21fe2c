"""The golden (oracle) numbers: where they lie, what they were made from, how far a test may be off.

`GOLDEN_DIR` names another directory of the same form (set.json, *.npz, metrics.json). Set but missing is a
failure. Schemas, `formula.py` and `optimisers.json` are the same for every set and always come from tests/golden.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.golden import formula
from tests.helpers import places

HERE = places.GOLDEN


def golden_dir() -> Path:
    named = os.environ.get("GOLDEN_DIR")
    if not named:
        return HERE
    path = Path(named)
    if not (path / "set.json").is_file():
        raise FileNotFoundError(f"GOLDEN_DIR={named} holds no set.json")
    return path


@lru_cache
def settings() -> dict:
    """set.json: the salt, and the counts and sizes of every array's input."""
    return json.loads((golden_dir() / "set.json").read_text())


def salt() -> str:
    return settings()["salt"]


@lru_cache
def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(golden_dir() / f"{name}.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@lru_cache
def schema(model: str):
    return formula.load_schema(str(HERE / "schemas" / f"{model}.tsv"))


@lru_cache(maxsize=1)  # up to 360 MB
def weights(model: str) -> dict[str, np.ndarray]:
    """The reference's state dict of `model`, every tensor from its formula (torch layout)."""
    return formula.weights(schema(model), salt(), model)


def float32_deviation(name: str, key: str) -> float:
    """The reference's own float32 deviation of one array (column f32dev of STATS.md), 0 where none is stated."""
    stats = golden_dir() / "STATS.md"
    if not stats.is_file():
        return 0.0
    section = re.search(rf"^## {re.escape(name)}\.npz.*?(?=^## |\Z)", stats.read_text(), re.M | re.S)
    row = section and re.search(rf"^\| {re.escape(key)} \|.*\| *([0-9.e+-]*) *\|$", section.group(0), re.M)
    return float(row.group(1)) if row and row.group(1) else 0.0


def relative_l2(actual, expected) -> float:
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))


def assert_golden(actual, name: str, key: str, *, relative: float) -> None:
    """`actual`, in the oracle's layout, equals array `key` of file `name` to `relative` (relative L2 norm).

    A stored slice is compared with the same slice of `actual`; the statistics of the full tensor are checked too.
    """
    stored = arrays(name)
    actual = np.asarray(actual)
    expected = stored[key]
    if f"{key}__shape" in stored:
        assert actual.shape == tuple(stored[f"{key}__shape"]), (key, actual.shape, stored[f"{key}__shape"])
        norm = np.linalg.norm(actual.astype(np.float64))
        if f"{key}__stats" in stored:
            np.testing.assert_allclose(norm, stored[f"{key}__stats"][2], rtol=relative)
        actual = actual[tuple(slice(None, None, int(step)) for step in stored[f"{key}__stride"])]
    assert actual.shape == expected.shape, (key, actual.shape, expected.shape)
    error = relative_l2(actual, expected)
    assert error <= relative, f"{name}/{key}: relative L2 error {error:.3g} > {relative:.3g}"
