"""Checkpoints of PyTorch, .npz and .safetensors -> numpy arrays, without PyTorch, running nothing that is in them.

Both layouts of `torch.save` are read: the zip archive (PyTorch >= 1.6) and the sequence of pickles before
it. A pickle may name any callable; here a handful of names have a meaning and every other becomes an
inert stand-in that does nothing.
"""

import collections
import math
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from trackers.weights import WeightsError

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
STORAGE_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
SAFETENSORS_DTYPES = {
    **{"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": _BFLOAT16},
    **{"I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1")},
    **{"U8": np.dtype("u1"), "BOOL": np.dtype("?")},
}


def is_safetensors(path: str | Path) -> bool:
    """Whether a file is, or calls itself, one of safetensors; OSError where it cannot be read."""
    with open(path, "rb") as file:
        return _starts_as_safetensors(file) or Path(path).suffix == ".safetensors"


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Tensors by name, in the layout of the file; a leading `module.` of every name is removed.

    The state dict is looked for at the top of the file's object, under "net" (pytracking) and
    "state_dict" (pysot).
    Raises `WeightsError`, one line that names the file, if there is none to be read.
    """
    try:
        with open(path, "rb") as file:
            state = _find_state_dict(_read(file))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    except Exception as error:  # a hostile or damaged pickle can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: damaged or not a checkpoint: {reason:.200}") from error
    strange = [name for name, value in state.items() if value.dtype.kind not in "biuf" and value.dtype != _BFLOAT16]
    if strange:
        raise WeightsError(f"{path}: {strange[0]} holds {state[strange[0]].dtype}, not real numbers")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def _read(file) -> Any:
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if pickles:
                return _read_zip(archive, pickles[0])
        if names and all(name.endswith(".npy") for name in names):
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        raise WeightsError("a zip file, but neither a PyTorch checkpoint nor an .npz of arrays")
    if _starts_as_safetensors(file):
        return _read_safetensors(file)
    file.seek(0)
    start = file.read(2)
    if start == b"PK":
        raise WeightsError("a zip archive without its end: the file is truncated")
    if start[:1] != b"\x80":
        raise WeightsError("not a PyTorch checkpoint and not an .npz or safetensors state dict")
    file.seek(0)
    return _read_legacy(file)


def _starts_as_safetensors(file) -> bool:
    """A length in 8 bytes, then JSON; no other container has a brace there."""
    file.seek(0)
    return file.read(9)[8:] == b"{"


def _read_safetensors(file) -> dict[str, np.ndarray]:
    file.seek(0)
    state = {}
    for name, tensor in safetensors.deserialize(file.read()):
        dtype = SAFETENSORS_DTYPES.get(tensor["dtype"])
        if dtype is None:
            raise WeightsError(f"{name} holds {tensor['dtype']}, not real numbers")
        state[name] = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
    return state


def _read_zip(archive: zipfile.ZipFile, pickle_name: str) -> Any:
    root = pickle_name.removesuffix("data.pkl")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise WeightsError("its numbers are stored big-endian, which is not supported")
    storages: dict[str, _Storage] = {}
    with archive.open(pickle_name) as stream:
        content = _Unpickler(stream, storages).load()
    for key, storage in storages.items():
        size = storage.count * storage.dtype.itemsize
        member = archive.getinfo(f"{root}data/{key}")
        if member.file_size != size:
            raise WeightsError(f"storage {key} holds {member.file_size} bytes instead of {size}")
        storage.data.append(np.frombuffer(archive.read(member), storage.dtype))
    return _materialize(content)


def _read_legacy(file) -> Any:
    storages: dict[str, _Storage] = {}
    magic = _Unpickler(file, storages).load()
    if magic != LEGACY_MAGIC:
        raise WeightsError("a pickle, but not of torch.save")
    _Unpickler(file, storages).load()  # protocol version
    system = _Unpickler(file, storages).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise WeightsError("its numbers are stored big-endian, which is not supported")
    content = _Unpickler(file, storages).load()
    for key in _Unpickler(file, storages).load():
        storage = storages[key]
        (count,) = struct.unpack("<q", file.read(8))
        size = storage.count * storage.dtype.itemsize
        data = file.read(size)
        if count != storage.count or len(data) != size:
            raise WeightsError(f"storage {key} is incomplete: the file is truncated or damaged")
        storage.data.append(np.frombuffer(data, storage.dtype))
    return _materialize(content)


class _Storage(NamedTuple):
    """A flat buffer; `data` receives its one array after the pickle has been read."""

    dtype: np.dtype
    count: int
    data: list


class _Tensor(NamedTuple):
    """A strided view of a storage, in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Inert:
    """Stands for every class and function that means nothing here; accepts whatever a pickle does to it."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        self.contents = None

    def __call__(self, *args, **kwargs):
        return _Inert()

    def __setstate__(self, state):
        self.contents = None

    def __setitem__(self, key, value):
        self.contents = None

    def append(self, item):
        self.contents = None

    extend = append
    add = append


class _Unpickler(pickle.Unpickler):
    """Knows OrderedDict, the tensor constructors and the storage types of PyTorch, and nothing else."""

    def __init__(self, file, storages: dict[str, _Storage]):
        super().__init__(file, encoding="latin1")  # Python 2 wrote byte strings
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils":
            return {
                "_rebuild_tensor": _Tensor,
                "_rebuild_tensor_v2": lambda storage, offset, shape, strides, *_: _Tensor(
                    storage, offset, shape, strides
                ),
                "_rebuild_parameter": lambda tensor, *_: tensor,
                "_rebuild_parameter_with_state": lambda tensor, *_: tensor,
            }.get(name, _Inert)
        if module in ("torch", "torch.cuda") and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        return _Inert

    def persistent_load(self, reference: Any) -> _Storage:
        kind, dtype, key, _, count, *view = reference
        if kind != "storage" or not isinstance(dtype, np.dtype) or count < 0:
            raise WeightsError(f"a storage of an unknown kind: {reference!r:.80}")
        if any(part is not None for part in view):
            raise WeightsError("storages that are views of each other are not supported")
        storage = self.storages.setdefault(key, _Storage(dtype, count, []))
        if (storage.dtype, storage.count) != (dtype, count):
            raise WeightsError(f"storage {key} is described in two ways")
        return storage


def _materialize(content: Any) -> Any:
    """Tensors -> read-only arrays, in nested dicts only: nothing else can hold a state dict."""
    if isinstance(content, _Tensor):
        return _as_array(content)
    if isinstance(content, dict):
        return {key: _materialize(value) for key, value in content.items()}
    return content


def _as_array(tensor: _Tensor) -> np.ndarray:
    storage, offset, shape, strides = tensor
    (data,) = storage.data
    if len(shape) != len(strides) or offset < 0 or any(n < 0 for n in (*shape, *strides)):
        raise WeightsError(f"a tensor with impossible shape {shape}, strides {strides}")
    if math.prod(shape) == 0:
        return np.zeros(shape, data.dtype)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
    if last >= data.size:
        raise WeightsError(f"a tensor of shape {shape} reaches beyond its storage")
    steps = [stride * data.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(data[offset:], shape, steps, writeable=False)


def _find_state_dict(content: Any) -> dict[str, np.ndarray]:
    if isinstance(content, dict):
        candidates = (content, content.get("net"), content.get("state_dict"))
        for candidate in candidates:
            if isinstance(candidate, dict) and candidate:
                if all(isinstance(value, np.ndarray) for value in candidate.values()):
                    return {str(name): value for name, value in candidate.items()}
    raise WeightsError("holds no state dict (names -> tensors) at its top, under 'net' or under 'state_dict'")
