"""Layers of our networks in PyTorch, with our parameters, and the process in which `eval.benchmark --torch` times them.

As in the reference implementations, batch normalization and activation are separate layers; channels come first, as
there, or last, which is faster for some. PyTorch is imported only when it is asked for, and timed in a separate
process: beside JAX in one process it is slower.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from eval.command import keep_freed_memory
from eval.files import ResultError
from trackers.nets import resnet

Tensor = Any
Variables = Any  # of one part, as nested dicts of tensors
LAYOUTS = ("channels first", "channels last")


@contextmanager
def timed(
    make: Callable[..., dict[str, Callable[[], Any]]], names: Iterable[str], *arguments: Any
) -> Iterator[dict[str, Callable[[], float]]]:
    """A function for each of `names` that makes that call of `make(*arguments)` in another process: its seconds.

    make: of a module, so that the process finds it. arguments: without arrays of JAX.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make, *arguments), daemon=True)
    process.start()
    theirs.close()

    def ask(name: str) -> float:
        try:
            ours.send(name)
            return ours.recv()
        except (EOFError, OSError) as error:
            raise ResultError("the process of PyTorch has ended; its own message is above") from error

    try:
        yield {name: lambda name=name: ask(name) for name in names}
    finally:
        ours.close()
        process.join()


def _serve(connection: Any, make: Callable[..., dict[str, Callable[[], Any]]], *arguments: Any) -> None:
    """Runs what `timed` asks for until it closes the connection."""
    keep_freed_memory(threads=True)  # PyTorch works in threads of its own
    calls = make(*arguments)
    while True:
        try:
            call = calls[connection.recv()]
        except EOFError:
            return
        start = time.perf_counter()
        call()
        connection.send(time.perf_counter() - start)


def tensors(variables: Any, layout: str) -> Variables:
    """Convolution kernels `[h, w, C, D]` become `[D, C, h, w]`, matrices `[C, D]` become `[D, C]`."""
    import torch

    def one(leaf):
        array = np.array(leaf)
        if array.ndim == 4:
            return laid_out(torch.from_numpy(array.transpose(3, 2, 0, 1)), layout)
        return torch.from_numpy(array.T.copy())

    return jax.tree.map(one, variables)


def images(array: np.ndarray, layout: str) -> Tensor:
    """`[N, H, W, C]` becomes `[N, C, H, W]`."""
    import torch

    return laid_out(torch.from_numpy(np.moveaxis(array, 3, 1)), layout)


def laid_out(tensor: Tensor, layout: str) -> Tensor:
    """The tensor `[N, C, H, W]` in one of `LAYOUTS`."""
    import torch

    last = layout == "channels last"
    return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def conv(x, variables, name, stride=1, padding=0, dilation=1, groups=1):
    from torch.nn.functional import conv2d

    layer = at(variables["params"], name)
    return conv2d(x, layer["kernel"], layer.get("bias"), stride, padding, dilation, groups)


def norm(x, variables, name, epsilon=resnet.BATCH_NORM_EPSILON):
    from torch.nn.functional import batch_norm

    kept, learned = (at(variables[collection], name) for collection in ("batch_stats", "params"))
    return batch_norm(x, kept["mean"], kept["var"], learned["scale"], learned["bias"], eps=epsilon)


def at(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree
