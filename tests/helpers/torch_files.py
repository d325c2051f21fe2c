"""PyTorch checkpoints in both layouts of `torch.save`, written by a few lines of plain Python."""

import collections
import contextlib
import io
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trackers.weights.torch_reader import LEGACY_MAGIC

LAYOUTS = ("zip", "legacy")


@contextlib.contextmanager
def writer(path: Path) -> Iterator["Writer"]:
    """Writes to `path`; modules with PyTorch's names exist while it is in use."""
    modules = {name: types.ModuleType(name) for name in ("torch", "torch._utils", "torch.cuda", "dlframework")}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
            if name in ("torch", "torch.cuda"):
                for storage in STORAGES.values():
                    setattr(module, storage, type(storage, (), {"__module__": name, "__qualname__": storage}))
        for function in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            _define(modules["torch._utils"], function, types.FunctionType((lambda: None).__code__, {}, function))
        _define(modules["dlframework"], "Alien", type("Alien", (), {}))
        _define(modules["dlframework"], "AlienDict", type("AlienDict", (dict,), {}))
        yield Writer(path, modules)


STORAGES = {
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(np.int64): "LongStorage",
    np.dtype(bool): "BoolStorage",
}


class _Storage:
    def __init__(self, array, key, kind):
        self.array, self.key, self.kind = array, key, kind


class _Reduced:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments, array=None):
        self.function, self.arguments, self.array = function, arguments, array

    def __reduce__(self):
        return self.function, self.arguments


class Writer:
    def __init__(self, path, modules):
        self.path, self.modules, self.storages = path, modules, {}

    def storage(self, array, module="torch"):
        kind = getattr(self.modules[module], STORAGES[array.dtype])
        storage = _Storage(np.ascontiguousarray(array).reshape(-1), str(len(self.storages)), kind)
        self.storages[storage.key] = storage
        return storage

    def tensor(self, array, module="torch"):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return self.view(self.storage(array, module), 0, array.shape, strides)

    def view(self, storage, offset, shape, strides, check=True):
        rebuild = self.modules["torch._utils"]._rebuild_tensor_v2
        array = None
        if check:
            steps = [stride * storage.array.itemsize for stride in strides]
            array = np.lib.stride_tricks.as_strided(storage.array[offset:], shape, steps)
        arguments = (storage, offset, shape, strides, False, collections.OrderedDict())
        return _Reduced(rebuild, *arguments, array=array)

    def parameter(self, array):
        tensor = self.tensor(array)
        rebuild = self.modules["torch._utils"]._rebuild_parameter
        return _Reduced(rebuild, tensor, True, collections.OrderedDict(), array=array)

    def state_dict(self, tensors):
        state = collections.OrderedDict(tensors)
        state._metadata = {"": {"version": 1}}
        return state

    def alien(self, attributes):
        alien = self.modules["dlframework"].Alien()
        alien.__dict__.update(attributes)
        return alien

    def alien_dict(self, items):
        return self.modules["dlframework"].AlienDict(items)

    def call(self, function, *arguments):
        return _Reduced(function, *arguments)

    def write(self, layout, content, python2=False):
        used = {}

        class Pickler(pickle._Pickler):
            def persistent_id(self, thing):
                if isinstance(thing, _Storage):
                    used[thing.key] = thing
                    view = () if layout == "zip" else (None,)
                    return ("storage", thing.kind, thing.key, "cpu", thing.array.size, *view)

            def save_str(self, text):
                data = text.encode("latin1")
                self.write(b"U" + bytes([len(data)]) + data)
                self.memoize(text)

            if python2:
                dispatch = pickle._Pickler.dispatch | {str: save_str}

        def dump(thing):
            stream = io.BytesIO()
            Pickler(stream, protocol=2).dump(thing)
            return stream.getvalue()

        data = dump(content)
        if layout == "zip":
            with zipfile.ZipFile(self.path, "w") as archive:
                archive.writestr("archive/data.pkl", data)
                archive.writestr("archive/byteorder", "little")
                for key, storage in used.items():
                    archive.writestr(f"archive/data/{key}", storage.array.tobytes())
        else:
            head = [dump(LEGACY_MAGIC), dump(1001), dump({"little_endian": True, "type_sizes": {}})]
            sizes_and_data = [struct.pack("<q", s.array.size) + s.array.tobytes() for s in used.values()]
            self.path.write_bytes(b"".join([*head, data, dump(list(used)), *sizes_and_data]))
        return self.path


def _define(module, name, thing):
    thing.__module__, thing.__qualname__ = module.__name__, name
    setattr(module, name, thing)
