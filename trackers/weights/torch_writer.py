"""Numpy arrays -> a PyTorch checkpoint, without PyTorch: the zip archive that `torch.load` reads.

Inside is a pickle of a dict of tensors, of the calls and classes alone that `torch.load(weights_only=True)` allows.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping

import numpy as np

from trackers.weights.torch_reader import STORAGE_DTYPES

_STORAGES = {dtype: name for name, dtype in STORAGE_DTYPES.items()}
_DATE = (1980, 1, 1, 0, 0, 0)  # of the members of the archive: the same tensors give the same bytes


def torch_file(state: Mapping[str, np.ndarray]) -> bytes:
    """What `torch.save` would write of a state dict; ValueError for a dtype that PyTorch does not have."""
    buffer, storages = io.BytesIO(), [np.asarray(value, order="C") for value in state.values()]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        members = {"data.pkl": _pickle(dict(zip(state, storages))), "byteorder": b"little"}
        members |= {f"data/{key}": storage.tobytes() for key, storage in enumerate(storages)}
        for name, content in {**members, "version": b"3\n"}.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", _DATE), content)
    return buffer.getvalue()


def _pickle(state: Mapping[str, np.ndarray]) -> bytes:
    """A dict of calls of PyTorch's own function that makes a tensor of a numbered storage."""
    items = [_text(name) + _tensor(str(key), value) for key, (name, value) in enumerate(state.items())]
    body = [pickle.EMPTY_DICT, pickle.MARK, *items, pickle.SETITEMS, pickle.STOP]
    return pickle.PROTO + b"\x02" + b"".join(body)


def _tensor(key: str, value: np.ndarray) -> bytes:
    if value.dtype not in _STORAGES:
        raise ValueError(f"PyTorch has no tensors of {value.dtype}")
    storage = [_text("storage"), _global("torch", _STORAGES[value.dtype]), _text(key), _text("cpu"), _int(value.size)]
    strides = (stride // value.itemsize for stride in value.strides)
    no_hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = [
        *(_tuple(storage) + pickle.BINPERSID, _int(0), _tuple(map(_int, value.shape)), _tuple(map(_int, strides))),
        *(pickle.NEWFALSE, no_hooks),
    ]
    return _global("torch._utils", "_rebuild_tensor_v2") + _tuple(arguments) + pickle.REDUCE


def _tuple(parts: Iterable[bytes]) -> bytes:
    return pickle.MARK + b"".join(parts) + pickle.TUPLE


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _int(number: int) -> bytes:
    return pickle.BININT + struct.pack("<i", number)


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
