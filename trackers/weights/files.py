"""Parameters <-> safetensors files: strict names, shapes and dtypes, atomic writes, metadata as JSON."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open

from trackers.weights import WeightsError
from trackers.weights.atomic import replace_file

Params = Any

FORMAT = "jaxtrack-1"


def save(
    path: str | Path, params: Params, *, model: str, info: dict[str, Any] | None = None, half: bool = False
) -> None:
    """Write `params` to `path`; a reader sees the old file or the whole new one, never a part.

    params: nested dict of arrays. model: what they are for, e.g. "dimp18". info: anything JSON can hold,
    e.g. the configuration, the source's sha256, the dropped keys. `read_metadata` gives both back.
    half: kernels (float32 of two axes or more) are stored as float16, see `_halved`; all that is small and sensitive
    (biases, statistics of batch normalization, learned numbers of an optimizer) stays as it is.
    Raises `WeightsError` if the file cannot be written and, with `half`, if a tensor is not finite or beyond float16.
    """
    tensors = {name: np.asarray(value, order="C") for name, value in _flatten(params).items()}
    if half:
        tensors = {name: _halved(path, name, value) for name, value in tensors.items()}
    versions = {package: version(package) for package in ("jax", "flax", "numpy", "safetensors")}
    digests = {name: _digest(value) for name, value in tensors.items()}  # of the bytes that are stored
    metadata = {"model": model, "versions": versions, "info": info or {}, "sha256": digests}
    text = json.dumps(metadata, sort_keys=True)  # one key: the order of several is random in the file
    write_atomically(Path(path), safetensors.numpy.save(tensors, metadata={FORMAT: text}))


def load(path: str | Path, expected: Params | None) -> Params:
    """The parameters in `path` as float32 (or whatever is expected) numpy arrays; float16 is read as float32.

    expected: nested dict of anything with shape and dtype, e.g. `trackers.nets.models.expected_variables`, which traces
    the networks for a second; None: what the file says of itself, for those that come with the package.
    Raises `WeightsError`, one line that names the file: unreadable, not written by `save`, damaged (every
    tensor has a checksum), or not exactly the expected tensors (missing, unexpected and misshapen ones are
    listed).
    """
    digests = read_metadata(path)["sha256"]
    with _open(path) as archive:
        found = set(archive.keys())
        wanted = dict.fromkeys(digests) if expected is None else _flatten(expected)
        there = sorted(set(wanted) & found)
        problems = {
            "missing": sorted(set(wanted) - found),
            "unexpected": sorted(found - set(wanted)),
            "wrong": [_difference(archive, name, wanted[name]) for name in there if wanted[name] is not None],
        }
        raise_problems(path, problems)
        tensors = {name: archive.get_tensor(name) for name in wanted}
    damaged = sorted(name for name, value in tensors.items() if _digest(value) != digests.get(name))
    if damaged:
        raise WeightsError(f"{path}: damaged, the checksum is wrong of {_listed(damaged)}")

    def dtype(name: str) -> np.dtype:
        return np.result_type(tensors[name], np.float32) if expected is None else wanted[name].dtype

    return unflatten_dict({tuple(name.split("/")): np.asarray(tensors[name], dtype(name)) for name in wanted})


def tree_digest(path: str | Path) -> str:
    """Of the names, shapes and dtypes of the tensors in `path`, float16 as float32; `digest_of` is that of a tree."""
    with _open(path) as archive:
        slices = {name: archive.get_slice(name) for name in archive.keys()}
        found = {name: (one.get_dtype().replace("F16", "F32"), one.get_shape()) for name, one in slices.items()}
    return _listing_digest(found)


def digest_of(expected: Params) -> str:
    """`tree_digest` of a file that holds exactly the tree `expected`, of anything with shape and dtype."""
    leaves = _flatten(expected).items()
    return _listing_digest({name: (_DTYPE_NAMES[np.dtype(leaf.dtype)], leaf.shape) for name, leaf in leaves})


def _listing_digest(tensors: dict[str, tuple[str, Any]]) -> str:
    lines = (f"{name} {dtype} {list(shape)}\n" for name, (dtype, shape) in sorted(tensors.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_metadata(path: str | Path) -> dict[str, Any]:
    """{"model", "versions", "info", "sha256"} of a file of `save`; sha256: tensor name -> digest of its bytes.

    Raises `WeightsError`.
    """
    metadata = plain_metadata(path)
    if FORMAT not in metadata:
        raise WeightsError(f"{path}: a safetensors file, but not of this project; use eval.convert")
    try:
        content = json.loads(metadata[FORMAT])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged, its metadata are not JSON: {error}") from error
    kinds = {"model": str, "versions": dict, "info": dict, "sha256": dict}
    found = content if isinstance(content, dict) else {}
    wrong = [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]
    if wrong:
        raise WeightsError(f"{path}: damaged, its metadata have no {' and no '.join(wrong)}")
    return content


def plain_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of any safetensors file, as they stand there; `WeightsError` where it is none."""
    with _open(path) as archive:
        return archive.metadata() or {}


@contextmanager
def metadata_of(path: str | Path) -> Iterator[None]:
    """For a block that looks into the metadata of `path`: WeightsError where they do not have what it looks for."""
    try:
        yield
    except WeightsError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise WeightsError(f"{path}: its metadata are damaged, or of another program: {reason}") from error


def digests(params: Params) -> dict[str, str]:
    """Tensor name -> SHA-256 of its bytes, as `save` stores them without `half`."""
    return {name: _digest(np.asarray(value)) for name, value in _flatten(params).items()}


def raise_problems(path: str | Path, problems: dict[str, list[str]]) -> None:
    """Raise one `WeightsError` that lists all `problems` (kind -> tensors), if there are any."""
    found = {kind: [name for name in names if name] for kind, names in problems.items()}
    found = [f"{kind}: {_listed(names)}" for kind, names in found.items() if names]
    if found:
        raise WeightsError(f"{path}: tensors differ from the model's; " + "; ".join(found))


def sha256(path: str | Path) -> str:
    """Hexadecimal digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """`replace_file`; raises `WeightsError` if that fails."""
    try:
        replace_file(path, data)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written: {error.strerror}") from error


def _halved(path: str | Path, name: str, value: np.ndarray) -> np.ndarray:
    """A kernel in float16 unless that costs more than half a unit in the last place of its largest entry.

    So an entry is off by at most 2^-11 of itself or, below 2^-14, by 2^-25; a kernel of nothing else but such small
    entries stays in float32.
    """
    if value.dtype != np.float32:
        return value
    if not np.isfinite(value).all():
        raise WeightsError(f"{path}: {name} is not finite")
    if value.ndim < 2:
        return value
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise WeightsError(f"{path}: {name} is too large for half precision: {np.abs(value).max():.3g}")
    error = np.abs(half - value).max(initial=0)
    return half if error <= 2.0**-11 * np.abs(value).max(initial=0) else value


def _digest(value: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()


def _listed(names: list[str], limit: int = 12) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def _open(path: str | Path):
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a safetensors file, or damaged: {error}") from error


def _difference(archive, name: str, expected) -> str:
    tensor = archive.get_slice(name)
    shape, dtype = tuple(tensor.get_shape()), tensor.get_dtype()
    wanted = _DTYPE_NAMES[np.dtype(expected.dtype)]
    if shape == tuple(expected.shape) and (dtype == wanted or (dtype, wanted) == ("F16", "F32")):
        return ""
    return f"{name} is {dtype}{list(shape)} instead of {wanted}{list(expected.shape)}"


def _flatten(params: Params) -> dict[str, Any]:
    return {"/".join(path): leaf for path, leaf in flatten_dict(params).items()}


_DTYPE_NAMES = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64", np.dtype(np.int32): "I32"}
